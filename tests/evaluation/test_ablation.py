"""What a part of a method contributes: the mean over seeds, the test of it, and what every seed says."""

import numpy as np
import pandas as pd
import pytest

from datasets.catalog import DataError
from utils.evaluation.ablation import as_family, compare, mean_difference
from utils.evaluation.paired import corrected, paired_difference

GROUPS = [f"g{i:03}" for i in range(100)]


def predictions(right: np.ndarray, label: str = "a") -> pd.DataFrame:
    predicted = np.where(right, label, "other")
    return pd.DataFrame({"path": GROUPS, "label": label, "predicted": predicted, "group": GROUPS})


def first(count: int) -> np.ndarray:
    return np.arange(len(GROUPS)) < count


def runs_of(tables: dict[str, list[pd.DataFrame]]):
    """Runs of the form of `budgets`, and what gives their predictions."""
    runs = {
        name: {
            seed: {"id": f"{name}{seed}", "name": name, "seed": seed, "metrics": {"accuracy": {"value": 0}}}
            | {"training": {}}
            for seed in range(len(of_seeds))
        }
        for name, of_seeds in tables.items()
    }
    return runs, lambda record: tables[record["name"]][record["seed"]].sample(frac=1, random_state=record["seed"])


def test_a_difference_has_the_test_of_its_mean_and_what_each_seed_says():
    tables = [predictions(first(count)) for count in (68, 70)]
    references = [predictions(first(count)) for count in (60, 75)]
    found = mean_difference(tables, references)
    assert found["value"] == pytest.approx(0.015) and found["by_seed"] == [0.08, -0.05]
    one = mean_difference(tables[:1], references[:1])
    assert one == paired_difference(tables[0], references[0]) | {"by_seed": [0.08]}
    assert one["p"] == pytest.approx(2 / 2**8) and found["p"] > 0.1, "the second seed speaks against it"
    assert mean_difference([predictions(first(80), "b")], references[:1]) is None, "it was asked for other labels"


def test_differences_of_one_table_are_corrected_for_their_number():
    tables = {"s0": [predictions(first(60))], "s0-flat": [predictions(first(66))], "s0-fixed": [predictions(first(90))]}
    found = compare(*runs_of(tables), reference="s0")
    p = [found[name]["difference"]["p"] for name in ("s0-flat", "s0-fixed")]
    assert p[0] == pytest.approx(2 / 2**6) and p[1] < 0.001, "six images of six"
    assert [found[name]["difference"]["p_corrected"] for name in ("s0-flat", "s0-fixed")] == corrected(p).tolist()
    assert "p_corrected" not in found["s0"]["difference"], "the reference is compared with nothing"
    alone = compare(*runs_of({"s0": tables["s0"], "s0-flat": tables["s0-flat"]}), reference="s0")
    assert alone["s0-flat"]["difference"]["p_corrected"] == p[0], "one comparison is not corrected"
    assert as_family([]) == []


def test_runs_that_were_asked_for_other_labels_are_not_compared():
    tables = {"s0": [predictions(first(60))], "s0-flat": [predictions(first(60), "b")]}
    with pytest.raises(DataError, match="s0-flat0: its test images are not those of the runs beside it"):
        compare(*runs_of(tables), reference="s0")

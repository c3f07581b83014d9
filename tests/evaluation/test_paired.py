"""Paired comparisons of two models on the same images."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.paired import corrected, paired_difference


def predictions(right, groups):
    labels = ["a"] * len(right)
    return pd.DataFrame(
        {
            "path": [f"{i:03}" for i in range(len(right))],
            "label": labels,
            "predicted": np.where(right, "a", "b"),
            "group": groups,
        }
    )


def test_the_difference_is_taken_image_by_image_in_any_order():
    one, other = predictions([1, 1, 0, 1], list("wxyz")), predictions([1, 0, 0, 0], list("wxyz"))
    found = paired_difference(one.sample(frac=1, random_state=1), other)
    assert found["value"] == 0.5 and found["low"] <= 0.5 <= found["high"]
    assert found["p"] == pytest.approx(0.5), "of four ways to exchange two groups two are as far from 0"


def test_many_slices_of_few_patients_prove_little():
    right = np.repeat([1, 1, 1], 100)
    clustered = paired_difference(predictions(right, np.repeat(list("abc"), 100)), predictions(1 - right, "-" * 300))
    assert clustered["p"] == pytest.approx(0.25), "three patients can be exchanged in eight ways"
    alone = np.arange(300).astype(str)
    assert paired_difference(predictions(right, alone), predictions(1 - right, alone))["p"] < 0.001


def test_equal_models_do_not_differ():
    table = predictions([1, 0, 1], list("abc"))
    assert paired_difference(table, table) == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_other_images_are_not_compared():
    table = predictions([1, 0, 1], list("abc"))
    assert paired_difference(table, table.iloc[:2]) is None


def test_many_comparisons_are_corrected_for():
    assert corrected([0.01, 0.5]) == pytest.approx([0.03, 0.75])  # by hand: p · m · (1 + 1/2) / rank
    assert len(corrected([])) == 0

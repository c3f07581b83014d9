"""Tables of the committed runs are those of the snapshot; how runs are found, compared and written."""

import numpy as np
import pandas as pd
import pytest
from whole_records import whole

from datasets.catalog import REPO, DataError
from utils.evaluation.classification import by_scan, evaluate
from utils.evaluation.intervals import mean_interval
from utils.recipes.published import published_table
from utils.report.records import (
    HISTORY,
    METRICS,
    PREDICTIONS,
    VALIDATION,
    Evidence,
    load_evidence,
    write_predictions,
    write_record,
)
from utils.report.tables import BLOCKS
from utils.report.tables.audits import audits
from utils.report.tables.classification import by_relatives
from utils.report.tables.common import (
    budgets,
    class_summary,
    compare,
    find_run,
    format_ci,
    markdown,
    matching,
    of_scans,
    show,
)
from utils.report.tables.transfer import ensembles
from utils.run import Run

SNAPSHOT = REPO / "tests/golden/tables"
EMPTY = pd.DataFrame({"path": ["a"], "group": ["g"]})
IMAGES = [f"g{i:03}" for i in range(100)]
PROBE = {"model": "ResNet50-v2", "recipe": "probe", "pretrained": True, "image_size": 224, "task": "transfer"}


def entry(value, spread=0.05):
    return {"value": value, "low": max(0, value - spread), "high": value + spread}


def snapshot(name):
    """A table as the test below found it."""
    return pd.read_csv(SNAPSHOT / f"{name}.csv")


@pytest.mark.parametrize("name", BLOCKS)
def test_the_committed_runs_give_the_tables_of_the_snapshot(name):
    made = BLOCKS[name](load_evidence(REPO / "saved_metrics")).to_csv(index=False)
    assert made == (SNAPSHOT / f"{name}.csv").read_text(), f"a result changed; if it should, write {name}.csv anew"


def test_no_table_is_lost():
    assert set(BLOCKS) == {path.stem for path in SNAPSHOT.glob("*.csv")}


@pytest.mark.parametrize("name", BLOCKS)
def test_without_a_run_a_table_says_so(name, tmp_path):
    text = markdown(BLOCKS[name](load_evidence(tmp_path)))
    assert any(words in text for words in ("*not run yet*", "–", "not run here"))


@pytest.mark.parametrize(
    ("numbers", "how", "text"),
    [
        ((0.9712, 0.96, 0.98), {}, "97.1 (96.0–98.0)"),
        ((0.9712, 0.96, 0.98), {"percent": False}, "0.971 (0.960–0.980)"),
        ((12.34, 10, 15), {"percent": False, "digits": 1}, "12.3 (10.0–15.0)"),
        ((0.01, -0.02, 0.04), {"sign": True}, "+1.0 (-2.0 to +4.0)"),
        ((1.0, None, None), {}, "100.0"),
        ((None, None, None), {}, "–"),
        ((np.nan, np.nan, np.nan), {}, "–"),
    ],
)
def test_a_value_is_written_with_its_interval(numbers, how, text):
    assert format_ci(dict(zip(("value", "low", "high"), numbers, strict=True)), **how) == text


@pytest.fixture
def put(tmp_path):
    """Writes a run to an empty folder of evidence and returns what is in it so far."""

    def write(run: Run, table: pd.DataFrame, history: pd.DataFrame | None = None, **record) -> Evidence:
        validation = record.pop("validation", None)
        record = whole(run, **record)
        folder = tmp_path / run.task / run.dataset / run.id
        write_predictions(folder / PREDICTIONS, table)
        if validation is not None:
            write_predictions(folder / VALIDATION, validation)
        if history is not None:
            numbered = {"epoch": range(1, len(history) + 1), "seconds": 1.0}  # what every history has
            history.assign(**numbered).to_csv(folder / HISTORY, index=False)
        write_record(folder / METRICS, record)
        return load_evidence(tmp_path)

    return write


@pytest.fixture
def put_share(put):
    """Writes a run that answers a share of 100 images rightly; returns the evidence so far."""

    def write(share, paths=IMAGES, seed=0, validation=None, **of):
        right = np.arange(len(paths)) < round(share * len(paths))
        predicted = np.where(right, "glioma", "notumor")
        table = pd.DataFrame({"path": paths, "label": "glioma", "group": paths, "predicted": predicted})
        table["p_glioma"], table["p_notumor"] = right.astype(float), 1.0 - right
        run = Run(**{"dataset": "brain-tumor-mri", "split": "published", "seed": seed} | of)
        known = run.recipe not in ("probe", "none")
        facts = {"recipe": {"name": run.recipe, "epochs": 3} if known else None, "images": len(paths)}
        facts |= {"training": {"epochs": 3, "seconds": 60.0, "val_accuracy": validation or share} if known else None}
        return put(run, table, metrics={"accuracy": mean_interval(right, paths)}, **facts)

    return write


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_summary_says_what_an_accuracy_is_to_be_compared_with(collapsed):
    """A network that calls every image by the name of the commonest class is right on 76.9 %, as is that name."""
    label = np.repeat(["well", "sick"], [30, 9])
    predicted = np.full(39, "well") if collapsed else label
    table = pd.DataFrame({"label": label, "predicted": predicted, "group": range(39), "p_sick": 0.4, "p_well": 0.6})
    result = evaluate(table, ["sick", "well"], resamples=20)
    said = class_summary(result)
    assert "sick 9, well 30" in said and "always 'well' would be right on 76.9 %" in said
    assert f"balanced accuracy {50 if collapsed else 100}.0 " in said
    assert ("ONE CLASS ONLY, 'well'" in said) == collapsed


def test_a_run_is_found_among_those_of_full_size_on_stored_images_asked_for_their_label(put_share):
    of = {"model": "CustomCNN", "split": "patient"}
    put_share(0.9, image_size=64, **of), put_share(0.8, view="upright", **of), put_share(0.7, target="tumour", **of)
    evidence = put_share(0.5, model="1-NN", recipe="none", split="patient", image_size=64)
    assert find_run(evidence.runs, **of) is None and find_run(evidence.runs, **of, image_size=64).accuracy == 0.9
    assert find_run(evidence.runs, title="1-NN", split="patient").accuracy == 0.5, "a baseline has no size"
    runs = put_share(0.6, **of, fold=None).runs
    assert find_run(runs, **of) is None and find_run(runs, **of, fold=None).tested == "patient, all folds"
    assert len(matching(runs, fold=None)) == 1 and len(matching(runs, fold=0)) == 4


def test_a_spec_of_columns_makes_a_table(put_share):
    runs = put_share(0.5, model="1-NN", recipe="none").runs
    shown = show(runs, "set = dataset | seed | epochs | accuracy | share = accuracy. | TTA = tta.gain")
    interval = mean_interval(np.arange(100) < 50, IMAGES)
    row = ["brain-tumor-mri", 0, "–", format_ci(interval), format_ci(interval, percent=False), "–"]
    assert shown.columns.tolist() == ["set", "seed", "epochs", "accuracy", "share", "TTA"]
    assert shown.iloc[0].tolist() == row


def test_the_primary_hypotheses_have_their_rows_and_are_named():
    of = {"model": "ResNet50-v2", "recipe": "probe-first-turned, pretrained", "split": "patient, all folds"}
    tuned = matching(snapshot("paired"), **of, target="label")
    assert tuned["data set"].tolist() == ["brain-tumor-mri", "cheng", "sartaj"]
    assert len(snapshot("same_images")) > 10
    for place in ("README.md", "notebooks/8_results.ipynb"):
        assert "Two hypotheses are primary" in (REPO / place).read_text(), place


def test_methods_are_compared_with_one_budget_and_the_same_seeds(put_share):
    of = {"model": "MultiTaskUNet", "split": "patient", "n_filters": 8}
    for seed in (0, 1, 2):
        put_share(0.5, seed=seed, recipe="s0", **of)
    put_share(0.6, seed=0, recipe="s0-flat", **of), put_share(0.7, seed=1, recipe="s0-flat", **of)
    evidence = put_share(0.9, recipe="s0-fixed", **of | {"image_size": 64})
    (runs,) = budgets(matching(evidence.runs, task="multitask"), "s0")
    assert runs.recipe.tolist() == ["s0"] * 2 + ["s0-flat"] * 2 and runs.seed.tolist() == [0, 1, 0, 1]
    found = compare(evidence, runs, "s0").set_index("recipe")
    assert found.difference["s0"] is None and found.difference["s0-flat"].by_seed == (0.1, 0.2)
    assert found.gain["s0"] == "–" and found.gain["s0-flat"].startswith("+15.0 (")
    assert found.validation["s0-flat"] == "65.0" and found.seeds["s0-flat"] == [0.6, 0.7]
    evidence = put_share(0.7, seed=1, paths=IMAGES[1:], recipe="s0-flat", **of)
    with pytest.raises(DataError, match=r"s0-flat.*its test images are not those of the runs beside it; run it again"):
        compare(evidence, runs, "s0")


def test_no_sensitivity_elsewhere_stands_alone():
    for row in snapshot("external").itertuples():
        assert row.sensitivity == "–" or row.specificity != "–"


def test_an_ensemble_needs_the_validation_images_of_every_member(put):
    label = ["glioma", "notumor"] * 10
    table = pd.DataFrame({"path": [f"{i:02}" for i in range(20)], "label": label, "group": range(20)})
    tuned = PROBE | {"recipe": "probe-first-turned"}
    for strength, of in enumerate((tuned, PROBE, {"model": "CustomCNN"})):
        sure = 0.5 + 0.1 * (strength + 1)
        p = np.where(table.label == "glioma", sure, 1 - sure)
        made = table.assign(predicted=table.label, p_glioma=p, p_notumor=1 - p)
        run = Run(dataset="brain-tumor-mri", **of)
        recipe = None if of is PROBE else {"name": run.recipe}
        evidence = put(run, made, validation=made, metrics={"accuracy": entry(1.0)}, recipe=recipe)
        assert len(ensembles(evidence)) == (strength == 2)
    assert ensembles(evidence).gained[0].value == 0, "all members answer alike"
    member = find_run(evidence.runs, title="CustomCNN").id
    (evidence.path(member) / VALIDATION).unlink()
    write_record(evidence.path(member) / METRICS, evidence.record(member))
    assert ensembles(load_evidence(evidence.folders[0])).empty


def test_the_fourth_member_is_exploratory():
    found = ensembles(load_evidence(REPO / "saved_metrics"))
    assert found.exploratory.tolist() == [False, False, True, False, True]
    assert found.members.map(len).tolist() == [3, 3, 4, 3, 4]


def test_tumour_or_none_is_not_answered_by_a_network_of_all_classes(put):
    """S4's ResNet50 told tumour from none; a run of the same network that names 44 classes is another result."""
    run = Run(dataset="brain-tumor-44c", split="patient", model="ResNet50", recipe="s4", pretrained=True)
    evidence = put(run, EMPTY, metrics={"accuracy": entry(0.5)}, training={})
    shown = BLOCKS["reported"](evidence).set_index(["network", "split"])
    assert shown.loc[("ResNet50", "random, binary"), "ours, by patient %"] == "–"
    assert len(shown) == len(published_table().drop_duplicates(["source", "model", "dataset", "protocol"]))


def test_test_images_are_told_apart_by_where_their_relatives_were():
    """As an independent count from the committed split table and predictions: 98.5 % against 85.3 %."""
    evidence = load_evidence(REPO / "saved_metrics")
    run = find_run(evidence.runs, dataset="brain-tumor-mri", split="published", model="CustomCNN", recipe="s2")
    found = by_relatives(evidence, run)
    assert found.images.tolist() == [1166, 136, 9] and found.images.sum() == run.images
    assert [round(entry["value"], 3) for entry in found.accuracy[:2]] == [0.985, 0.853]
    assert found.accuracy["in training"]["low"] > found.accuracy["in validation alone"]["high"]


@pytest.mark.parametrize(("dataset", "slices", "scans"), [("cheng", 93.8, 95.7), ("brain-tumor-mri", 94.5, 96.2)])
def test_a_scan_has_one_answer_that_all_its_slices_give_together(dataset, slices, scans):
    """As counted by hand from the committed predictions: products of probabilities, patient by patient."""
    evidence = load_evidence(REPO / "saved_metrics")
    of = {"dataset": dataset, "split": "patient", "fold": None, "model": "ResNet50-v2", "recipe": "probe-first-turned"}
    run = find_run(evidence.runs, **of, image_size=224)
    table, right = evidence.predictions(run.id), 0
    for _, scan in table.groupby("group"):
        products = {name: np.prod(scan[name].to_numpy() ** (1 / len(scan))) for name in scan if name.startswith("p_")}
        right += (scan.label == max(products, key=products.get).removeprefix("p_")).sum()
    assert round(100 * run.accuracy, 1) == slices and round(100 * right / len(table), 1) == scans
    assert of_scans(table)["value"] == pytest.approx(right / len(table))
    assert set(by_scan(table).groupby("group").predicted.nunique()) == {1}


def test_a_leaderboard_is_sorted_by_what_is_found_in_new_images(tmp_path):
    for name, *rates in (("all", 1, 0, 1), ("half", 0.5, None, 0.9), ("good", 0.8, 0.9, 0.5)):
        found, spared, at_home = (None if one is None else {"value": one, "low": None, "high": None} for one in rates)
        record = {"new": {"navoneel": {"sensitivity": found, "specificity": spared, "auc": None}}, "relatives": {}}
        record |= {"home": {"metrics": {"accuracy": at_home}}, "trained_on": "all", "about": {}}
        record["verdict"] = [{"answer": "yes"}, {"answer": "no"}]
        write_record(tmp_path / f"audit/{name}.json", record)
    table = audits(load_evidence(tmp_path))
    assert table.model.tolist() == ["good", "all", "half"]
    assert table.iloc[0, 1:].tolist() == ["80.0", "90.0", "–", "50.0", "–", "all", "1 of 2", "–"]

"""What was split by earlier folds stands beside no baseline of the present ones, and no difference is taken to it."""

import numpy as np
import pandas as pd
import pytest
from intervals_of import interval

from utils.recipes.published import PROJECTS
from utils.report import claims, tables
from utils.report.claims.common import accuracy_difference
from utils.report.records import Evidence
from utils.report.tables.common import OLD_FOLDS, beside, find_run, same_folds
from utils.run import Run

EARLIER = {"data": {"folds": "0" * 12}}
IMAGES = [f"{i:02}" for i in range(40)]
HALF = interval(0.5, 0.4, 0.6)


@pytest.fixture
def put_run(put):
    """Puts a run that is right on the first `right` of forty images, on the present folds or on earlier ones."""

    def write(right: int, old: bool = False, **of: object) -> Evidence:
        run = Run(**{"dataset": "sartaj", "split": "patient", "fold": 0} | of)
        named = np.where(np.arange(40) < right, "glioma", "notumor")
        table = pd.DataFrame({"path": IMAGES, "label": "glioma", "group": IMAGES, "predicted": named})
        network = run.model not in ("1-NN", "majority") and run.recipe != "probe"
        share = right / 40
        metrics = {"accuracy": interval(share, share - 0.1, min(1, share + 0.1)), "macro_f1": HALF, "tumour_auc": HALF}
        made = {"name": run.recipe, "model_args": {}, "balance": "ema"}
        record = {"metrics": metrics, "images": 40, "trainable": 1}
        record |= {"training": {"epochs": 20, "val_accuracy": 0.5}, "recipe": made} if network else {}
        record |= {"folds": [share], "screening": {}, "anomaly": {"tumour": HALF}, "unseen": None, "outline": {}}
        return put(run, table, **record | (EARLIER if old else {}))

    return write


S0_NAME = "MultiTaskUNet"
S0 = {"model": S0_NAME, "recipe": "s0", "n_filters": 8, "image_size": 128}
PROBE = {"model": "ResNet50-v2", "recipe": "probe", "pretrained": True, "image_size": 224}
BASELINES = ({"model": "1-NN", "recipe": "none"}, {"model": "majority", "recipe": "none"}, PROBE)


def with_baselines(put_run, old: bool) -> Evidence:
    """S0's network by patient, on all folds, and the baselines of the present folds."""
    put_run(30, split="published", **S0)
    for which in BASELINES:
        put_run(20, split="published", **which)
        put_run(10, fold=None, **which)
        put_run(12, **which)
    return put_run(36, old, fold=None, **S0)


def reported(evidence: Evidence) -> pd.Series:
    """The row of S0's network on the published split of `sartaj`."""
    table = tables.BLOCKS["reported"](evidence).set_index(["network", "data set", "split"])
    return table.loc[("MultiTaskUNet", "sartaj", "published")]


def in_readme(evidence: Evidence) -> dict[str, str]:
    """The row of S0 in the README's table: `brain-tumor-mri`, cleaned by its rule."""
    rows = tables.BLOCKS["projects"](evidence).to_dict("records")
    (row,) = [row for row, project in zip(rows, PROJECTS, strict=True) if project.source == "s0"]
    return row


def test_only_runs_on_the_same_folds_are_compared():
    now, old = {"old_folds": False, "id": "a"}, {"old_folds": True, "id": "b"}
    assert same_folds(now, now) and same_folds(old, old) and not same_folds(now, old)
    assert beside(now, now) is now and beside(old, now) is None and beside(now, old) is None
    assert beside(None, now) is now and beside(now, None) is None


@pytest.mark.parametrize("old", [False, True])
def test_s0s_network_has_no_baseline_of_other_folds_and_waits_for_the_comparison(put_run, old):
    evidence = with_baselines(put_run, old)
    row = tables.BLOCKS["multitask"](evidence).set_index("split").loc["patient, all folds" + " †" * old]
    assert [row[name].split()[0] for name in ("1-NN", "linear probe")] == (["–"] * 2 if old else ["25.0"] * 2)
    by_patient, published = claims.multitask_by_split(evidence).splitlines()[2:4]
    assert ("against 1-NN +65.0 (" in by_patient) is not old and "against 1-NN +25.0 (" in published
    assert by_patient.endswith("the comparison with 1-NN waits for a run on the present folds") is old
    pair = [
        find_run(evidence.records, dataset="sartaj", split="patient", fold=None, model=m) for m in (S0_NAME, "1-NN")
    ]
    assert (accuracy_difference(evidence, *pair) is None) is old, "whatever sentence asks for it"


@pytest.mark.parametrize("old", [False, True])
def test_reported_results_take_no_difference_between_old_and_present_folds(put_run, old):
    evidence = with_baselines(put_run, old)
    row = reported(evidence)
    assert row["difference, points"] == ("–" if old else "+15.0")
    for name in ("linear probe", "1-NN", "majority"):
        same, patient = row[f"{name}, both %"].split(" / ")
        assert same.startswith("50.0 (") and patient.split()[0] == ("–" if old else "25.0"), name


@pytest.mark.parametrize(("fold", "expected"), [(None, "25.0"), (0, "30.0")])
def test_baselines_by_patient_are_those_of_the_fold_of_our_run(put_run, fold, expected):
    """All folds beside all folds, fold 0 beside fold 0, in the README's table and in that of every reported result."""
    for dataset, split in (("sartaj", "published"), ("brain-tumor-mri", "cleaned")):
        for which in BASELINES:
            put_run(20, dataset=dataset, split=split, **which)
            put_run(10, dataset=dataset, fold=None, **which)
            put_run(12, dataset=dataset, **which)
        put_run(30, dataset=dataset, split=split, **S0)
        evidence = put_run(36, dataset=dataset, fold=fold, **S0)
    for name in ("linear probe", "1-NN", "majority"):
        assert reported(evidence)[f"{name}, both %"].split(" / ")[1].split()[0] == expected, name
    for name in ("linear probe", "1-NN"):
        both = in_readme(evidence)[f"{name}, both"].split(" / ")
        assert [cell.split()[0] for cell in both] == ["50.0", expected], name
    readme = in_readme(put_run(36, old=True, dataset="brain-tumor-mri", fold=fold, **S0))
    assert readme["1-NN, both"].startswith("50.0") and readme["1-NN, both"].endswith(" / –")
    readme = in_readme(put_run(30, old=True, dataset="brain-tumor-mri", split="cleaned", **S0))
    assert readme["1-NN, both"] == "– / –" and "†" in readme["ours, same split"]


@pytest.mark.parametrize("old", [False, True])
def test_the_published_split_has_no_difference_to_earlier_folds(put_run, old):
    put_run(36, split="published", recipe="s2")
    table = tables.BLOCKS["headline"](put_run(20, old, fold=None, recipe="s2"))
    assert table["difference, points"].tolist() == ["–" if old else "-40.0"]
    assert table["lowest – highest fold"][0].endswith(OLD_FOLDS) is old


def test_pretrained_and_from_scratch_are_a_pair_on_the_same_folds_only(put_run):
    of = {"model": "SqueezeNet", "recipe": "ours", "image_size": 64}
    put_run(12, model="1-NN", recipe="none")
    put_run(20, old=True, pretrained=False, **of)
    evidence = put_run(30, pretrained=True, **of)
    assert tables.pretraining_pairs(evidence) == [] and claims.pretraining(evidence).endswith("not run yet.*")
    table = tables.pretraining_gain(put_run(30, old=True, pretrained=True, **of))
    assert table["gain by pretraining, points"][0].endswith(" †") and table["1-NN"].tolist() == ["–"]
    put_run(20, pretrained=False, **of)
    table = tables.pretraining_gain(put_run(30, pretrained=True, **of))
    assert "†" not in table["gain by pretraining, points"][0] and table["1-NN"][0].startswith("30.0")


def test_recipes_on_other_folds_are_on_another_budget(put_run):
    of = {"model": "SqueezeNet", "image_size": 64, "pretrained": True}
    for recipe in ("ours", "ours-frozen", "s1"):
        evidence = put_run(20, recipe=recipe, **of)
    evidence = put_run(5, old=True, recipe="s3", **of)
    assert tables.recipe_runs(evidence).recipe.tolist() == ["ours", "ours-frozen", "s1"]
    for recipe in ("ours", "ours-frozen"):
        evidence = put_run(5, old=True, recipe=recipe, **of | {"model": "MobileNetV2"})
    evidence = put_run(9, old=True, recipe="s1", **of | {"model": "MobileNetV2"})
    table = tables.recipe_runs(evidence).loc[lambda rows: rows.backbone.str.startswith("MobileNetV2")]
    assert table["validation %"].str.endswith(" †").all()
    assert table.set_index("recipe")["difference to ours, points"]["s1"].endswith(" †")


def test_the_nearest_neighbour_of_other_folds_stands_beside_no_probe_and_no_step(put_run):
    put_run(10, fold=None, model="1-NN", recipe="none")
    put_run(10, dataset="cheng", model="1-NN", recipe="none")
    of = {"dataset": "cheng", "model": "OutlineClassifier", "pretrained": True}
    for recipe in ("name-only", "with-masks"):
        evidence = put_run(20, old=True, recipe=recipe, **of)
    table = tables.localisation_runs(evidence)
    assert table["1-NN"].tolist() == ["–"] * 2 and table["validation %"].str.endswith(" †").all()
    assert table["minus name-only, points"][1].endswith(" †")
    assert tables.probe_runs(put_run(20, fold=None, **PROBE))["1-NN by patient"][0].startswith("25.0")
    assert tables.probe_runs(put_run(20, old=True, fold=None, **PROBE))["1-NN by patient"].tolist() == ["–"]


def test_an_ablation_on_earlier_folds_is_marked_in_every_cell(put_run):
    of = S0 | {"image_size": 64}
    put_run(20, old=True, **of)
    table = tables.BLOCKS["ablation"](put_run(30, old=True, **of | {"recipe": "s0-flat"}))
    assert table["validation %"].str.endswith(" †").all() and table["test accuracy %"].str.endswith(" †").all()
    assert table["difference to S0's, points"].str.endswith(" †").tolist() == [False, True]


def segmenter(put, recipe: str, validated: float, old: bool = False) -> Evidence:
    table = pd.DataFrame({"path": IMAGES, "patient": IMAGES, "group": IMAGES, "pixels": 1000, "tumour.tp": 50})
    table = table.assign(**{"tumour.fp": 10, "tumour.fn": 10, "tumour.hd95": 1.0})
    run = Run(dataset="cheng", split="patient", model="AttentionUNet", recipe=recipe, image_size=64, n_filters=16)
    made = {"name": recipe, "loss": "bce", "optimizer": "Adam", "augmentation": "none"}
    record = {"metrics": {"dice": HALF}, "training": {"val_dice": validated}, "recipe": made}
    return put(run, table, **record | (EARLIER if old else {}))


def test_steps_of_segmentation_on_earlier_folds_are_marked_and_sorted_apart(put):
    segmenter(put, "s2", 0.9, old=True)
    segmenter(put, "s2-dice", 0.3, old=True)
    segmenter(put, "s2-adamw", 0.4)
    evidence = segmenter(put, "s2-dice-adamw", 0.5)
    table = tables.BLOCKS["steps"](evidence)
    assert table["validation Dice %"].tolist() == ["30.0 †", "90.0 †", "40.0", "50.0"], "the best on present folds last"
    said = claims.dice_loss(segmenter(put, "s2", 0.2))
    assert "with Adam, the comparison waits for both on the present folds (validation Dice 20.0 and 30.0 † %)" in said
    assert "with AdamW, the validation Dice goes from 40.0 to 50.0 %" in said
    assert "95 % intervals, not corrected" in said

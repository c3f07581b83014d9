"""The network that outlines first: all folds together, against the best plain classifier, and on another data set."""

import numpy as np
import pandas as pd
import pytest

from datasets.catalog import DataError
from datasets.store.index import folds_digest
from utils.report import claims, tables
from utils.report.pooling import pool_folds
from utils.report.records import BEST_RECIPE, load_evidence
from utils.report.tables.ensemble import ensembles
from utils.run import Run

PROBE = {"model": "ResNet50-v2", "recipe": "probe", "pretrained": True, "image_size": 224}
STEPS = {"name-only": False, "with-masks": True, "from-outline": True}
TRAINED = {
    "training": {"epochs": 6, "seconds": 60.0, "val_accuracy": 0.9},
    "recipe": {"epochs": 6},
    "finished": "2026-01-01T00:00:00+00:00",
}


def entry(value: float) -> dict:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def scored(found: int, healthy: int = 2, threshold: float = 0.5) -> pd.DataFrame:
    """40 tumours, of which `found` have a score just above the threshold, and some healthy images."""
    names = [f"{i:02}" for i in range(40 + healthy)]
    label = np.array(["glioma"] * 40 + ["notumor"] * healthy)
    score = np.where(np.arange(40 + healthy) < found, threshold + 0.01, threshold - 0.01)
    return pd.DataFrame({"path": names, "label": label, "predicted": label, "group": names, "p_notumor": 1 - score})


@pytest.fixture
def elsewhere_tested(put):
    def write(recipe: str, found: int, seed: int = 0, threshold: float | None = 0.5, healthy: int = 2):
        run = Run(
            dataset="brain-tumor-mri",
            split="external",
            test_on="navoneel",
            model="OutlineClassifier",
            recipe=recipe,
            pretrained=True,
            seed=seed,
        )
        decided = {"tumour_or_none": {"threshold": threshold}, "metrics": {"accuracy": entry(0.6)}}
        return put(run, scored(found, healthy, threshold or 0.5), **TRAINED, **decided, outline={})

    return write


def test_tumours_are_counted_at_each_seed_s_own_threshold(elsewhere_tested):
    for seed, threshold in enumerate((0.3, 0.8)):
        elsewhere_tested("name-only", 20 + 4 * seed, seed, threshold)
        elsewhere_tested("with-masks", 10 + 4 * seed, seed, threshold)
        evidence = elsewhere_tested("from-outline", 21 + 4 * seed, seed, threshold)
    table = tables.tumours_elsewhere(evidence)
    assert table.step.tolist() == list(STEPS) and set(table["tested on"]) == {"navoneel"}
    assert table["by seed"].tolist() == ["50.0, 60.0", "25.0, 35.0", "52.5, 62.5"]
    assert table.sensitivity[0].startswith("55.0 (") and table["minus name-only, points"][0] == "–"
    assert table["minus name-only, points"][1].startswith("-25.0 (-")
    assert claims.localisation_steps(evidence).endswith("not run yet.*"), "tumour or none is another question"
    said = claims.outlines_elsewhere(evidence)
    assert "fewer are found with outlines as well and no difference is shown when named from the outline" in said
    assert "(paired test, p < 0.05 after correction for the number of comparisons; one sign for every seed):" in said
    assert "(50.0 to 60.0 over 2 seeds)" in said and "Of the test images 2 are healthy" in said
    assert "further than the steps" not in said, "the steps differ by 25 points, the seeds by 10"


def test_a_spread_of_seeds_beyond_that_of_the_steps_is_said(elsewhere_tested, put):
    for seed, found in enumerate((10, 30)):
        elsewhere_tested("name-only", found, seed)
        evidence = elsewhere_tested("from-outline", found + 8, seed)
    said = claims.outlines_elsewhere(evidence)
    assert "outlines are not shown to help, since seeds lie up to 50.0 points apart, further than the steps" in said
    assert "more are found" not in said and "of 70.0 to 70.0 %" not in said
    thresholds = {"tumour_or_none": {"specificity": entry(0.7)}, "metrics": {"accuracy": entry(0.6)}}
    home = {"dataset": "brain-tumor-mri", "split": "patient", "model": "OutlineClassifier", "recipe": "name-only"}
    at_home = put(Run(**home, pretrained=True), scored(20), **TRAINED, **thresholds, outline={})
    assert "chosen in the same way have a specificity of 70.0 to 70.0 %" in claims.outlines_elsewhere(at_home)


def test_more_tumours_are_found_only_where_every_seed_and_the_corrected_test_say_so(elsewhere_tested):
    """Five tumours of forty, at every seed: the interval lies above 0, and p is 2 / 2⁵."""
    elsewhere_tested("name-only", 20)
    evidence = elsewhere_tested("from-outline", 25)
    said = claims.outlines_elsewhere(evidence)
    assert "`navoneel`: no difference is shown when named from the outline" in said and "p = 0.062 after" in said
    for seed, found in enumerate((20, 21)):
        elsewhere_tested("name-only", found, seed)
        evidence = elsewhere_tested("from-outline", (38, 20)[seed], seed)
    said = claims.outlines_elsewhere(evidence)
    assert "points, not of one sign for every seed: no difference is shown" in said


def test_seeds_that_tested_other_images_are_refused(elsewhere_tested):
    for seed in (0, 1):
        elsewhere_tested("name-only", 20, seed)
        evidence = elsewhere_tested("from-outline", 20, seed, healthy=2 + seed)
    with pytest.raises(DataError, match="its seeds tested other images"):
        claims.outlines_elsewhere(evidence)


def test_without_a_threshold_nothing_is_said(elsewhere_tested):
    elsewhere_tested("name-only", 20, threshold=None)
    evidence = elsewhere_tested("from-outline", 30)
    assert claims.outlines_elsewhere(evidence).endswith("not run yet.*")
    assert tables.tumours_elsewhere(evidence).empty


@pytest.fixture
def all_folds(put, tmp_path):
    """The three steps and the best plain classifier on five folds of 20 patients each, pooled."""

    def named(right: int, fold: int, outline: bool) -> pd.DataFrame:
        names = [f"{fold}-{i:02}" for i in range(20)]
        table = pd.DataFrame({"path": names, "label": "glioma", "group": names, "patient": names})
        table["predicted"] = np.where(np.arange(20) < right, "glioma", "pituitary")
        chances = {f"p_{name}": 1.0 * (table.predicted == name) for name in ("glioma", "meningioma", "pituitary")}
        table = table.assign(**chances)
        measured = dict.fromkeys(("pointing", "near", "energy", "area", "near_area"), 1.0)
        return table.assign(tp=1.0 * right, fp=0.0, fn=0.0, found=0.1, **measured) if outline else table

    def write(best: int):
        data = {"data": {"folds": folds_digest("cheng")}}
        for fold in range(5):
            of = {"dataset": "cheng", "split": "patient", "fold": fold, "pretrained": True}
            for step, outline in STEPS.items():
                right = 15 + 2 * (step == "from-outline")
                run = Run(model="OutlineClassifier", recipe=step, **of)
                quality = {name: entry(0.5) for name in ("dice", "pointing")} if outline else {}
                metrics = {"accuracy": entry(right / 20)}
                put(run, named(right, fold, outline), **TRAINED, **data, outline=quality, metrics=metrics)
            run = Run(model="ResNet50-v2", recipe=BEST_RECIPE, image_size=224, **of)
            put(run, named(best, fold, False), **TRAINED, **data, metrics={"accuracy": entry(best / 20)})
        pool_folds(tmp_path, resamples=100)
        return load_evidence(tmp_path)

    return write


def test_all_folds_stand_for_their_parts(all_folds):
    evidence = all_folds(best=17)
    table = tables.localisation_runs(evidence)
    assert table.step.tolist() == list(STEPS) and set(table.split) == {"patient, all folds"}
    assert table.Dice.tolist() == ["–", *["100.0 (100.0–100.0)"] * 2], "from the pixels of the folds, not their means"
    assert table["minus name-only, points"][2].startswith("+10.0 (+") and set(table["validation %"]) == {"–"}
    said = claims.localisation_steps(evidence)
    assert "`cheng`, patient, all folds, 1 seed" in said and "patient fold" not in said


def test_the_best_plain_classifier_is_compared_on_all_folds(all_folds):
    assert "an interval that includes 0: no difference is shown" in claims.outline_against_best(all_folds(best=17))
    said = claims.outline_against_best(all_folds(best=20))
    assert "cheng`, patient, all folds: 85.0" in said and "-15.0 (-" in said and "no difference" not in said


def test_a_network_that_is_missing_on_a_fold_is_no_member_of_the_ensemble(put, tmp_path):
    def table(names: list[str], p: float) -> pd.DataFrame:
        chances = {"p_glioma": p, "p_meningioma": 1 - p, "p_pituitary": 0.0}
        predicted = "glioma" if p > 0.5 else "meningioma"
        return pd.DataFrame({"path": names, "label": "glioma", "group": names, "predicted": predicted}).assign(
            **chances
        )

    members = (
        {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "pretrained": True},
        PROBE,
        {"model": "CustomCNN", "recipe": "s2"},
        {"model": "OutlineClassifier", "recipe": "from-outline", "pretrained": True},
    )

    def write(which: dict, fold: int):
        run = Run(dataset="cheng", split="patient", fold=fold, **which)
        asked, validated = ([f"{fold}-{kind}-{i}" for i in range(20)] for kind in ("test", "val"))
        metrics = {"accuracy": entry(0.9)}
        put(run, table(asked, 0.9), validation=table(validated, 0.8), metrics=metrics, outline={}, **TRAINED)

    for fold in range(5):
        for which in members[: 3 + (fold < 4)]:
            write(which, fold)
    pool_folds(tmp_path, resamples=20)
    (found,) = ensembles(load_evidence(tmp_path))
    assert len(found["members"]) == 3 and {len(weights) for weights in found["weights"]} == {3}
    write(members[3], 4)
    pool_folds(tmp_path, resamples=20)
    (found,) = ensembles(load_evidence(tmp_path))
    assert len(found["members"]) == 4 and {len(weights) for weights in found["weights"]} == {4}

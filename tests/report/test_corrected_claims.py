"""A difference is stated where a corrected paired test shows it and every seed has its sign; the figure agrees."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from intervals_of import interval

from utils.evaluation.ablation import budgets, compare
from utils.evaluation.intervals import mean_interval
from utils.recipes.ours import LONGER
from utils.report import claims, figures
from utils.report.claims.common import direction, found_or_none, verdicts
from utils.report.records import BEST_RECIPE, Evidence
from utils.run import Run

IMAGES = [f"g{i:03}" for i in range(100)]
ABOVE = interval(0.05, 0.01, 0.1)
# Six images of a hundred that one network names rightly and the other does not: p = 2 / 2⁶, and the interval lies above
# 0. Beside two other comparisons the corrected p is above .05.
BASE, SIX_MORE = 60, 66
CORRECTED = "after correction: no difference is shown"


@pytest.fixture
def put_right(put):
    """Puts a run that names the first images of a hundred rightly, as many as are given."""

    def write(right: int, validated: float = 0.5, **of: object) -> Evidence:
        named = np.arange(len(IMAGES)) < right
        table = pd.DataFrame({"path": IMAGES, "label": "glioma", "group": IMAGES})
        table["predicted"] = np.where(named, "glioma", "notumor")
        run = Run(**{"dataset": "brain-tumor-mri", "split": "patient"} | of)
        trained = {"training": {"epochs": 8, "val_accuracy": validated}, "recipe": {"name": run.recipe}}
        metrics = {"accuracy": mean_interval(named, IMAGES)}
        return put(run, table, metrics=metrics, images=len(IMAGES), **trained | {"outline": {}})

    return write


@pytest.mark.parametrize(
    ("more", "shown", "words"),
    [
        ({}, 1, "points"),
        ({"p": 0.04}, 1, "points"),
        ({"p": 0.06}, 0, "points, p = 0.060: no difference is shown"),
        ({"p": 0.04, "p_corrected": 0.12}, 0, "points, p = 0.120 after correction: no difference is shown"),
        ({"p": 0.04, "p_corrected": 0.04, "by_seed": [0.01, 0.09]}, 1, "points"),
        ({"by_seed": [0.11, -0.01]}, 0, "points, not of one sign for every seed: no difference is shown"),
        ({"by_seed": [0.1, 0.0]}, 0, "points, not of one sign for every seed: no difference is shown"),
    ],
)
def test_a_difference_is_shown_by_its_interval_its_test_and_all_of_its_seeds(more, shown, words):
    found, below = ABOVE | more, interval(-0.05, -0.1, -0.01) | more
    assert direction(found) == shown and direction(below) == -shown
    assert found_or_none(found) == f"+5.0 (+1.0 to +10.0) {words}"
    (axis,) = figures.forest({"a": found}, "points").axes
    drawn = axis.containers[0].lines[0].get_color()
    plt.close("all")
    assert (drawn == figures.PUBLISHED_COLOUR) is (not shown), "grey where the sentence shows none"


def test_the_differences_of_one_sentence_are_corrected_together():
    alone, family = ABOVE | {"p": 0.03}, [ABOVE | {"p": 0.03}, None, ABOVE | {"p": 0.5}]
    assert verdicts([alone]) == ["+5.0 (+1.0 to +10.0) points"], "one is not corrected"
    first, missing, _ = verdicts(family)
    assert first.endswith(f"p = 0.090 {CORRECTED}") and "is not taken" in missing  # .03 · 2 · (1 + 1/2)


MULTITASK = {"model": "MultiTaskUNet", "n_filters": 8, "image_size": 64}


def test_an_ablation_states_what_every_seed_and_the_corrected_test_show(put_right):
    counts = {
        "s0": (50, 50),
        "s0-kendall": (71, 49),
        "s0-fixed": (56, 56),
        "s0-flat": (70, 69),
        "s0-classify": (50, 51),
    }
    for recipe, of_seeds in counts.items():
        for seed, right in enumerate(of_seeds):
            evidence = put_right(right, recipe=recipe, seed=seed, **MULTITASK)
    said = claims.multitask_ablation(evidence)
    assert (
        "mean of 2 seeds: more accurate than S0's own: `s0-flat` (+19.5 (" in said and said.count("more accurate") == 1
    )
    assert "`s0-kendall` (+10.0 (" in said and "points, not of one sign for every seed)" in said
    assert "`s0-fixed` (+6.0 (" in said and "points, p = 0.087 after correction)" in said
    assert "Seeds of one method lie up to 22.0 points apart." in said
    assert "p < 0.05 after correction for the number of methods" in said
    (runs,) = budgets(evidence.multitask)
    found = {name: entry["difference"] for name, entry in compare(runs, evidence.predictions).items() if name != "s0"}
    (axis,) = figures.forest(found, "points").axes
    colours = {name: bars.lines[0].get_color() for name, bars in zip(reversed(found), axis.containers, strict=True)}
    plt.close("all")
    assert [name for name, colour in colours.items() if colour != figures.PUBLISHED_COLOUR] == ["s0-flat"]


def test_an_ingredient_whose_corrected_p_is_large_shows_no_difference(put_right):
    of = {"model": "SqueezeNet", "image_size": 64, "pretrained": True}
    for recipe, right in {"ours": BASE, "ours-frozen": 30, "ours-top30": BASE, "s1": BASE}.items():
        put_right(right, recipe=recipe, **of)
    evidence = put_right(BASE - 6, recipe="ours-no-augmentation", **of)
    said = claims.ingredients(evidence)
    assert "test accuracy falls with `ours-frozen` (-30.0 (" in said and said.count("falls with") == 1
    assert "no difference is shown for `ours-top30` and `ours-no-augmentation` (-6.0 (" in said
    assert "points, p = 0.1" in said and "for the number of recipes that the table compares with `ours`" in said


def test_a_gain_by_pretraining_counts_after_correction(put_right):
    for dataset, right in {"brain-tumor-mri": SIX_MORE, "cheng": 90, "sartaj": BASE}.items():
        of = {"dataset": dataset, "model": "SqueezeNet", "image_size": 64, "recipe": "ours"}
        put_right(BASE, pretrained=False, **of)
        evidence = put_right(right, pretrained=True, **of)
    assert claims.pretraining(evidence).startswith("In 1 of 3 comparisons pretrained weights are shown to be better (")


def test_networks_beside_the_nearest_neighbour_are_corrected_for_their_number(put_right):
    networks = {"CustomCNN": SIX_MORE, "AlexNet": 90, "ViT": BASE}
    for model, right in networks.items():
        put_right(right, model=model, recipe="s2", split="published")
    evidence = put_right(BASE, model="1-NN", recipe="none", split="published")
    said = claims.above_nearest_neighbour(evidence)
    assert "CustomCNN is not distinguishable from it (+6.0 (" in said and "AlexNet is more accurate than it" in said
    assert "p < 0.05 after correction" in said
    for split, right in {"published": SIX_MORE, "cleaned": BASE}.items():
        put_right(BASE, model="1-NN", recipe="none", split=split)
        evidence = put_right(right, split=split, **MULTITASK | {"image_size": 128}, recipe="s0")
    said = claims.multitask_by_split(evidence)
    assert said.count("against 1-NN") == 2 and f"p = 0.094 {CORRECTED}" in said  # 2 / 2⁶ · 2 · (1 + 1/2)


def test_the_steps_of_the_outline_are_corrected_for_all_lines_of_the_list(put_right):
    for dataset in ("brain-tumor-mri", "cheng"):
        for recipe, right in {"name-only": BASE, "with-masks": BASE, "from-outline": SIX_MORE}.items():
            of = {"model": "OutlineClassifier", "pretrained": True, "recipe": recipe}
            evidence = put_right(right, dataset=dataset, **of)
    said = claims.localisation_steps(evidence)
    assert said.count(f"points, p = 0.130 {CORRECTED}") == 2, "2 / 2⁶ · 4 · (1 + 1/2 + 1/3 + 1/4) / 2"
    assert "paired test, p < 0.05 after correction" in said


def test_what_a_way_to_fine_tune_gained_is_corrected_for_data_sets_and_seeds(put_right):
    *others, best = LONGER
    for dataset, right in {"brain-tumor-mri": SIX_MORE, "cheng": BASE, "sartaj": 95}.items():
        of = {"dataset": dataset, "model": "ResNet50-v2", "pretrained": True, "image_size": 224}
        for recipe in ("probe-first", *others):
            put_right(BASE, 0.8, recipe=recipe, **of)
        evidence = put_right(right, 0.9, recipe=best, **of)
    said = claims.fine_tuning_choice(evidence).splitlines()
    assert "p < 0.05 after correction for the number of comparisons; one sign for every seed" in said[0]
    assert CORRECTED in said[2] and "includes 0" in said[3] and "no difference" not in said[4]


def test_the_network_named_from_its_outline_is_compared_on_all_data_sets_at_once(put_right):
    def said(evidence: Evidence) -> str:
        for record in evidence.localisation:
            record["pooled"] = {record["id"]: ""}  # a record of all folds, whose images are its own here
        return claims.outline_against_best(evidence)

    for dataset, right in {"brain-tumor-mri": BASE - 6, "cheng": BASE}.items():
        of = {"dataset": dataset, "fold": None, "pretrained": True}
        put_right(BASE, model="ResNet50-v2", recipe=BEST_RECIPE, image_size=224, **of)
        evidence = put_right(right, model="OutlineClassifier", recipe="from-outline", **of)
    first, second = said(evidence).splitlines()[2:]
    assert "-6.0 (" in first and first.endswith(f"points, p = 0.094 {CORRECTED}"), "2 / 2⁶ · 2 · (1 + 1/2)"
    assert second.endswith("an interval that includes 0: no difference is shown")
    evidence = put_right(BASE - 20, model="OutlineClassifier", recipe="from-outline", **of)
    assert said(evidence).splitlines()[3].endswith("points"), "twenty images of a hundred are a difference"


def test_the_jitter_is_compared_seed_by_seed_after_as_many_epochs(put):
    def trained(recipe: str, seed: int, share: float, epochs: int = 15) -> Evidence:
        run = Run(
            dataset="brain-tumor-mri", split="patient", model="CustomCNN", recipe=recipe, seed=seed, image_size=64
        )
        predicted = ["glioma" if i < 100 * share else "notumor" for i in range(100)]
        table = pd.DataFrame({"path": IMAGES, "label": "glioma", "group": IMAGES, "predicted": predicted})
        metrics = {"accuracy": {"value": share, "low": share, "high": share}}
        return put(run, table, recipe={"name": recipe}, training={"epochs": epochs}, metrics=metrics, images=100)

    for seed, share in enumerate((0.5, 0.7)):
        trained("s2", seed, share)
        trained("s2-jitter", seed, share + 0.2)
    trained("s2", 2, 0.1)
    evidence = trained("s2-jitter", 2, 0.9, epochs=40)  # another training
    said = claims.jitter(evidence)
    assert "15 epochs, mean of 2 seeds: 60.0 (" in said and "% with the stronger jitter, 80.0 (" in said
    assert "+20.0 (" in said and "no difference" not in said

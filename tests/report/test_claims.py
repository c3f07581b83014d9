"""The sentences about runs follow from the runs: they change with the records that they are made of."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from intervals_of import interval

from datasets.catalog import REPO
from utils.evaluation.intervals import mean_interval
from utils.recipes.ours import LONGER
from utils.recipes.published import published_table
from utils.report import claims, tables
from utils.report.claims.common import apart, by_direction, direction, explained, listed, percent, points
from utils.report.records import (
    BEST_RECIPE,
    Evidence,
    load_evidence,
)
from utils.run import Run

NOTHING = pd.DataFrame({"path": [], "group": []})  # a table of predictions that no sentence reads
MANY = 200  # test images, each a group of its own
GROUPS = [f"g{i:03}" for i in range(MANY)]


def first(share: float) -> np.ndarray:
    """Right on the first `share` of the images."""
    return np.arange(MANY) < round(share * MANY)


@pytest.fixture
def put_classifier(put):
    def write(right: np.ndarray, unseen: int = 0, history: pd.DataFrame | None = None, **of) -> Evidence:
        anomaly = of.pop("anomaly", None)
        run = Run(**{"dataset": "brain-tumor-mri", "recipe": "s2"} | of)
        network = run.model != "1-NN"
        predicted = np.where(right, "glioma", "notumor")
        table = pd.DataFrame({"path": GROUPS, "label": "glioma", "group": GROUPS, "predicted": predicted})
        return put(
            run,
            table,
            history,
            images=MANY,
            metrics={"accuracy": mean_interval(right, GROUPS)},
            recipe={"name": run.recipe} if network else None,
            training={"epochs": 8, "seconds": 1.0, "val_accuracy": 0.5} if network else None,
            per_class={"glioma": {"images": MANY}, "notumor": {"images": 0}},
            unseen={"images": unseen} if unseen else None,
            anomaly={"tumour": interval(*anomaly)} if anomaly else None,
        )

    return write


def test_words_of_intervals():
    above, below, none = interval(0.1, 0.01, 0.2), interval(-0.1, -0.2, -0.01), interval(0.1, -0.1, 0.2)
    assert [direction(entry) for entry in (above, below, none)] == [1, -1, 0]
    assert direction({"value": 0.3, "low": None, "high": None}) == 0, "one group has no interval"
    assert by_direction({"a": above, "b": below, "c": none}) == {1: ["a"], -1: ["b"], 0: ["c"]}
    assert apart(above, below) and apart(below, above) and not apart(above, none)
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["none", "a", "a and b", "a, b and c"]
    run = {"metrics": {"accuracy": above}}
    assert percent(run) == "10.0 (1.0–20.0) %" and explained(percent(run)) == percent(run)
    marked = percent(run | {"old_folds": True})
    assert marked == "10.0 (1.0–20.0) % †" and explained(marked).startswith(f"{marked}\n\n† with earlier groups")
    assert points(below) == "-10.0 (-20.0 to -1.0) points"


@pytest.mark.parametrize("name", sorted(claims.__all__))
def test_without_runs_nothing_is_claimed(name, tmp_path):
    said = getattr(claims, name)(load_evidence(tmp_path))
    if name == "untested_networks":
        assert (
            said == "CustomCNN, AlexNet, VGG16 and ViT have not been trained by S2's recipe on `brain-tumor-mri` yet."
        )
    else:
        assert said.endswith(": not run yet.*") and "\n" not in said


@pytest.mark.parametrize("name", sorted(claims.__all__))
def test_committed_runs_make_whole_sentences(name):
    said = getattr(claims, name)(load_evidence(REPO / "saved_metrics"))
    assert said[0] in "*`" or said[0].isupper()
    assert not re.search(
        r"\b(nan|None|none)\b(?! \()", said.replace("tumour from none", "").replace("against none", "")
    )


@pytest.mark.parametrize(
    ("share", "words"), [(0.9, "more accurate than"), (0.5, "not distinguishable from"), (0.1, "less accurate than")]
)
def test_a_network_is_compared_with_the_nearest_neighbour_image_by_image(put_classifier, share, words):
    put_classifier(first(0.5), model="1-NN", recipe="none")
    said = claims.above_nearest_neighbour(put_classifier(first(share)))
    assert f"CustomCNN is {words} it" in said and "reaches 50.0 (" in said and "AlexNet" not in said


def test_the_published_split_is_optimistic_only_where_intervals_part(put_classifier):
    for model, shares in {"CustomCNN": (0.9, 0.6), "AlexNet": (0.62, 0.6)}.items():
        put_classifier(first(shares[0]), model=model)
        evidence = put_classifier(first(shares[1]), model=model, split="patient", fold=None)
    put_classifier(first(0.4), dataset="sartaj")
    evidence = put_classifier(first(0.8), dataset="sartaj", split="patient", fold=None)
    first_set, second_set = claims.split_effect(evidence).splitlines()[-2:]
    assert first_set.startswith("- `brain-tumor-mri`, higher on the published split: CustomCNN 90.0 (")
    assert "; the intervals overlap: AlexNet 62.0 (" in first_set and "by patient" not in first_set
    assert second_set.startswith("- `sartaj`, higher by patient: CustomCNN 40.0 (") and "→ 80.0 (" in second_set


@pytest.mark.parametrize(("after", "verdict"), [
    ({"brain-tumor-mri": 0.95, "sartaj": 0.3}, "Removing duplicates improved accuracy on `brain-tumor-mri`. "),
    ({"brain-tumor-mri": 0.52, "sartaj": 0.3}, "Removing duplicates improved accuracy on neither set. "),
    ({"sartaj": 0.3}, "Removing duplicates did not improve accuracy. "),
])  # fmt: skip
def test_cleaning_improves_where_the_interval_says_so(put_classifier, after, verdict):
    for dataset, share in after.items():
        of = {"dataset": dataset, "image_size": 64}
        put_classifier(first(0.5), **of)
        evidence = put_classifier(first(share), split="cleaned", unseen=7, **of)
    said = claims.cleaning(evidence)
    assert said.startswith(verdict) and "of these, 7 have no duplicate" in said
    assert said.endswith("in training, and 200 are of one class, glioma.")
    assert ("the intervals overlap" in said) == (0.52 in after.values())


def transfer_run(**of) -> dict:
    return {"split": "patient", "fold": 0, "model": "SqueezeNet", "image_size": 64, "pretrained": True} | of


def test_a_gain_by_pretraining_counts_comparisons_and_warns_of_one_seed(put_classifier):
    for dataset, share in {"brain-tumor-mri": 0.8, "cheng": 0.52}.items():
        of = transfer_run(dataset=dataset, recipe="ours")
        put_classifier(np.roll(first(0.5), 10), **of | {"pretrained": False})
        evidence = put_classifier(first(share), **of)
    said = claims.pretraining(evidence)
    assert said.startswith("In 1 of 2 comparisons pretrained weights are shown to be better (paired test, p < 0.05")
    assert "between +2.0 and +30.0 points" in said and "one seed" in said


def test_ingredients_are_sorted_by_their_intervals(put_classifier):
    shares = {"ours": 0.8, "ours-frozen": 0.5, "ours-top30": 0.95}
    for recipe, share in shares.items():
        put_classifier(first(share), **transfer_run(recipe=recipe))
    evidence = put_classifier(np.roll(first(0.8), 6), **transfer_run(recipe="ours-unbalanced"))
    said = claims.ingredients(evidence)
    assert "test accuracy falls with `ours-frozen` (-30.0 (" in said and "it rises with `ours-top30` (+15.0 (" in said
    assert "no difference is shown for `ours-unbalanced`." in said


def test_test_time_augmentation_names_what_it_lost(put, put_classifier):
    gains = {"ours": (0.02, 0.01, 0.03), "s1": (-0.09, -0.15, -0.03), "ours-frozen": (-0.03, -0.08, -0.01)}
    gains["ours-top30"] = (-0.02, -0.05, 0.01)
    for recipe, gain in gains.items():
        run = Run(dataset="brain-tumor-mri", **transfer_run(recipe=recipe))
        evidence = put(run, NOTHING, tta={"gain": interval(*gain)})
    elsewhere = transfer_run(model="MobileNetV2", recipe="ours")
    evidence = put(Run(dataset="cheng", **elsewhere), NOTHING, tta={"gain": interval(0.5, 0.4, 0.6)})
    said = claims.test_time_augmentation(evidence)
    assert "after each of the 4 recipes of the table" in said, "not after every training there is"
    assert "above 0 after 1 of them, below 0 after 2, and includes 0 after 1 (95 % intervals, not corrected" in said
    assert said.index("`s1` (-9.0") < said.index("`ours-frozen` (-3.0"), "the largest loss first"
    assert "ours-top30" not in said, "its interval includes 0"
    evidence = put(Run(dataset="brain-tumor-mri", **transfer_run(recipe="s3")), NOTHING)
    assert "after 4 of the 5 recipes of the table" in claims.test_time_augmentation(evidence)
    for recipe in ("ours", "s1", "s3"):
        evidence = put(Run(dataset="cheng", **transfer_run(recipe=recipe)), NOTHING, tta={"gain": interval(0, -1, 1)})
    assert "after 7 of the 8 recipes" in claims.test_time_augmentation(evidence), "of both data sets"


def test_a_frozen_backbone_is_reported_at_both_ends(put):
    for recipe, known in {"ours": (0.6, 0.9), "ours-frozen": (0.7, 0.75), "s1": (0.5, 0.5)}.items():
        run = Run(dataset="brain-tumor-mri", **transfer_run(recipe=recipe))
        history = pd.DataFrame({"epoch": [1, 2], "val_accuracy": known})
        evidence = put(run, NOTHING, history)
    said = claims.frozen_backbone(evidence)
    assert "70.0 % after the first epoch and 75.0 % after 2; with all layers unfrozen 60.0 and 90.0 %." in said


MULTITASK = {"model": "MultiTaskUNet", "n_filters": 8, "image_size": 128}


def test_the_multi_task_network_is_compared_with_the_nearest_neighbour_split_by_split(put_classifier):
    for split, share in {"published": 0.5, "cleaned": 0.9}.items():
        put_classifier(np.roll(first(0.5), 3), split=split, model="1-NN", recipe="none")
        put_classifier(first(0.2), split=split, **MULTITASK, recipe="s0-flat")
        evidence = put_classifier(first(share), split=split, **MULTITASK, recipe="s0")
    cleaned, published = claims.multitask_by_split(evidence).splitlines()[2:]
    assert cleaned.startswith("- `brain-tumor-mri`, cleaned: 90.0 (") and "against 1-NN +40.0 (" in cleaned
    assert published.endswith("an interval that includes 0: no difference is shown")


def test_the_ablation_names_what_shows_a_difference(put_classifier):
    of = MULTITASK | {"image_size": 64, "split": "patient", "fold": 0}
    for seed in (0, 1):
        shares = {"s0": 0.8, "s0-flat": 0.6, "s0-fixed": 0.95}
        for recipe, share in shares.items():
            put_classifier(first(share), recipe=recipe, seed=seed, **of)
        evidence = put_classifier(np.roll(first(0.8), 2), recipe="s0-kendall", seed=seed, **of)
    said = claims.multitask_ablation(evidence)
    assert "patient fold 0, mean of 2 seeds: less accurate than S0's own: `s0-flat` (-20.0 (" in said
    assert "; more accurate than S0's own: `s0-fixed` (+15.0 (" in said
    assert "no difference to S0's own is shown for `s0-kendall`. Seeds of one method lie up to 0.0 points apart" in said


def test_balances_state_the_share_of_the_gradient(put_classifier):
    of = MULTITASK | {"image_size": 64, "split": "patient", "fold": 0}
    for recipe, weight in {"s0": 20, "s0-fixed": 1}.items():
        values = {"gradient_reconstruction": 0.01, "gradient_classification": 1.0, "val_reconstruction": 0.002}
        values |= {"weight_reconstruction": weight, "weight_classification": 1}
        evidence = put_classifier(first(0.8), history=pd.DataFrame([values] * 3), recipe=recipe, **of)
    assert claims.balances(evidence).endswith(": 0.2 under `s0` and 0.01 under `s0-fixed`.")


@pytest.mark.parametrize(
    ("auc", "words"),
    [((0.3, 0.2, 0.4), "a smaller error"), ((0.6, 0.55, 0.7), "a larger error"), ((0.6, 0.4, 0.7), "no difference")],
)
def test_the_reconstruction_error_is_judged_by_its_interval(put_classifier, auc, words):
    said = claims.reconstruction_error(put_classifier(first(0.8), recipe="s0", anomaly=auc, **MULTITASK))
    assert words in said and said.count(" error") == 1 + (words != "no difference")


@pytest.mark.parametrize("path", sorted((REPO / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_numbers_in_the_prose_are_reported_ones(path):
    reported = {f"{100 * value:.{digits}f}" for value in published_table().value for digits in (0, 1, 2)}
    cells = json.loads(path.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    typed = set(re.findall(r"(\d+(?:\.\d+)?) ?%", text)) - {"95"}  # of intervals
    assert typed <= reported, "compute it in a cell, or claim it from the records (utils/report/claims)"


def test_the_way_to_fine_tune_is_chosen_on_validation_though_another_is_better_on_the_test_set(put):
    def write(validated: float, right: float, recipe: str, **of) -> Evidence:
        of = {"dataset": "cheng", "split": "patient", "fold": 0} | of
        run = Run(**of, model="ResNet50-v2", recipe=recipe, pretrained=True, image_size=224)
        predicted = np.where(first(right), "glioma", "pituitary")
        table = pd.DataFrame({"path": GROUPS, "label": "glioma", "group": GROUPS, "predicted": predicted})
        metrics = {"accuracy": mean_interval(first(right), GROUPS)}
        training = {"epochs": 12, "seconds": 1.0, "val_accuracy": validated}
        recipe = {"name": recipe, "augmentation": "none"}
        return put(run, table, metrics=metrics, recipe=recipe, training=training, images=MANY, trainable=8_500_000)

    names = ("probe-first", *LONGER)
    for name in names[:-1]:
        evidence = write(0.9, 0.9 if name == "probe-first" else 0.99, name)
    assert claims.fine_tuning_choice(evidence).endswith("not run yet.*"), "one is missing"
    evidence = write(0.95, 0.96, names[-1])
    table = tables.BLOCKS["fine_tunings"](evidence)
    assert table.recipe.iloc[0] == names[-1] and table["cheng, validation %"].iloc[0] == "95.0"
    said = claims.fine_tuning_choice(evidence)
    assert said.startswith(f"Of 4 ways to fine-tune ResNet50-v2, `{names[-1]}` has the highest accuracy")
    assert "95.0 % on average, the others 90.0 to 90.0 %" in said and "`cheng`, patient fold 0: 96.0" in said
    assert "+6.0 (" in said and "seeds:" not in said
    write(0.9, 0.8, "probe-first", seed=1)
    several = claims.fine_tuning_choice(write(0.95, 0.9, names[-1], seed=1))
    assert "`cheng`, patient fold 0, mean of 2 seeds: 93.0" in several and "%, +8.0 (" in several
    evidence = write(0.99, 0.1, "probe-first")
    assert "On test images" not in claims.fine_tuning_choice(evidence), "the shortest is best: nothing to compare"


def test_a_fine_tuned_network_stands_beside_the_others_and_what_it_finds_elsewhere_beside_its_own(put):
    """At its own size, under its own name; what another collection is asked stands beside the same question at home."""
    rate = {"value": 0.9, "low": 0.8, "high": 0.95}
    table = pd.DataFrame({"path": ["a"], "label": ["glioma"], "group": ["a"], "predicted": ["glioma"]})

    def write(accuracy: float, sensitivity: float, images: dict[str, int], **of):
        entry = {"value": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
        found = rate | {"value": sensitivity}
        run = Run(dataset="brain-tumor-mri", model="ResNet50-v2", recipe=BEST_RECIPE, pretrained=True, **of)
        metrics = {"accuracy": entry, "tumour_sensitivity": found}
        by_class = {name: {"images": count} for name, count in images.items()}
        return put(run, table, metrics=metrics, recipe={"name": run.recipe}, images=1, per_class=by_class)

    own = {"glioma": 500, "meningioma": 400, "notumor": 600, "pituitary": 300}
    write(0.98, 0.99, own, image_size=224, split="published")
    write(0.93, 0.98, own, image_size=224, split="patient", fold=None)
    other = dict.fromkeys(own, 0) | {"glioma": 31, "notumor": 368}
    evidence = write(0.6, 0.5, other, image_size=224, split="external", test_on="navoneel")
    said = claims.split_effect(evidence)
    assert "higher on the published split: fine-tuned ResNet50-v2 98.0 (97.0–99.0) % → 93.0 (92.0–94.0) %" in said
    said = claims.elsewhere(evidence)
    assert f"fine-tuned ResNet50-v2 (`{BEST_RECIPE}`), 224 pixels, trained on `brain-tumor-mri`: 50.0" in said
    assert "% of 31 test images with a tumour (31 glioma) from `navoneel`, by patient 98.0" in said
    assert said.endswith("% of 1,200 test images with a tumour of its own data set") and "OutlineClassifier" not in said
    outlined = {"split": "external", "test_on": "navoneel", "model": "OutlineClassifier", "recipe": "name-only"}
    evidence = put(Run(dataset="brain-tumor-mri", pretrained=True, **outlined), table)
    assert "any kind (without OutlineClassifier, which chapter 6 tests):" in claims.elsewhere(evidence)

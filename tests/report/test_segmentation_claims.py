"""The sentences about segmentation follow from the runs: losses, resolution, gates, and the size of a tumour."""

import re

import numpy as np
import pandas as pd
import pytest
from intervals_of import interval

from utils.evaluation.segmentation import by_patient, evaluate_masks, size_correlation
from utils.report import claims
from utils.report.records import (
    Evidence,
)
from utils.report.tables.segmentation import dice_by_patient, three_unets
from utils.run import Run


def masks(dice: np.ndarray, size: np.ndarray) -> pd.DataFrame:
    """A mask table with one slice a patient whose prediction overlaps by `dice` with a tumour of `size` pixels."""
    tp = np.round(dice * size).astype(int)
    ids = [f"p{i:02}" for i in range(len(dice))]
    table = pd.DataFrame({"path": ids, "patient": ids, "group": ids, "pixels": 10_000, "tumour.tp": tp})
    return table.assign(**{"tumour.fp": size - tp, "tumour.fn": size - tp, "tumour.hd95": 1.0})


@pytest.fixture
def put_segmenter(put):
    def write(table, history=None, val_dice: float = 0.5, epochs: int = 10, **of) -> Evidence:
        of = {"split": "patient", "model": "AttentionUNet", "image_size": 64, "n_filters": 16} | of
        result, recipe, trained = evaluate_masks(table, ["tumour"], resamples=100), None, None
        if of["recipe"] != "none":
            recipe, trained = {"name": of["recipe"]}, {"val_dice": val_dice, "epochs": epochs}
        return put(Run(dataset="cheng", **of), table, history, recipe=recipe, training=trained, **result)

    return write


SIZE = np.linspace(100, 2000, 40).astype(int)
NOISE = np.random.default_rng(0).normal(0, 0.1, 40)


def test_the_dice_loss_is_worth_something_under_one_optimiser_only(put_segmenter):
    put_segmenter(masks(0.2 + NOISE / 10, SIZE), recipe="s2", val_dice=0.26)
    put_segmenter(masks(0.6 + NOISE, SIZE), recipe="s2-dice", val_dice=0.63)
    put_segmenter(masks(0.6 + NOISE, SIZE), recipe="s2-adamw")
    said = claims.dice_loss(put_segmenter(masks(0.6 + NOISE[::-1], SIZE), recipe="s2-dice-adamw"))
    with_adam, with_adamw = said.splitlines()[-2:]
    assert "from 26.0 to 63.0 %" in with_adam and "no difference" not in with_adam and "by +" in with_adam
    assert with_adamw.startswith("- with AdamW") and with_adamw.endswith("no difference is shown")


def test_resolution_and_slice_wise_split_claim_no_more_than_their_intervals(put_segmenter):
    put_segmenter(masks(0.6 + NOISE, SIZE), recipe="ours")
    evidence = put_segmenter(masks(0.61 + NOISE[::-1], SIZE), recipe="ours", image_size=128)
    said = claims.resolution(evidence)
    assert "no difference is shown" in said and "at 64 pixels (10 epochs)" in said and "together" not in said
    evidence = put_segmenter(masks(0.61 + NOISE[::-1], SIZE), recipe="ours", image_size=128, epochs=40)
    assert "The difference is that of pixels and epochs together." in claims.resolution(evidence)
    for split, dice in {"slices": 0.6, "patient": 0.2}.items():
        evidence = put_segmenter(masks(dice + NOISE, SIZE), recipe="none", model="1-NN mask", n_filters=0, split=split)
    evidence = put_segmenter(masks(0.6 + NOISE[::-1], SIZE), recipe="ours", split="slices")
    nearest, network = claims.slice_wise_split(evidence).split("; ")
    assert "1-NN mask" in nearest and "(the intervals do not overlap)" in nearest
    assert "AttentionUNet" in network and "(the intervals overlap, so no difference is shown)" in network
    assert "Folds differ" not in network, "one fold alone says nothing of the others"
    evidence = put_segmenter(masks(0.9 + NOISE / 10, SIZE), recipe="ours", image_size=128, fold=None)
    assert "Folds differ, too: at 128 pixels AttentionUNet reaches" in claims.slice_wise_split(evidence)


def test_a_pretrained_encoder_is_compared_on_the_same_folds_only(put_segmenter):
    encoded = {"model": "MobileNetUNet", "recipe": "onecycle", "pretrained": True, "image_size": 192, "n_filters": 8}
    evidence = put_segmenter(masks(0.7 + NOISE, SIZE), **encoded, epochs=12)
    assert claims.pretrained_encoder(evidence).endswith("not run yet.*"), "nothing to compare it with"
    evidence = put_segmenter(masks(0.6 + NOISE, SIZE), recipe="ours", image_size=128, epochs=40)
    said = claims.pretrained_encoder(evidence)
    assert "patient fold 0: AttentionUNet (" in said and "192 pixels, 12 epochs) reaches" in said
    assert "Patient by patient, +" in said and "no difference" not in said
    evidence = put_segmenter(masks(0.7 + NOISE[::-1], SIZE), recipe="ours", image_size=128, fold=None)
    assert claims.pretrained_encoder(evidence).endswith("not run yet.*"), "all folds beside one alone"
    evidence = put_segmenter(masks(0.7 + NOISE, SIZE), **encoded, fold=None)
    assert "all patient folds" in (said := claims.pretrained_encoder(evidence)) and "no difference is shown" in said


def test_what_pretrained_weights_contribute_waits_for_three_seeds_of_both(put_segmenter):
    encoded = {"model": "MobileNetUNet", "image_size": 128, "n_filters": 8, "epochs": 12}
    for seed, dice in enumerate((0.7, 0.5, 0.72)):
        put_segmenter(masks(dice + NOISE, SIZE), **encoded, recipe="onecycle", pretrained=True, seed=seed)
    for seed, dice in ((0, 0.6), (1, 0.6)):
        evidence = put_segmenter(
            masks(dice + NOISE / 2, SIZE), **encoded, recipe="onecycle-unfrozen", pretrained=False, seed=seed
        )
    assert claims.encoder_weights(evidence).endswith("3 seeds each: not run yet.*")
    evidence = put_segmenter(
        masks(0.3 + NOISE / 2, SIZE), **encoded, recipe="onecycle-unfrozen", pretrained=False, seed=2
    )
    said = claims.encoder_weights(evidence)
    values = r"69\.\d, 49\.\d, 71\.\d % from pretrained weights and 59\.\d, 59\.\d, 29\.\d % from random weights"
    assert re.search(f"12 epochs, seeds 0, 1 and 2: Dice {values}", said)
    assert "not of one sign for every seed: no difference is shown" in said
    evidence = put_segmenter(
        masks(0.4 + NOISE / 2, SIZE), **encoded, recipe="onecycle-unfrozen", pretrained=False, seed=1
    )
    said = claims.encoder_weights(evidence)
    assert "no difference" not in said and "on average over the seeds: +20." in said


def test_gates_are_named_as_they_are(put_segmenter):
    columns = [f"gate{g}_{value}" for g in range(1, 5) for value in ("mean", "spread", "saturated")]
    states = {
        "s2": [0.5, 0.001, 0.0] * 4,
        "s2-dice-adamw": [1.0, 0.0, 1.0, 0.9, 0.14, 0.59, 0.5, 0.2, 0.0, 0.5, 0.2, 0.0],
        "ours": [0.5, 0.2, 0.0] * 4,
    }
    for recipe, state in states.items():
        history = pd.DataFrame([[1, *([0.5] * 12)], [2, *state]], columns=["epoch", *columns])
        evidence = put_segmenter(masks(0.6 + NOISE, SIZE), history, recipe=recipe)
    assert claims.gate_states(evidence).splitlines()[2:] == [
        "- `s2`: gates 1, 2, 3 and 4 have the same value everywhere (about 0.50)",
        "- `s2-dice-adamw`: gate 1 is saturated in 100 % of the pixels, gate 2 is saturated in 59 % of the pixels",
        "- `ours`: no gate is saturated or flat",
    ]


def test_the_overlap_of_gates_is_told_by_its_interval(put):
    sides = {"gate1": (0.2, 0.1, 0.3), "gate2": (-0.2, -0.3, -0.1), "gate3": (0.0, -0.1, 0.1)}
    sides |= {"gate4": (-0.004, -0.005, -0.003)}
    gates = {g: {"difference": interval(*v)} for g, v in sides.items()}
    run = Run(dataset="cheng", split="patient", model="AttentionUNet", recipe="ours")
    nothing = pd.DataFrame({"path": [], "group": []})
    said = claims.gate_overlaps(put(run, nothing, gates=gates))
    assert "gate 1 +0.20 (+0.10 to +0.30), further open inside" in said
    assert "gate 2 -0.20 (-0.30 to -0.10), further shut inside; gate 3 +0.00 (-0.10 to +0.10), no difference" in said
    assert said.endswith("gate 4 the same inside and outside") and "`ours`, `cheng`, patient fold 0, 128 pixels" in said


@pytest.mark.parametrize(("dice", "words"), [
    (SIZE / 2500, "+1.00 (+1.00 to +1.00): larger tumours are segmented better."),
    (1 - SIZE / 2500, "-1.00 (-1.00 to -1.00): smaller tumours are segmented better."),
    (0.6 + NOISE, "so no dependence on size is shown."),
])  # fmt: skip
def test_dice_and_size_are_ranked(put_segmenter, dice, words):
    evidence = put_segmenter(masks(dice, SIZE), recipe="ours", image_size=128)
    assert claims.tumour_size(evidence).endswith(words)


def test_a_rank_correlation_needs_patients_who_differ():
    one = by_patient(masks(np.array([0.5]), np.array([100])), ["tumour"])
    same = by_patient(masks(np.array([0.5, 0.5, 0.5]), np.array([100, 200, 300])), ["tumour"])
    assert size_correlation(one, "tumour")["value"] is None and size_correlation(same, "tumour")["value"] is None
    without = by_patient(masks(np.array([0.5, 0.6, 0.7, 0.8]), np.array([0, 100, 200, 300])), ["tumour"])
    assert size_correlation(without, "tumour", resamples=20)["value"] == 1, "who has no tumour has no size"


def test_networks_are_compared_on_one_budget_and_the_same_folds():
    """Beside networks of 40 epochs none of 10, and none on earlier folds however long it was trained."""

    def record(model: str, epochs: int, old_folds: bool = False) -> dict:
        run = {"dataset": "cheng", "split": "patient", "recipe": "ours", "model": model, "fold": 0}
        run |= {"view": "stored", "image_size": 128}
        return {"run": run, "recipe": {}, "training": {"epochs": epochs}, "old_folds": old_folds}

    classic, attention = record("ClassicUNet", 40), record("AttentionUNet", 40)
    assert list(three_unets([classic, record("ImprovedUNet", 10), attention])) == ["ClassicUNet", "AttentionUNet"]
    assert list(three_unets([record("ClassicUNet", 10), record("ImprovedUNet", 50, old_folds=True)])) == ["ClassicUNet"]
    assert three_unets([]) == {}


def test_a_network_that_may_be_pretrained_stands_there_with_its_start_and_seed(put_segmenter):
    encoded = {"model": "MobileNetUNet", "image_size": 128, "n_filters": 8}
    put_segmenter(masks(0.7 + NOISE, SIZE), **encoded, recipe="onecycle", pretrained=True, seed=1)
    put_segmenter(masks(0.6 + NOISE, SIZE), **encoded, recipe="onecycle", pretrained=False, seed=2)
    evidence = put_segmenter(masks(0.5 + NOISE, SIZE), recipe="ours", image_size=128)
    shown = dice_by_patient(evidence.segmentation)
    started = dict(zip(shown.recipe, shown.seed, strict=True))
    assert started == {"onecycle, pretrained": 1, "onecycle, from scratch": 2, "ours": 0}

"""What validation chooses: a threshold, and what it finds and spares; the temperatures and weights of an ensemble."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_training import HEALTHY

from datasets.catalog import DataError
from utils.evaluation.classification import FEWEST
from utils.evaluation.thresholds import (
    FEWEST_HEALTHY,
    UNKNOWN,
    Threshold,
    calibrated,
    choose,
    screening,
    threshold_for,
    tumour_or_none,
    tumour_scores,
)
from utils.training.tasks import MultiTask

AT_HALF = Threshold(0.5, 0.95, 40)


def test_the_threshold_is_the_lowest_that_spares_enough_of_the_healthy():
    """Twenty healthy images, of which one may be called: the threshold is just above the second highest of them."""
    healthy, sick = np.linspace(0.05, 0.62, 20), np.array([0.55, 0.605, 0.61, 0.9])  # the highest: .59 and .62
    score, tumour = np.append(healthy, sick), np.arange(24) >= 20
    for share in (0, 1, float("nan")):
        with pytest.raises(DataError, match=f"specificity={share}: a share between 0 and 1"):
            threshold_for(score, tumour, np.arange(24), specificity=share)
    found = threshold_for(score, tumour, np.arange(24))
    assert found == (0.605, 0.95, 20) and str(found).startswith("0.605, below which lie 95.0 % of the healthy")
    assert threshold_for(score, tumour, np.arange(24), specificity=0.96) == (0.9, 1.0, 20), "a score of an image"
    # Where a tumour's score is found with the same sensitivity at .63 and .9, the lower one is not specific enough.
    above = threshold_for(np.append(healthy, [0.1, 0.2]), np.arange(22) >= 20, np.arange(22), specificity=0.99)
    assert above.value == np.nextafter(0.62, 1) and above.specificity == 1, "just above the highest"


def test_healthy_images_of_few_groups_choose_no_threshold():
    score, tumour = np.linspace(0, 1, 60), np.arange(60) >= 40
    groups = np.where(tumour, -1, np.arange(60) % FEWEST_HEALTHY)
    assert threshold_for(score, tumour, groups).value == score[38], "two of forty may be called"
    few = threshold_for(score, tumour, np.minimum(groups, FEWEST_HEALTHY - 2))
    assert np.isnan(few.value) and few.healthy_groups == FEWEST_HEALTHY - 1
    assert str(few) == "none: 19 groups of healthy validation images are fewer than 20"
    wanted = {"threshold": None, "specificity_on_validation": None, "healthy_groups_on_validation": 19}
    assert few.as_record() == wanted and tumour_or_none(predictions(40, 60), few, 20).items() >= wanted.items()


def test_a_score_is_the_same_in_memory_and_in_a_file(tmp_path):
    """A threshold is the score of an image: an ulp more, and this image would no longer be called."""
    table = predictions(40, 60)
    table["p_notumor"] = table.p_notumor.astype(np.float32)
    table.to_csv(tmp_path / "table.csv", index=False)
    read = pd.read_csv(tmp_path / "table.csv")
    assert read.p_notumor.dtype == np.float64 and (tumour_scores(table)[0] == tumour_scores(read)[0]).all()
    threshold = threshold_for(*tumour_scores(table))
    assert threshold == threshold_for(*tumour_scores(read)) and threshold.value in tumour_scores(read)[0]
    p = np.repeat(table.p_notumor.to_numpy()[:, None], 4, axis=1) * [0, 0, 1, 0]
    called = MultiTask(4, HEALTHY).decide(torch.tensor(p.astype(np.float32)), threshold.value).numpy() != HEALTHY
    assert (called == (tumour_scores(read)[0] >= threshold.value)).all(), "a network of several heads calls the same"


def test_screening_counts_tumours_found_and_healthy_left_alone():
    columns = {
        "label": ["glioma", "glioma", "pituitary", "notumor", "notumor"],
        "predicted": ["glioma", "notumor", "glioma", "notumor", "glioma"],
        "screened": ["glioma", "notumor", "notumor", "notumor", "notumor"],
    }
    table = pd.DataFrame(columns | {"group": list("abcde")})
    found = screening(table, resamples=50)
    rates = ("sensitivity", "specificity", "accuracy")
    values = {rule: [entry[rate]["value"] for rate in rates] for rule, entry in found.items()}
    assert values["S0"] == pytest.approx([2 / 3, 1 / 2, 2 / 5], abs=1e-6)
    assert values["validation"] == pytest.approx([1 / 3, 1.0, 3 / 5], abs=1e-6)
    assert found["validation"]["specificity"]["low"] == pytest.approx(0.025 ** (1 / 2), abs=1e-6), "two of two patients"
    assert set(screening(table.assign(screened=np.nan), resamples=5)) == {"S0"}, "no threshold, as read from a file"
    healthy = screening(table[3:], resamples=5)["S0"]
    assert healthy["sensitivity"]["value"] is None and healthy["specificity"]["value"] == 0.5


def predictions(tumours: int, healthy: int) -> pd.DataFrame:
    """Scores that overlap, two images a group."""
    rng = np.random.default_rng(0)
    score = np.clip(np.concatenate([rng.normal(0.7, 0.2, tumours), rng.normal(0.3, 0.2, healthy)]), 0, 1)
    label = np.repeat(["tumour", "notumor"], [tumours, healthy])
    return pd.DataFrame({"label": label, "group": np.arange(len(label)) // 2, "p_notumor": 1 - score})


def test_tumour_or_none_of_all_patients_has_exact_limits():
    table = predictions(40, 60)
    sure = table.assign(p_notumor=np.where(table.label == "tumour", 0.1, 0.9))
    found = tumour_or_none(sure, AT_HALF, resamples=20)
    assert (found["tumours"], found["healthy"], found["threshold"]) == (40, 60, 0.5)
    for name, patients in {"sensitivity": 20, "specificity": 30, "auc": 20}.items():
        assert found[name] == {"value": 1, "low": pytest.approx(0.025 ** (1 / patients), abs=1e-6), "high": 1}


def test_a_rate_on_few_images_or_without_a_threshold_is_not_reported():
    found = tumour_or_none(predictions(134, FEWEST - 1), AT_HALF, resamples=20)
    assert found["sensitivity"]["value"] is not None
    assert found["specificity"]["value"] is None and found["auc"]["value"] is None
    enough = tumour_or_none(predictions(134, FEWEST), AT_HALF, resamples=20)
    assert enough["specificity"]["value"] is not None and enough["auc"]["value"] is not None
    unchosen = tumour_or_none(predictions(40, 60), UNKNOWN, resamples=20)
    assert unchosen["threshold"] is None and unchosen["sensitivity"]["value"] is None
    assert unchosen["auc"]["value"] is not None, "the AUC needs no threshold"


def member(seed: int, truth: np.ndarray, strength: float) -> np.ndarray:
    """Probabilities of a network that knows the truth as well as `strength` says, the rest is its own noise."""
    powers = np.exp(np.random.default_rng(seed).normal(size=(len(truth), 4)) + strength * np.eye(4)[truth])
    return powers / powers.sum(1, keepdims=True)


def test_two_that_err_apart_are_better_together_and_one_that_guesses_is_left_out():
    truth = np.random.default_rng(0).integers(4, size=600)
    temperatures, weights = choose([member(k, truth, strength) for k, strength in enumerate((2, 2, 0))], truth)
    assert sum(weights) == pytest.approx(1) and weights[2] <= 0.1
    assert weights[0] == pytest.approx(weights[1], abs=0.2)
    asked = [member(k + 3, truth, strength) for k, strength in enumerate((2, 2, 0))]
    cooled = [calibrated(*each) for each in zip(asked, temperatures, strict=True)]
    together = np.average(cooled, axis=0, weights=weights)
    assert (together.argmax(1) == truth).mean() > max((one.argmax(1) == truth).mean() for one in asked) + 0.03
    one = asked[0]
    assert choose([one, one], truth)[1].tolist() == [0.5, 0.5], "members alike count alike"
    sure = one**8 / (one**8).sum(1, keepdims=True)
    hot, own = choose([sure, one], truth)[0]
    assert hot == pytest.approx(8 * own, rel=0.05), "cooled before it is weighted"
    assert calibrated(sure, hot) == pytest.approx(calibrated(one, own), abs=2e-3)

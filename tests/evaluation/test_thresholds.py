"""What validation chooses: a threshold, and what it finds and spares; the temperatures and weights of an ensemble."""

import numpy as np
import pandas as pd
import pytest
import torch
from multitask_images import HEALTHY

from datasets.catalog import DataError
from utils.evaluation.classification import FEWEST
from utils.evaluation.thresholds import choose, screening, threshold_for, tumour_or_none
from utils.training.tasks import MultiTask


def probabilities_of(tumour):
    tumour = np.asarray(tumour)[:, None]
    return np.hstack([0.6 * tumour, 0.3 * tumour, 1 - tumour, 0.1 * tumour])


def test_the_threshold_is_the_most_sensitive_of_those_specific_enough():
    truth = np.array([2] * 20 + [0] * 10)
    healthy = np.linspace(0.05, 0.62, 20)  # the two highest: .59 and .62
    p = probabilities_of([*healthy, *np.linspace(0.55, 0.95, 10)])
    for share in (0, 1, float("nan")):
        with pytest.raises(DataError, match=f"specificity={share}: a share between 0 and 1"):
            threshold_for(p, truth, HEALTHY, specificity=share)
    called = MultiTask(4, HEALTHY).decide(torch.tensor(p), threshold_for(p, truth, HEALTHY)).numpy() != HEALTHY
    assert (~called[:20]).mean() >= 0.95
    better = [t for t in np.linspace(0, 1, 500) if ((1 - p[:20, 2]) < t).mean() >= 0.95]
    assert called[20:].mean() == max(((1 - p[20:, 2]) >= t).mean() for t in better)
    assert np.isnan(threshold_for(p[:20], truth[:20], HEALTHY)) and np.isnan(threshold_for(p[20:], truth[20:], HEALTHY))
    missed = probabilities_of([0.9, 0.9, 0.2])
    threshold = threshold_for(missed, np.array([2, 2, 0]), HEALTHY)
    assert threshold == 1.0
    assert (MultiTask(4, HEALTHY).decide(torch.tensor(missed), threshold) == HEALTHY).all(), "it calls nothing"


def test_screening_counts_tumours_found_and_healthy_left_alone():
    columns = {
        "label": ["glioma", "glioma", "pituitary", "notumor", "notumor"],
        "predicted": ["glioma", "notumor", "glioma", "notumor", "glioma"],
        "screened": ["glioma", "notumor", "notumor", "notumor", "notumor"],
    }
    table = pd.DataFrame(columns | {"group": list("abcde")})
    found = screening(table, resamples=50)
    values = {
        rule: [entry[m]["value"] for m in ("sensitivity", "specificity", "accuracy")] for rule, entry in found.items()
    }
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
    found = tumour_or_none(sure, threshold=0.5, resamples=20)
    assert (found["tumours"], found["healthy"], found["threshold"]) == (40, 60, 0.5)
    for name, patients in {"sensitivity": 20, "specificity": 30, "auc": 20}.items():
        assert found[name] == {"value": 1, "low": pytest.approx(0.025 ** (1 / patients), abs=1e-6), "high": 1}


def test_a_rate_on_few_images_or_without_a_threshold_is_not_reported():
    found = tumour_or_none(predictions(134, FEWEST - 1), threshold=0.5, resamples=20)
    assert found["sensitivity"]["value"] is not None
    assert found["specificity"]["value"] is None and found["auc"]["value"] is None
    enough = tumour_or_none(predictions(134, FEWEST), threshold=0.5, resamples=20)
    assert enough["specificity"]["value"] is not None and enough["auc"]["value"] is not None
    unchosen = tumour_or_none(predictions(40, 60), threshold=np.nan, resamples=20)
    assert unchosen["threshold"] is None and unchosen["sensitivity"]["value"] is None
    assert unchosen["auc"]["value"] is not None, "the AUC needs no threshold"


def member(seed: int, truth: np.ndarray, strength: float) -> np.ndarray:
    """Probabilities of a network that knows the truth as well as `strength` says, the rest is its own noise."""
    powers = np.exp(np.random.default_rng(seed).normal(size=(len(truth), 4)) + strength * np.eye(4)[truth])
    return powers / powers.sum(1, keepdims=True)


def test_two_that_err_apart_are_better_together_and_one_that_guesses_is_left_out():
    truth = np.random.default_rng(0).integers(4, size=600)
    found = choose([member(k, truth, strength) for k, strength in enumerate((2, 2, 0))], truth)
    assert sum(found.weights) == pytest.approx(1) and found.weights[2] <= 0.1
    assert found.weights[0] == pytest.approx(found.weights[1], abs=0.2)
    asked = [member(k + 3, truth, strength) for k, strength in enumerate((2, 2, 0))]
    assert (found(asked).argmax(1) == truth).mean() > max((one.argmax(1) == truth).mean() for one in asked) + 0.03
    one = asked[0]
    assert choose([one, one], truth).weights == (0.5, 0.5), "members alike count alike"
    sure = one**8 / (one**8).sum(1, keepdims=True)
    found = choose([sure, one], truth)
    assert found.temperatures[0] == pytest.approx(8 * found.temperatures[1], rel=0.05), "cooled before it is weighted"
    assert found([sure, one]) == pytest.approx(choose([one], truth)([one]), abs=1e-3)

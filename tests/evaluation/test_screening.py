"""Screening: the threshold that validation chooses, and what it finds and spares."""

import numpy as np
import pandas as pd
import pytest
import torch
from multitask_images import HEALTHY

from datasets.catalog import DataError
from utils.evaluation.screening import screening, threshold_for
from utils.training.tasks.multitask import decide


def probabilities_of(tumour):
    tumour = np.asarray(tumour)[:, None]
    return np.hstack([0.6 * tumour, 0.3 * tumour, 1 - tumour, 0.1 * tumour])


def test_the_threshold_is_the_most_sensitive_of_those_specific_enough():
    truth = np.array([2] * 20 + [0] * 10)
    healthy = np.linspace(0.05, 0.62, 20)  # the two highest: .59 and .62
    p = probabilities_of([*healthy, *np.linspace(0.55, 0.95, 10)])
    for share in (0, 1, 2, float("nan")):
        with pytest.raises(DataError, match=f"specificity={share}: a share between 0 and 1"):
            threshold_for(p, truth, HEALTHY, specificity=share)
    threshold = threshold_for(p, truth, HEALTHY, specificity=0.95)
    called = decide(torch.tensor(p), HEALTHY, threshold).numpy() != HEALTHY
    assert (~called[:20]).mean() >= 0.95
    better = [t for t in np.linspace(0, 1, 500) if ((1 - p[:20, 2]) < t).mean() >= 0.95]
    assert called[20:].mean() == max(((1 - p[20:, 2]) >= t).mean() for t in better)
    assert np.isnan(threshold_for(p[:20], truth[:20], HEALTHY)) and np.isnan(threshold_for(p[20:], truth[20:], HEALTHY))


def test_a_threshold_that_calls_nothing_a_tumour_is_one():
    p = probabilities_of([0.9, 0.9, 0.2])
    threshold = threshold_for(p, np.array([2, 2, 0]), HEALTHY)
    assert threshold == 1.0 and (decide(torch.tensor(p), HEALTHY, threshold) == HEALTHY).all()


def test_screening_counts_tumours_found_and_healthy_left_alone():
    table = pd.DataFrame(
        {
            "label": ["glioma", "glioma", "pituitary", "notumor", "notumor"],
            "predicted": ["glioma", "notumor", "glioma", "notumor", "glioma"],
            "screened": ["glioma", "notumor", "notumor", "notumor", "notumor"],
            "group": list("abcde"),
        }
    )
    found = screening(table, resamples=50)
    values = {
        rule: [entry[m]["value"] for m in ("sensitivity", "specificity", "accuracy")] for rule, entry in found.items()
    }
    assert values["S0"] == pytest.approx([2 / 3, 1 / 2, 2 / 5], abs=1e-6)
    assert values["validation"] == pytest.approx([1 / 3, 1.0, 3 / 5], abs=1e-6)
    assert found["validation"]["specificity"]["low"] == pytest.approx(0.025 ** (1 / 2), abs=1e-6), "two of two patients"
    assert found["S0"]["sensitivity"]["low"] <= 2 / 3 <= found["S0"]["sensitivity"]["high"]
    assert set(screening(table.assign(screened=np.nan), resamples=5)) == {"S0"}, "no threshold, as read from a file"
    healthy = screening(table[3:], resamples=5)["S0"]
    assert healthy["sensitivity"]["value"] is None and healthy["specificity"]["value"] == 0.5

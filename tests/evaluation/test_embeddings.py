"""The test for distribution shift finds a shift and no other."""

import numpy as np
import pytest

from utils.evaluation import embeddings
from utils.evaluation.embeddings import two_sample


def sample(n, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, (n, 8)).astype(np.float32)


def names(n, each=2):
    return np.array([f"p{i // each}" for i in range(n)])


def test_two_samples_of_one_kind_are_not_separated_and_shifted_ones_are():
    same = two_sample(sample(80), sample(60, seed=1), names(80), names(60), permutations=19)
    assert 0.3 < same["auc"] < 0.7 and same["p"] > 0.05
    moved = two_sample(sample(80), sample(60, 1.0, seed=1), names(80), names(60), permutations=19)
    assert moved["auc"] > 0.9 and moved["p"] == pytest.approx(1 / 20) and (moved["val"], moved["test"]) == (80, 60)
    assert np.isnan(two_sample(sample(8), sample(8), names(8), names(8))["auc"]), "of four patients"


def test_chance_is_measured_with_whole_patients():
    """Twelve patients far apart, no shift: p is rarely small. With images permuted one by one it often would be."""
    small = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        slices = rng.normal(0, 3, (12, 8)).repeat(10, axis=0) + rng.normal(0, 0.3, (120, 8))
        found = two_sample(slices[:60], slices[60:], names(60, 10), 6 + np.arange(60) // 10, permutations=19)
        small.append(found["p"] <= 0.05)
    assert np.mean(small) <= 0.2


def test_patients_in_both_samples_neither_hide_nor_feign_a_shift():
    """Twenty patients far apart, most of whose images are in one sample and a few in the other: no shift.

    Were the two halves of a patient held out apart, the score would be far below .5.
    """
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(20), 6)
        images = rng.normal(0, 3, (20, 20))[patient] + rng.normal(0, 1, (120, 20))
        mostly_val, few = rng.random(20)[patient] < 0.35, np.arange(120) % 6 == 0
        val, test = mostly_val | few, ~mostly_val | few
        same = two_sample(images[val], images[test], names(120, 6)[val], names(120, 6)[test], permutations=1)
        found.append(same["auc"])
    assert 0.42 < np.mean(found) < 0.62
    assert two_sample(images, images + 2, names(120, 6), names(120, 6), permutations=1)["auc"] > 0.9


def test_the_table_has_a_row_for_each_class_that_can_be_compared():
    features = {"val": sample(60), "test": sample(40, seed=1)}
    labels = {"val": np.repeat(["a", "b"], 30), "test": np.repeat(["a", "c"], 20)}
    groups = {part: names(len(x)) for part, x in features.items()}
    found = embeddings.shift_table(features, labels, groups, ["a", "b", "c"], permutations=10)
    assert list(found.index) == ["a"] and list(found.columns) == ["val", "test", "auc", "p"]
    assert found.loc["a", ["val", "test"]].tolist() == [30, 20]

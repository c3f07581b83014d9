"""Differences of two methods on the same images: the mean over seeds, a test that knows groups, and the verdict."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.compare import BETTER, NO_DIFFERENCE, WORSE, Difference, corrected, dice, difference, mean_score


def predictions(right, groups=None, label="a") -> pd.DataFrame:
    names = [f"{i:03}" for i in range(len(right))]
    table = pd.DataFrame({"path": names, "label": label, "predicted": np.where(right, label, "other")})
    return table.assign(group=names if groups is None else groups)


def first(count: int, label: str = "a") -> pd.DataFrame:
    return predictions(np.arange(100) < count, label=label)


def test_the_difference_is_taken_image_by_image_in_any_order():
    one, other = predictions([1, 1, 0, 1], list("wxyz")), predictions([1, 0, 0, 0], list("wxyz"))
    found = difference(one.sample(frac=1, random_state=1), other)
    assert found.value == 0.5 and found.low <= 0.5 <= found.high and (found.before, found.after) == (0.25, 0.75)
    assert found.p == pytest.approx(0.5), "of four ways to exchange two groups two are as far from 0"
    assert difference(one, one) == Difference(0.0, 0.0, 0.0, p=1.0, before=0.75, after=0.75)


def test_many_slices_of_few_patients_prove_little():
    right = np.repeat([1, 1, 1], 100)
    clustered = difference(predictions(right, np.repeat(list("abc"), 100)), predictions(1 - right))
    assert clustered.p == pytest.approx(0.25), "three patients can be exchanged in eight ways"
    assert 0 < difference(predictions(right), predictions(1 - right)).p < 0.001


def test_a_difference_of_several_seeds_has_the_test_of_their_mean():
    ours, reference = [first(68), first(70)], [first(60), first(75)]
    found = difference(ours, reference)
    assert found.value == pytest.approx(0.015) and found.by_seed == (0.08, -0.05)
    assert found.p > 0.1, "one seed speaks against it"
    assert difference(ours[:1], reference[:1]).p == pytest.approx(2 / 2**8)
    both = mean_score(ours)
    assert both["value"] == 0.69 == found.after and both["low"] < 0.69 < both["high"]


@pytest.mark.parametrize("other", [first(100).iloc[:99], first(90, label="b")])
def test_other_images_or_labels_are_not_compared(other):
    assert difference(first(90), other) is None
    assert difference([first(90), other], [first(90), first(90)]) is None, "of the second seed"


def test_many_comparisons_are_corrected_for():
    family = [Difference(0.1, 0.05, 0.2, p=p) for p in (0.01, 0.5)]
    found = corrected([None, family[0], Difference(0.1, 0.05, 0.2), family[1]])
    assert [found[k].p_corrected for k in (1, 3)] == pytest.approx([0.03, 0.75])  # by hand: p · m · (1 + 1/2) / rank
    assert found[0] is None and found[2].p_corrected is None and corrected([]) == []
    assert corrected(family[:1])[0].p_corrected == 0.01, "one comparison is not corrected"


@pytest.mark.parametrize(
    ("entry", "verdict", "words"),
    [
        ({}, BETTER, "+2.0 (+1.0 to +3.0) points"),
        ({"value": -0.02, "low": -0.03, "high": -0.01, "p": 0.049}, WORSE, "-2.0 (-3.0 to -1.0) points"),
        ({"low": 0.0}, NO_DIFFERENCE, "an interval that includes 0: no difference"),
        ({"low": None, "high": None}, NO_DIFFERENCE, "+2.0 points, without an interval"),
        ({"p": 0.05}, NO_DIFFERENCE, "p = 0.050: no"),
        ({"p": 0.01, "p_corrected": 0.06}, NO_DIFFERENCE, "p = 0.060 after correction: no"),
        ({"p": 0.2, "p_corrected": 0.04}, BETTER, "points"),
        ({"by_seed": (0.05, -0.01)}, NO_DIFFERENCE, "not of one sign for every seed"),
    ],
)
def test_a_verdict_needs_interval_test_and_seeds(entry, verdict, words):
    found = Difference(**{"value": 0.02, "low": 0.01, "high": 0.03} | entry)
    assert found.verdict == verdict and words in str(found) and bool(found.why) == (verdict == NO_DIFFERENCE)


def test_masks_are_compared_patient_by_patient_without_a_test():
    table = pd.DataFrame({"patient": list("ppqr"), "group": list("ppqr"), "pixels": 100, "a.hd95": 1.0})
    ours, other = (table.assign(**{"a.tp": tp, "a.fp": 5, "a.fn": 5}) for tp in ([5, 5, 5, 5], [5, 5, 0, 5]))
    found = difference(ours, other, dice(["a"]))
    assert found.value == pytest.approx(0.5 / 3, abs=1e-6) and found.after == 0.5 and found.p is None

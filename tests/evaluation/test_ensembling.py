"""An ensemble: temperatures and weights from validation, and nothing that its members do not say."""

import numpy as np
import pytest

from utils.evaluation.thresholds import choose

CLASSES, IMAGES = 4, 600


def member(rng: np.random.Generator, truth: np.ndarray, strength: float) -> np.ndarray:
    """Probabilities of a network that knows the truth as well as `strength` says, the rest is its own noise."""
    logits = rng.normal(size=(len(truth), CLASSES)) + strength * np.eye(CLASSES)[truth]
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


@pytest.fixture
def truth():
    return np.random.default_rng(0).integers(CLASSES, size=IMAGES)


def test_two_that_err_apart_are_better_together_and_one_that_guesses_is_left_out(truth):
    rng = np.random.default_rng(1)
    members = [member(rng, truth, strength) for strength in (2, 2, 0)]
    found = choose(members, truth)
    assert sum(found.weights) == pytest.approx(1) and found.weights[2] <= 0.1
    assert found.weights[0] == pytest.approx(found.weights[1], abs=0.2)
    asked = [member(rng, truth, strength) for strength in (2, 2, 0)]
    right = (found(asked).argmax(1) == truth).mean()
    assert right > max((one.argmax(1) == truth).mean() for one in asked) + 0.03
    assert found(asked).sum(1) == pytest.approx(1)


def test_members_alike_count_alike(truth):
    one = member(np.random.default_rng(2), truth, 2)
    found = choose([one, one], truth)
    assert found.weights == (0.5, 0.5) and found.temperatures[0] == found.temperatures[1]
    assert (found([one, one]).argmax(1) == one.argmax(1)).all()


def test_an_overconfident_member_is_cooled_before_it_is_weighted(truth):
    one = member(np.random.default_rng(3), truth, 2)
    sure = one**8 / (one**8).sum(1, keepdims=True)
    found = choose([sure, one], truth)
    assert found.temperatures[0] == pytest.approx(8 * found.temperatures[1], rel=0.05)
    alone = choose([one], truth)
    assert found([sure, one]) == pytest.approx(alone([one]), abs=1e-3), "the same network twice, once shouting"

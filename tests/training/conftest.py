"""Fixtures of the tests of training."""

import pytest
from small_training import run_fit

from utils.training.resume import TrainingPaused


@pytest.fixture
def paused(roots):
    """A training of four epochs, paused after the second: its folder, with two checkpoints."""
    for _ in range(2):
        with pytest.raises(TrainingPaused):
            run_fit(roots / "run", epochs=4, time_budget=0)
    return roots / "run"

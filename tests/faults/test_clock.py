"""A clock that is set back, or a node whose clock is behind: training goes on from its checkpoint to the same bytes."""

import os
import time

import pytest
from small_training import run_fit, same

from utils.training.resume import TrainingPaused

DAY = 86_400


def test_training_goes_on_when_the_clock_goes_backwards(roots, monkeypatch):
    with pytest.raises(TrainingPaused):
        run_fit(roots / "run", epochs=3, time_budget=0)
    for path in (roots / "run").iterdir():  # written by a node that is a day ahead
        os.utime(path, (time.time() + DAY, time.time() + DAY))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - DAY)
    model, trained = run_fit(roots / "run", epochs=3)
    monkeypatch.setattr(time, "time", now)
    straight, other = run_fit(roots / "straight", epochs=3)
    assert same(model.state_dict(), straight.state_dict())
    assert trained.history.drop(columns="seconds").equals(other.history.drop(columns="seconds"))

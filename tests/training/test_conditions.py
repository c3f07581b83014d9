"""A training that is resumed under other conditions says so, in a warning and in its record."""

import os

import pytest
from small_training import run_fit

from utils.report.records import training_facts
from utils.training import environment

CONDITIONS = {"processes": "2", "threads": "64", "code": "0123abc", "torch": "2.0.0", "cpu": "another"}


@pytest.mark.parametrize("what", CONDITIONS)
def test_other_conditions_are_reported_and_kept_in_the_record(paused, monkeypatch, what):
    now = environment.conditions()
    monkeypatch.setattr(environment, "conditions", lambda: now | {what: CONDITIONS[what]})
    with pytest.warns(UserWarning, match=rf"goes on under other conditions \({what}: .* → {CONDITIONS[what]}\)"):
        _, trained = run_fit(paused, epochs=4)
    assert trained.changes == [f"epoch 3: {what}: {now[what]} → {CONDITIONS[what]}"]
    assert training_facts(trained)["changes"] == trained.changes
    _, again = run_fit(paused, epochs=4)
    assert again.changes == trained.changes, "a finished run is not resumed under the conditions of its reader"


def test_equal_conditions_leave_no_trace(paused, recwarn):
    _, trained = run_fit(paused, epochs=4)
    assert trained.changes == [] and "changes" not in training_facts(trained)
    assert not [w for w in recwarn if "conditions" in str(w.message)]
    assert {"processes", "threads", "cpu", "gpu", "code", "torch", "python"} <= environment.conditions().keys()


def test_a_checkout_without_git_has_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    environment.git_revision.cache_clear()
    try:
        assert environment.git_revision() == ""
    finally:
        environment.git_revision.cache_clear()

"""Damaged checkpoints: bytes other than those written are never loaded, and the checkpoint before takes their place."""

import warnings

import pytest
import torch
from mutations import mutations
from small_training import run_fit, same

from datasets.catalog import DataError
from utils import files
from utils.training.resume import TrainingPaused


def test_no_mutated_checkpoint_is_taken_up(paused):
    path, tried = paused / "checkpoint.pt", 0
    for content in mutations(path.read_bytes()):
        path.write_bytes(content)
        assert files.damage(path), "its bytes are not those that were written"
        tried += 1
    assert tried > 50


def test_of_a_damaged_checkpoint_the_one_before_goes_on_to_the_same_bytes(paused, roots):
    path = paused / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1000] + bytes(1000))
    with pytest.warns(UserWarning, match=r"run/checkpoint\.pt: damaged .* epoch 1, .*checkpoint\.before\.pt"):
        model, trained = run_fit(paused, epochs=4)
    straight, other = run_fit(roots / "straight", epochs=4)
    assert same(model.state_dict(), straight.state_dict()) and list(trained.history.epoch) == [1, 2, 3, 4]
    assert trained.history.drop(columns="seconds").equals(other.history.drop(columns="seconds"))
    assert not files.damage(paused / "checkpoint.pt") and not files.damage(paused / "checkpoint.before.pt")


def test_a_damaged_checkpoint_never_becomes_the_one_before(paused):
    """Killed right after it went on from the one before, it must find a good one again."""
    path = paused / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(TrainingPaused):
        run_fit(paused, epochs=4, time_budget=0)
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(TrainingPaused, match="after epoch 2"):
        run_fit(paused, epochs=4, time_budget=0)


def test_without_a_good_one_both_are_named_and_nothing_is_trained(paused):
    for name in ("checkpoint.pt", "checkpoint.before.pt"):
        (paused / name).write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"checkpoint\.pt: not a readable checkpoint .*checkpoint\.before\.pt.* delete"):
        run_fit(paused, epochs=4)


def test_killed_between_two_names_it_goes_on_from_the_one_before(paused, roots):
    (paused / "checkpoint.pt").unlink()
    first = torch.load(paused / "checkpoint.before.pt")["history"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing is damaged
        model, trained = run_fit(paused, epochs=4)
    assert trained.history.seconds[0] == first[0]["seconds"], "the first epoch was not trained again"
    assert same(model.state_dict(), run_fit(roots / "straight", epochs=4)[0].state_dict())


def test_two_checkpoints_are_kept_whatever_the_number_of_epochs(roots):
    run_fit(roots / "one", epochs=1)
    assert sorted(p.name for p in (roots / "one").glob("check*")) == ["checkpoint.pt"]
    run_fit(roots / "run", epochs=4)
    kept = [torch.load(roots / "run" / name)["history"] for name in ("checkpoint.pt", "checkpoint.before.pt")]
    assert [len(history) for history in kept] == [4, 3]
    assert len(list((roots / "run").glob("check*"))) == 2

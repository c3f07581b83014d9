"""The hyperparameter search resumes where it was interrupted."""

import pytest

from datasets.catalog import DataError
from utils.evaluation.search import search
from utils.training.loop import TrainingDiverged


def test_a_search_that_was_killed_goes_on_with_the_same_point(tmp_path):
    tried, folders = [], []

    def accuracy(changes, folder):
        tried.append(changes)
        folders.append(folder)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return changes["lr"]

    with pytest.raises(KeyboardInterrupt):
        search(accuracy, 5, tmp_path)
    table = search(accuracy, 5, tmp_path)
    assert len(table) == 5 and len(tried) == 6, "what was finished is not done again"
    assert tried[3] == tried[2] and folders[3] == folders[2], "its checkpoint is found again"
    assert len({str(changes) for changes in tried}) == 5, "no other point twice"
    assert table.accuracy.is_monotonic_decreasing
    assert len(search(accuracy, 6, tmp_path)) == 6
    (tmp_path / "search.journal").write_text("rubbish\n")
    with pytest.raises(DataError, match=r"search.journal: not a readable journal"):
        search(accuracy, 6, tmp_path)


def test_a_trial_that_diverges_is_counted_and_not_tried_again(tmp_path):
    tried = []

    def accuracy(changes, folder):
        tried.append(changes)
        if len(tried) in (1, 3):
            raise TrainingDiverged("epoch 1: the loss is nan")
        return changes["lr"]

    table = search(accuracy, 4, tmp_path)
    assert len(table) == 2 and len(tried) == 4 and len({str(changes) for changes in tried}) == 4
    assert len(search(accuracy, 4, tmp_path)) == 2 and len(tried) == 4, "not at the next start either"


def test_a_search_without_any_trial_that_ended_says_so(tmp_path):
    def accuracy(changes, folder):
        raise TrainingDiverged("epoch 1: the loss is nan")

    with pytest.raises(DataError, match=r"none of 2 trials came to an end; the first: epoch 1: the loss is nan"):
        search(accuracy, 2, tmp_path)
    with pytest.raises(DataError, match="-1 trials: at least one is wanted"):
        search(accuracy, -1, tmp_path)

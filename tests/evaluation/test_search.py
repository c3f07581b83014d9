"""The hyperparameter search goes the same way again, and what diverges is counted."""

import pytest

from datasets.catalog import DataError
from utils.evaluation.search import search
from utils.training.loop import TrainingDiverged


class Trials:
    """Stands in for training: the rate is the accuracy, but some trials fail."""

    def __init__(self, **failing: type[BaseException]):
        self.failing, self.points, self.folders = {int(k[1:]): error for k, error in failing.items()}, [], []

    def __call__(self, changes, folder):
        self.points.append(changes)
        self.folders.append(folder)
        if error := self.failing.get(len(self.points)):
            raise error("epoch 1: the loss is nan")
        return changes["lr"]


def test_a_search_that_was_killed_goes_on_with_the_same_points_in_the_same_folders(tmp_path):
    killed, again, whole = Trials(n7=KeyboardInterrupt), Trials(), Trials()
    with pytest.raises(KeyboardInterrupt):
        search(killed, 8, tmp_path)
    table = search(again, 8, tmp_path)
    assert table.equals(search(whole, 8, tmp_path)) and len(table) == 8 and table.accuracy.is_monotonic_decreasing
    assert killed.points == again.points[:7] and killed.folders == again.folders[:7]
    assert len(set(again.folders)) == 8, "no point twice"
    more = search(longer := Trials(), 9, tmp_path)
    assert longer.points[:8] == again.points and len(more) == 9


def test_a_trial_that_diverges_is_counted_and_told_to_nobody(tmp_path):
    trials = Trials(n1=TrainingDiverged, n3=TrainingDiverged)
    table = search(trials, 4, tmp_path)
    assert table.trial.tolist() == sorted(table.trial, key=lambda k: -trials.points[k]["lr"])
    assert set(table.trial) == {1, 3} and len(trials.points) == 4


@pytest.mark.parametrize(
    ("budget", "message"),
    [(2, r"none of 2 trials came to an end; the first: epoch 1: the loss is nan"), (-1, "-1 trials: at least one")],
)
def test_a_search_without_any_trial_that_ended_says_so(tmp_path, budget, message):
    with pytest.raises(DataError, match=message):
        search(Trials(n1=TrainingDiverged, n2=TrainingDiverged), budget, tmp_path)

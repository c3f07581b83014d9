"""The hyperparameter search goes the same way again, and what diverges is counted."""

from types import SimpleNamespace

import pandas as pd
import pytest

from datasets.catalog import DataError
from utils.evaluation.search import search
from utils.recipes import get_recipe
from utils.training.loop import TrainingDiverged


@pytest.fixture
def trials(monkeypatch, tmp_path):
    """Searches with training stood in for: the rate is the accuracy, but some trials fail."""

    def run(budget, **failing):
        failing, made = {int(k[1:]): error for k, error in failing.items()}, []

        def fit(model, task, train, val, recipe, *, folder, seed, accelerator):
            made.append((recipe.lr, recipe.unfreeze, folder))
            if error := failing.get(len(made)):
                raise error("epoch 1: the loss is nan")
            return SimpleNamespace(history=pd.DataFrame({"val_accuracy": [0.0, recipe.lr]}))

        monkeypatch.setattr("utils.evaluation.search.fit", fit)
        recipe, others = get_recipe("ours", "SqueezeNet"), {"folder": tmp_path, "seed": 0, "accelerator": None}
        try:
            return search(lambda: None, None, None, None, recipe, budget=budget, **others), made
        except KeyboardInterrupt:
            return None, made

    return run


def test_a_search_that_was_killed_goes_on_with_the_same_points_in_the_same_folders(trials):
    _, killed = trials(8, n7=KeyboardInterrupt)
    (table, again), (whole, _), (more, longer) = trials(8), trials(8), trials(9)
    assert table.equals(whole) and len(table) == 8 and table.accuracy.is_monotonic_decreasing
    assert killed == again[:7] == longer[:7] and longer[:8] == again and len(more) == 9
    assert len({folder for *_, folder in again}) == 8, "no point twice"


def test_a_trial_that_diverges_is_left_out(trials):
    table, made = trials(4, n1=TrainingDiverged, n3=TrainingDiverged)
    assert set(table.trial) == {1, 3} and len(made) == 4
    assert table.lr.tolist() == sorted((made[k][0] for k in (1, 3)), reverse=True)


@pytest.mark.parametrize(("budget", "message"), [(2, "each of 2 trials diverged"), (-1, "-1 trials: at least one")])
def test_a_search_without_any_trial_that_ended_says_so(trials, budget, message):
    with pytest.raises(DataError, match=message):
        trials(budget, n1=TrainingDiverged, n2=TrainingDiverged)

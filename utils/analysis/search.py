"""Searches learning rate and unfrozen layers, as S1 and S4 wished for, on a budget of trials, by validation only.

Optuna proposes and records; an interrupted search resumes where it stopped, its last trial from its checkpoint.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
from accelerate.utils import set_seed
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from torch import nn

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from utils.recipes.recipe import Recipe
from utils.training.loop import fit

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
    "unfreeze": CategoricalDistribution(("none", 0.1, 0.3, "all")),
}


def on_validation(
    build: Callable[[], nn.Module], task, train: ImageDataset, val: ImageDataset, recipe: Recipe, seed: int, **options
) -> Callable[[dict[str, object], Path], float]:
    """The function that `search` calls: it trains `build()` by `recipe` with changes, in a folder, and returns the
    accuracy on `val` after the last epoch. `options` are those of `loop.fit`."""

    def accuracy(changes: dict[str, object], folder: Path) -> float:
        set_seed(seed)
        done = fit(build(), task, train, val, replace(recipe, **changes), folder=folder, seed=seed, **options)
        return float(done.history.val_accuracy.iloc[-1])

    return accuracy


def search(
    accuracy: Callable[[dict[str, object], Path], float], budget: int, folder: Path, seed: int = 0
) -> pd.DataFrame:
    """Try up to `budget` points of `SPACE` and return them all, best first.

    Args:
        accuracy: trains with the changes {"lr", "unfreeze"} to a recipe, in the folder given, and returns the accuracy
            on validation images. Called again with the same two after an interruption.
        folder: keeps the journal; with a larger `budget` the search continues.

    Returns:
        A row a trial: trial, lr, unfreeze, accuracy.

    Raises:
        DataError: the journal is not readable.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "search.journal"
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    except (json.JSONDecodeError, KeyError, ValueError) as error:
        raise DataError(f"{journal}: not a readable journal ({error}). Delete it to start the search again.") from error
    # Another seed at every start: with the same one it would propose the first points again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=5)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a kill left it: the same point is tried again
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    while len(done := study.get_trials(states=(TrialState.COMPLETE,))) < budget:
        trial = study.ask(SPACE)
        name = "-".join(f"{value:.3g}" if isinstance(value, float) else value for value in trial.params.values())
        study.tell(trial, accuracy(trial.params, folder / name))
    rows = [{"trial": t.number, **t.params, "accuracy": t.value} for t in done]
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)

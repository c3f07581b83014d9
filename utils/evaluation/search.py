"""Searches learning rate and unfrozen layers, as S1 and S4 wished for, on a budget of trials, by validation only.

Optuna proposes from a seed and what the trials before have reached. So a search that was interrupted and is started
again goes the same way: what was trained is read from its checkpoint, and the last trial resumes from its own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from utils.recipes.recipe import Recipe
from utils.training.loop import TrainingDiverged, fit

UNFREEZE = ("none", 0.1, 0.3, "all")


def search(
    build: Callable[[], nn.Module],
    task,
    train: ImageDataset,
    val: ImageDataset,
    recipe: Recipe,
    *,
    budget: int,
    folder: Path,
    seed: int,
    accelerator: Accelerator,
) -> pd.DataFrame:
    """Train `build()` by `recipe` with `budget` pairs of rate and unfrozen layers, each in a folder inside `folder`.

    Returns:
        A row a trial that did not diverge: trial, lr, unfreeze, and the accuracy on `val` after its last epoch, best
        first. With a larger `budget` a search continues.

    Raises `DataError`: a budget of no trial, or all trials diverged; checkpoints in `folder` of another search.
    """
    if budget < 1:
        raise DataError(f"{budget} trials: at least one is wanted")

    def accuracy(trial: optuna.Trial) -> float:
        changes = {"lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True)}
        changes |= {"unfreeze": trial.suggest_categorical("unfreeze", UNFREEZE)}
        set_seed(seed)
        options = {"folder": folder / "-".join(map(str, changes.values())), "seed": seed, "accelerator": accelerator}
        done = fit(build(), task, train, val, replace(recipe, **changes), **options)
        return float(done.history.val_accuracy.iloc[-1])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(accuracy, n_trials=budget, catch=TrainingDiverged)  # it warns of each that diverged
    ended = [{"trial": t.number, **t.params, "accuracy": t.value} for t in study.trials if t.value is not None]
    if not ended:
        raise DataError(f"{folder}: each of {budget} trials diverged")
    return pd.DataFrame(ended).sort_values("accuracy", ascending=False, ignore_index=True)

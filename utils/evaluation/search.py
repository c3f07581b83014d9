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
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from utils.recipes.recipe import Recipe
from utils.training.loop import TrainingDiverged, fit, make_accelerator

SPACE = {"lr": FloatDistribution(1e-4, 1e-2, log=True), "unfreeze": CategoricalDistribution(("none", 0.1, 0.3, "all"))}


def on_validation(
    build: Callable[[], nn.Module],
    task,
    train: ImageDataset,
    val: ImageDataset,
    recipe: Recipe,
    seed: int,
    accelerator: Accelerator | None = None,
) -> Callable[[dict[str, object], Path], float]:
    """The function that `search` calls: it trains `build()` by `recipe` with changes, in a folder, and returns the
    accuracy on `val` after the last epoch."""
    accelerator = accelerator or make_accelerator(seed=seed)

    def accuracy(changes: dict[str, object], folder: Path) -> float:
        set_seed(seed)
        options = {"folder": folder, "seed": seed, "accelerator": accelerator}
        done = fit(build(), task, train, val, replace(recipe, **changes), **options)
        return float(done.history.val_accuracy.iloc[-1])

    return accuracy


def search(
    accuracy: Callable[[dict[str, object], Path], float], budget: int, folder: Path, seed: int = 0
) -> pd.DataFrame:
    """Try `budget` points of `SPACE`: a row a trial that did not diverge (trial, lr, unfreeze, accuracy), best first.
    With a larger `budget` a search continues.

    `accuracy` trains with the changes {"lr", "unfreeze"} to a recipe, in the folder given, and returns the accuracy on
    validation images; it is called for each trial again when the search is started again (`on_validation`).

    Raises:
        DataError: a budget of no trial, or all trials diverged; checkpoints in `folder` of another search.
    """
    if budget < 1:
        raise DataError(f"{budget} trials: at least one is wanted")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    study, rows, diverged = optuna.create_study(direction="maximize", sampler=sampler), [], []
    for _ in range(budget):
        trial = study.ask(SPACE)
        try:  # each in the folder of its own values, all digits of them
            reached = accuracy(trial.params, folder / "-".join(map(str, trial.params.values())))
        except TrainingDiverged as error:
            diverged.append(error)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        study.tell(trial, reached)
        rows.append({"trial": trial.number, **trial.params, "accuracy": reached})
    if not rows:
        raise DataError(f"{folder}: none of {budget} trials came to an end; the first: {diverged[0]}")
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)

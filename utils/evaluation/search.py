"""Searches learning rate and unfrozen layers, as S1 and S4 wished for, on a budget of trials, by validation only.

Optuna proposes and records; an interrupted search resumes where it stopped, its last trial from its checkpoint.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import set_seed
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from torch import nn

from datasets.catalog import DataError
from datasets.reading import reading
from datasets.store.images import ImageDataset
from utils.recipes.recipe import Recipe
from utils.training.loop import TrainingDiverged, fit, make_accelerator
from utils.training.resume import changed, facts_of

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
    "unfreeze": CategoricalDistribution(("none", 0.1, 0.3, "all")),
}


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
    accuracy on `val` after the last epoch. Its attribute `identity` is what all its trials have in common."""
    accelerator = accelerator or make_accelerator(seed=seed)

    def network() -> nn.Module:
        set_seed(seed)
        return build()

    def accuracy(changes: dict[str, object], folder: Path) -> float:
        options = {"folder": folder, "seed": seed, "accelerator": accelerator}
        done = fit(network(), task, train, val, replace(recipe, **changes), **options)
        return float(done.history.val_accuracy.iloc[-1])

    accuracy.identity = facts_of(network(), task, train, val, recipe, seed, accelerator.mixed_precision)
    return accuracy


DIVERGED = "diverged"  # of a trial: what its training said


def search(
    accuracy: Callable[[dict[str, object], Path], float], budget: int, folder: Path, seed: int = 0
) -> pd.DataFrame:
    """Try up to `budget` points of `SPACE` and return them all, best first.

    Args:
        accuracy: trains with the changes {"lr", "unfreeze"} to a recipe, in the folder given, and returns the accuracy
            on validation images. Called again with the same two after an interruption. The journal keeps its
            `identity`, where it has one (`on_validation`).
        folder: keeps the journal; with a larger `budget` the search continues.

    Returns:
        A row a trial that did not diverge: trial, lr, unfreeze, accuracy.

    Raises:
        DataError: a budget of no trial, or all trials diverged; the journal is not readable, or of another search:
            other data, model, recipe or seed.
    """
    if budget < 1:
        raise DataError(f"{budget} trials: at least one is wanted")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "search.journal"
    with reading(journal, "delete it to start the search again", "not a readable journal"):
        _whole_lines(journal)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    if identity := getattr(accuracy, "identity", None):
        belongs_to(study, identity, journal)
    # Another seed at every start: with the same one it would propose the first points again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=5)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a kill left it: the same point is tried again
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    while len(done := study.get_trials(states=(TrialState.COMPLETE,))) + len(_diverged(study)) < budget:
        trial = study.ask(SPACE)
        try:  # each in the folder of its own values, all digits of them
            study.tell(trial, accuracy(trial.params, folder / "-".join(map(str, trial.params.values()))))
        except TrainingDiverged as error:  # as it would again, from the same seed
            trial.set_user_attr(DIVERGED, str(error))
            study.tell(trial, state=TrialState.FAIL)
    if not done:
        raise DataError(f"{journal}: none of {budget} trials came to an end; the first: {_diverged(study)[0]}")
    rows = [{"trial": t.number, **t.params, "accuracy": t.value} for t in done]
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def _diverged(study: optuna.Study) -> list[str]:
    """Of each trial that diverged, what its training said."""
    failed = study.get_trials(states=(TrialState.FAIL,))
    return [trial.user_attrs[DIVERGED] for trial in failed if DIVERGED in trial.user_attrs]


def _whole_lines(journal: Path) -> None:
    """Cut off a last line that a kill left half written, and raise an error where another line is no JSON: optuna would
    append to the half line, and fail at the next start."""
    if not journal.is_file():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for line in whole.splitlines():
        json.loads(line)
    if whole != content:
        os.truncate(journal, len(whole))


def belongs_to(study: optuna.Study, whose: dict, journal: Path) -> None:
    """Write into a new study whose it is; raises `DataError` where one with trials is another's."""
    if not study.trials:
        study.set_user_attr("identity", whose)
        return
    saved = study.user_attrs.get("identity")
    other = changed(saved, whose) if saved else "it does not say what was trained on"
    if other:
        raise DataError(f"{journal}: belongs to another search ({other}). Delete {journal.parent} to search anew.")

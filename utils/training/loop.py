"""The training loop: `fit(model, task, train, val, recipe)`; `fit_stage` shows it on one screen.

It knows neither the model nor the loss (`tasks.py`) nor the rates (`recipes`). Accelerate carries device, precision
and data parallelism. Stopped at any moment and started again, a CPU run ends with the same bytes (`checkpoint.py`).
"""

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, set_seed
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from datasets.store.index import fingerprint
from utils.recipes.recipe import Recipe
from utils.training.checkpoint import Checkpoint, TrainingPaused, state_of
from utils.training.finetuning import freeze, parameter_groups
from utils.training.graphs import recorded
from utils.training.identity import Identity, identity_of, recipe_facts
from utils.training.loading import epoch_seed, make_loader
from utils.training.lock import held
from utils.training.optimisation import make_optimizer, make_scheduler


class TrainingDiverged(Exception):
    """A loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class Fit:
    """The result of training.

    Attributes:
        history: a row an epoch.
        epoch: the epoch (1-based) whose weights the model now has.
        data: the fingerprint of the data set that it was trained on.
        changes: a line for each time that it was resumed under other conditions (`environment.py`).
        conditions: those of the last epoch.
    """

    history: pd.DataFrame
    epoch: int
    data: dict[str, str | int] | None = None
    changes: list[str] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Training time of all epochs, interruptions left out."""
        return float(self.history.seconds.sum())


def make_accelerator(precision: str = "no", seed: int = 0) -> Accelerator:
    """Accelerator of a run: `precision` "no" or "bf16"; the recipe's batch is split among the processes."""
    loading = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed)
    # Without a GPU, Accelerate joins the processes that torchrun started only when it has to stay on the CPU.
    # Apple's MPS has no float64, which the metrics of an epoch need.
    cpu = not torch.accelerator.is_available() or torch.accelerator.current_accelerator().type == "mps"
    # Else DDP puts gradients into other buckets after its first step, a resumed training one step after its start:
    # sums of three processes and more would be rounded in another order, and the weights would differ.
    same_buckets = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=cpu, mixed_precision=precision, dataloader_config=loading, kwargs_handlers=[same_buckets])


def fit(
    model: nn.Module,
    task,
    train: ImageDataset,
    val: ImageDataset,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int = 0,
    time_budget: float | None = None,
    accelerator: Accelerator | None = None,
    callback: Callable[[nn.Module, int], dict[str, float]] | None = None,
) -> Fit:
    """Train `model` in place by `recipe`, each of its stages from the weights that the one before has kept.

    It resumes from `folder` when a checkpoint lies there. The history counts epochs through and names the stage of
    each; `epoch` is the one kept by the last stage.

    Args:
        folder: receives a checkpoint after every epoch; a file `STOP` in it, or the file that `$BRAIN_MRI_STOP` names,
            ends training after the current epoch.
        seed: order of batches, dropout and augmentation follow from it and the epoch alone.
        time_budget: seconds after which training ends with the current epoch.
        callback: called after every epoch with the model, in evaluation, and the epoch; its values join the history.

    Raises:
        TrainingPaused: ended early; the same call resumes it.
        TrainingDiverged: a loss, of training or validation, or a weight became NaN or infinite; the last good epoch is
            in the checkpoint.
        DataError: the checkpoint belongs to another training: other data, split, model, weights to begin with, recipe,
            seed or precision, which it names (`identity.py`); or another process trains this run (`lock.py`); or the
            processes cannot share a batch alike.
    """
    accelerator = accelerator or make_accelerator(seed=seed)
    started, histories, stages, before, done = time.monotonic(), [], recipe.in_stages(), 0, None
    whose = identity_of(model, task, train, val, accelerator.mixed_precision)
    data = fingerprint(train.facts.name)
    least = 2 if any(isinstance(module, nn.BatchNorm1d) for module in model.modules()) else 1  # one has no variance
    for stage in stages:
        shared_alike(stage.batch_size, accelerator.num_processes, least)
    with held(Path(folder), accelerator):
        for stage in stages:
            done = fit_stage(
                model,
                task,
                train,
                val,
                stage,
                folder=folder,
                seed=seed,
                time_budget=None if time_budget is None else max(0.0, time_budget - (time.monotonic() - started)),
                accelerator=accelerator,
                identity=whose.plus(recipe_facts(stage, seed)),
                callback=callback,
                earlier=done,
                more_follows=stage is not stages[-1],
            )
            before = sum(map(len, histories))
            history = done.history.assign(epoch=done.history.epoch + before)
            histories.append(history.assign(stage=stage.stage) if stage.stage else history)
    history = pd.concat(histories, ignore_index=True)
    return Fit(history, before + done.epoch, data, done.changes, done.conditions)


def shared_alike(batch_size: int, processes: int, least: int = 1) -> None:
    """Raise `DataError` where a batch cannot be divided among the processes into shares of one size, `least` images or
    more."""
    if batch_size % processes or batch_size // processes < least:
        *fewer, most = (str(n) for n in range(1, batch_size // least + 1) if batch_size % n == 0)
        raise DataError(
            f"a batch of {batch_size} images cannot be shared by {processes} processes alike: "
            f"start {' or '.join(filter(None, (', '.join(fewer), most)))} of them, or change the recipe's batch_size"
        )


def fit_stage(
    model: nn.Module,
    task,
    train: ImageDataset,
    val: ImageDataset,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    time_budget: float | None,
    accelerator: Accelerator,
    identity: Identity,
    callback: Callable[[nn.Module, int], dict[str, float]] | None,
    earlier: Fit | None,
    more_follows: bool,
) -> Fit:
    """One stage of `fit`: `recipe` has no stages; `earlier` is the result of the stage before. `more_follows`: more
    stages follow, so training may also pause after the last epoch."""
    checkpoint, started = Checkpoint(folder, recipe.stage, identity, accelerator), time.monotonic()
    if earlier:
        checkpoint.changes, checkpoint.conditions = earlier.changes, earlier.conditions
    task.to(accelerator.device)
    freeze(model, recipe)
    optimizer = make_optimizer(recipe, parameter_groups(model, recipe), task.parameters())
    batches = (
        make_loader(train, recipe.batch_size, training=True, sampling=recipe.sampling, seed=seed),
        make_loader(val, recipe.batch_size),
    )
    scheduler = make_scheduler(recipe, optimizer, len(batches[0]))
    history, best = checkpoint.load(model, task, optimizer, scheduler)
    prepared, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, *batches)

    by_batch = scheduler.step if scheduler and recipe.schedule_step == "batch" else None

    with recorded(prepared, accelerator, recipe.accumulate):
        for epoch in range(len(history), recipe.epochs):
            if stalled(history, f"val_{task.monitor}", recipe.patience):
                break
            checkpoint.compare_conditions(epoch + 1)
            epoch_started = time.monotonic()
            set_seed(epoch_seed(seed, epoch), device_specific=True)
            train_loader.set_epoch(epoch)
            row = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]}
            row |= train_epoch(
                prepared, task, train_loader, optimizer, accelerator, title(epoch, recipe), by_batch, recipe.accumulate
            )
            row |= validate(prepared, task, val_loader, accelerator)
            refuse_poisoned(row["val_loss"], model, task, title(epoch, recipe), accelerator)
            if scheduler and not by_batch:
                scheduler.step(*([row["val_loss"]] if isinstance(scheduler, ReduceLROnPlateau) else []))
            row |= callback(model, epoch + 1) if callback else {}
            row["seconds"] = time.monotonic() - epoch_started
            history.append(row)
            if recipe.select == "last" or best is None or row[f"val_{task.monitor}"] > best["value"]:
                best = {"epoch": epoch + 1, "value": row[f"val_{task.monitor}"], "model": state_of(model)}
            checkpoint.save(model, task, optimizer, scheduler, history, best)
            report(row, recipe, accelerator)
            if (more_follows or len(history) < recipe.epochs) and checkpoint.stop_wanted(started, time_budget):
                raise TrainingPaused(f"after epoch {epoch + 1} of {recipe.epochs}; run the same again to resume")

    model.load_state_dict(best["model"])
    return Fit(pd.DataFrame(history), best["epoch"], changes=checkpoint.changes, conditions=checkpoint.conditions)


def stalled(history: list[dict], monitor: str, patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than the best before them; never with 0."""
    values = [row[monitor] for row in history]
    return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])


def train_epoch(
    model, task, loader, optimizer, accelerator, bar_title: str, by_batch=None, accumulate: int = 1
) -> dict[str, float]:
    """One pass over `loader`; returns `train_loss`, the mean of what is minimised, and the metrics on the way.

    `by_batch` is called after every step, for a schedule that moves with them; `accumulate` as in `Recipe`.
    """
    model.train()
    task.train()
    metrics, total, seen = task.metrics().to(accelerator.device), 0.0, 0
    for batch in tqdm(loader, desc=bar_title, disable=quiet(accelerator), leave=False):
        inputs, targets = task.example(batch)
        optimizer.zero_grad()
        parts = divided(inputs, targets, accumulate)
        for number, (some, their) in enumerate(parts, start=1):
            # processes exchange gradients once a batch, with the last part
            with nullcontext() if number == len(parts) else accelerator.no_sync(model):
                outputs = model(some)
                loss = task.loss(outputs, their)
                accelerator.backward(loss * (len(some) / len(inputs)))
            metrics.update(outputs, their)  # torchmetrics records no gradient
            total, seen = total + loss.detach() * len(some), seen + len(some)
        optimizer.step()
        if by_batch:
            by_batch()
    mean = (accelerator.reduce(total) / accelerator.reduce(torch.tensor(seen, device=accelerator.device))).item()
    if not math.isfinite(mean):
        rate = optimizer.param_groups[0]["lr"]
        raise TrainingDiverged(f"{bar_title}: the training loss is {mean} at rate {rate:g}; try a smaller rate")
    return {f"train_{k}": v.item() for k, v in metrics.compute().items()} | {"train_loss": mean}


def divided(inputs: torch.Tensor, targets, parts: int) -> list[tuple]:
    """A batch as `parts` batches, fewer where it has fewer images; targets are a tensor or tensors by name."""
    size = -(-len(inputs) // parts)
    chosen = [slice(start, start + size) for start in range(0, len(inputs), size)]
    named = isinstance(targets, dict)
    return [(inputs[s], {k: v[s] for k, v in targets.items()} if named else targets[s]) for s in chosen]


@torch.no_grad()
def validate(model, task, loader, accelerator) -> dict[str, float]:
    """The task's metrics over `loader`, its plain loss among them, each image counted once."""
    model.eval()
    task.eval()
    metrics = task.metrics().to(accelerator.device)
    for batch in loader:
        outputs = model(task.inputs(batch))
        metrics.update(*accelerator.gather_for_metrics((outputs, task.targets(batch))))
    return {f"val_{k}": v.item() for k, v in metrics.compute().items()}


def refuse_poisoned(val_loss: float, model, task, epoch: str, accelerator: Accelerator) -> None:
    """Raise `TrainingDiverged`, on all processes, before an epoch is saved that a restart could not go on from."""
    advice = "try a smaller rate; the epoch before is in the checkpoint"
    if not math.isfinite(val_loss):
        raise TrainingDiverged(f"{epoch}: the validation loss is {val_loss}; {advice}")
    weights = [*model.state_dict().items(), *task.state_dict().items()]
    poisoned = [name for name, values in weights if values.is_floating_point() and not values.isfinite().all()]
    if accelerator.reduce(torch.tensor(len(poisoned), device=accelerator.device)):
        which = f", {poisoned[0]} first" if poisoned else ""
        raise TrainingDiverged(f"{epoch}: weights are not finite{which}; {advice}")


def title(epoch: int, recipe: Recipe) -> str:
    return f"{recipe.stage + ' ' if recipe.stage else ''}epoch {epoch + 1}/{recipe.epochs}"


def quiet(accelerator: Accelerator) -> bool:
    """No progress bar in unattended runs, and in all processes but the first."""
    return os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not accelerator.is_main_process


def report(row: dict, recipe: Recipe, accelerator: Accelerator) -> None:
    """One line an epoch on the main process."""
    if accelerator.is_main_process:
        values = " ".join(f"{k} {v:.4f}" for k, v in row.items() if k.startswith(("train_", "val_")))
        print(f"{title(row['epoch'] - 1, recipe)} {values} ({row['seconds']:.1f} s)", file=sys.stdout, flush=True)

"""The training loop: `fit` shows stages and epochs, `train_epoch` batches and steps.

It knows neither the model nor the loss (`tasks`) nor the rates (`recipes`). Accelerate carries device, precision and
data parallelism; all that makes a training go on after it was stopped is in `resume.py`.
"""

import math
import os
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
from utils.training.data import epoch_seed, make_loader
from utils.training.optimisation import freeze, make_optimizer, make_scheduler, parameter_groups
from utils.training.resume import Checkpoint, facts_of


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

    It resumes from `folder` when a checkpoint lies there.

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
            seed or precision, which it names; or another process trains this run; or the processes cannot share a
            batch alike.
    """
    accelerator = accelerator or make_accelerator(seed=seed)
    stages, data = recipe.in_stages(), fingerprint(train.facts.name)
    shared_alike(model, stages, accelerator.num_processes)
    task.to(accelerator.device)
    facts = facts_of(model, task, train, val, recipe, seed, accelerator.mixed_precision)
    with Checkpoint(folder, facts, accelerator, time_budget) as saved:
        for number, stage in enumerate(stages):
            if number < saved.stage:
                continue
            freeze(model, stage)
            optimizer = make_optimizer(stage, parameter_groups(model, stage), task.parameters())
            train_loader = make_loader(train, stage.batch_size, training=True, sampling=stage.sampling, seed=seed)
            scheduler = make_scheduler(stage, optimizer, len(train_loader))
            state = {"model": model, "task": task, "optimizer": optimizer, "scheduler": scheduler}
            done = saved.restore(number, **state)
            loaders = train_loader, make_loader(val, stage.batch_size)
            net, stepper, train_loader, val_loader = accelerator.prepare(model, optimizer, *loaders)
            by_batch = scheduler.step if scheduler and stage.schedule_step == "batch" else None
            for epoch in range(done, stage.epochs):
                if stalled([row[f"val_{task.monitor}"] for row in saved.history[saved.begun :]], stage.patience):
                    break
                saved.before_epoch()
                started = time.monotonic()
                title = f"{stage.stage} epoch {epoch + 1}/{stage.epochs}".strip()
                set_seed(epoch_seed(seed, epoch), device_specific=True)
                train_loader.set_epoch(epoch)
                row = {"epoch": len(saved.history) + 1, "lr": optimizer.param_groups[0]["lr"]}
                row |= train_epoch(net, task, train_loader, stepper, accelerator, title, by_batch, stage.accumulate)
                row |= validate(net, task, val_loader, accelerator)
                refuse_poisoned(row["val_loss"], model, task, title, accelerator)
                if scheduler and not by_batch:
                    scheduler.step(*([row["val_loss"]] if isinstance(scheduler, ReduceLROnPlateau) else []))
                row |= callback(model, row["epoch"]) if callback else {}
                row["seconds"] = time.monotonic() - started
                if stage.stage:
                    row["stage"] = stage.stage
                score = row[f"val_{task.monitor}"]
                if stage.select == "last" or saved.best is None or score > saved.best["value"]:
                    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
                    saved.best = {"epoch": row["epoch"], "value": score, "model": weights}
                stop = saved.after_epoch(row, **state)
                if accelerator.is_main_process:
                    values = " ".join(f"{k} {v:.4f}" for k, v in row.items() if k.startswith(("train_", "val_")))
                    print(f"{title} {values} ({row['seconds']:.1f} s)", flush=True)
                if stop and (epoch + 1 < stage.epochs or stage is not stages[-1]):
                    saved.pause(f"after epoch {epoch + 1} of {stage.epochs}")
            model.load_state_dict(saved.best["model"])
    return Fit(pd.DataFrame(saved.history), saved.best["epoch"], data, saved.changes, saved.conditions)


def stalled(scores: list[float], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than the best before them; never with 0."""
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])


def train_epoch(
    net, task, loader, optimizer, accelerator, title: str, by_batch: Callable | None = None, accumulate: int = 1
) -> dict[str, float]:
    """One pass over `loader`; returns `train_loss`, the mean of what is minimised, and the metrics on the way.

    `by_batch` is called after every step, for a schedule that moves with them; `accumulate` as in `Recipe`.
    """
    net.train(), task.train()
    metrics, total, seen = task.metrics().to(accelerator.device), 0.0, 0
    quiet = os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not accelerator.is_main_process
    for batch in tqdm(loader, desc=title, disable=quiet, leave=False):
        inputs, targets = task.example(batch)
        optimizer.zero_grad()
        parts = divided(inputs, targets, accumulate)
        for number, (some, their) in enumerate(parts, start=1):
            # processes exchange gradients once a batch, with the last part
            with nullcontext() if number == len(parts) else accelerator.no_sync(net):
                outputs = net(some)
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
        raise TrainingDiverged(f"{title}: the training loss is {mean} at rate {rate:g}; try a smaller rate")
    return {f"train_{k}": v.item() for k, v in metrics.compute().items()} | {"train_loss": mean}


def divided(inputs: torch.Tensor, targets, parts: int) -> list[tuple]:
    """A batch as `parts` batches, fewer where it has fewer images; targets are a tensor or tensors by name."""
    size = -(-len(inputs) // parts)
    named = targets if isinstance(targets, dict) else {"": targets}
    cut = {name: tensor.split(size) for name, tensor in named.items()}
    rest = [dict(zip(cut, some, strict=True)) for some in zip(*cut.values(), strict=True)]
    return list(zip(inputs.split(size), rest if named is targets else cut[""], strict=True))


@torch.no_grad()
def validate(net, task, loader, accelerator) -> dict[str, float]:
    """The task's metrics over `loader`, its plain loss among them, each image counted once."""
    net.eval(), task.eval()
    metrics = task.metrics().to(accelerator.device)
    for batch in loader:
        outputs = net(task.inputs(batch))
        metrics.update(*accelerator.gather_for_metrics((outputs, task.targets(batch))))
    return {f"val_{k}": v.item() for k, v in metrics.compute().items()}


def refuse_poisoned(val_loss: float, model, task, title: str, accelerator: Accelerator) -> None:
    """Raise `TrainingDiverged`, on all processes, before an epoch is saved that a restart could not go on from."""
    advice = "try a smaller rate; the epoch before is in the checkpoint"
    if not math.isfinite(val_loss):
        raise TrainingDiverged(f"{title}: the validation loss is {val_loss}; {advice}")
    weights = [*model.state_dict().items(), *task.state_dict().items()]
    poisoned = [name for name, values in weights if values.is_floating_point() and not values.isfinite().all()]
    if accelerator.reduce(torch.tensor(len(poisoned), device=accelerator.device)):
        which = f", {poisoned[0]} first" if poisoned else ""
        raise TrainingDiverged(f"{title}: weights are not finite{which}; {advice}")


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


def shared_alike(model: nn.Module, stages: list[Recipe], processes: int) -> None:
    """Raise `DataError` where a batch cannot be divided among the processes into shares of one size."""
    least = 2 if any(isinstance(m, nn.BatchNorm1d) for m in model.modules()) else 1  # one image has no variance
    for size in {stage.batch_size for stage in stages}:
        if size % processes or size // processes < least:
            able = " or ".join(str(n) for n in range(1, size // least + 1) if size % n == 0)
            raise DataError(
                f"a batch of {size} images cannot be shared by {processes} processes alike: "
                f"start {able} of them, or change the recipe's batch_size"
            )

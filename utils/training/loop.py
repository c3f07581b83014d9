"""The training loop: `fit` has stages and epochs, `train_epoch` batches and steps, `validate` what is measured.

It knows neither the loss (`tasks`) nor the rates (`recipes`). Accelerate carries device, precision and data
parallelism; what makes a training go on after it was stopped is in `resume.py`.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, broadcast_object_list, set_seed
from accelerate.utils.imports import is_tensorboard_available
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from datasets.store.index import fingerprint
from utils.recipes.recipe import Recipe
from utils.training.data import epoch_seed, make_loader
from utils.training.environment import keep_freed_memory
from utils.training.optimisation import freeze, make_optimizer, make_scheduler, parameter_groups
from utils.training.resume import facts_of, opened


class TrainingDiverged(Exception):
    """A loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class Fit:
    """The result of training."""

    history: pd.DataFrame  # a row an epoch
    epoch: int  # from 1, whose weights the model now has
    data: dict[str, str | int] | None = None  # fingerprint of the data set that it was trained on
    changes: list[str] = field(default_factory=list)  # a line for each time that it was resumed under other conditions

    @property
    def seconds(self) -> float:
        """Training time of all epochs, interruptions left out."""
        return float(self.history.seconds.sum())


def fit(
    model: nn.Module,
    task: nn.Module,
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

    Args:
        folder: receives a checkpoint after every epoch, from which the same call resumes; a file `STOP` in it, or the
            file that `$BRAIN_MRI_STOP` names, ends training after the current epoch.
        seed: order of batches, dropout and augmentation follow from it and the epoch alone.
        time_budget: seconds after which training ends with the current epoch.
        callback: called after every epoch with the model, in evaluation, and the epoch; its values join the history.

    Raises:
        TrainingPaused: ended early; the same call resumes it.
        TrainingDiverged: a loss or a weight is no longer finite; the last good epoch is in the checkpoint.
        DataError: another process trains this run; its checkpoint is of another training, whose facts are named; or
            the processes cannot share a batch alike; or the recipe chooses by validation images, and there are none.
    """
    accelerator = accelerator or make_accelerator(seed=seed)
    stages, data = recipe.in_stages(), fingerprint(train.facts.name)
    require_equal_shares(model, stages, accelerator.num_processes)
    choosing = [stage.schedule == "ReduceLROnPlateau" or stage.patience or stage.select != "last" for stage in stages]
    if any(choosing) and not len(val):
        raise DataError(f"recipe '{recipe.name}' chooses by validation images, and val_fraction=0 leaves none")
    task.to(accelerator.device)
    accelerator.init_trackers(Path(folder).name)
    facts = facts_of(model, task, train, val, recipe, seed, accelerator.mixed_precision)
    with opened(folder, facts, accelerator, time_budget) as saved:
        for number, stage in list(enumerate(stages))[saved.stage :]:
            freeze(model, stage)
            optimizer = make_optimizer(stage, parameter_groups(model, stage), task.parameters())
            optimizer.zero_grad()  # left by a training that was interrupted between gradient and step
            train_loader = make_loader(train, stage.batch_size, training=True, sampling=stage.sampling, seed=seed)
            scheduler = make_scheduler(stage, optimizer, len(train_loader))
            by_step = scheduler.step if scheduler and stage.schedule_step == "batch" else None
            state = {"model": model, "task": task, "optimizer": optimizer, "scheduler": scheduler}
            done = saved.restore(number, **state)
            prepared = accelerator.prepare(model, optimizer, train_loader, make_loader(val, stage.batch_size))
            net, stepped, train_loader, val_loader = prepared
            for epoch in range(done, stage.epochs):
                scores = [row.get(f"val_{task.monitor}") for row in saved.history[saved.begun :]]
                before, since = scores[: -stage.patience], scores[-stage.patience :]
                if 0 < stage.patience < len(scores) and max(since) <= max(before):
                    break
                saved.before_epoch()
                started, title = time.monotonic(), f"{stage.stage} epoch {epoch + 1}/{stage.epochs}".strip()
                set_seed(epoch_seed(seed, epoch), device_specific=True)
                train_loader.set_epoch(epoch)
                row = {"epoch": len(saved.history) + 1, "lr": optimizer.param_groups[0]["lr"]}
                row |= train_epoch(net, task, train_loader, stepped, accelerator, title, by_step)
                row |= validate(net, task, val_loader, accelerator, title) if len(val) else {}
                if scheduler and not by_step:
                    scheduler.step(*([row["val_loss"]] if isinstance(scheduler, ReduceLROnPlateau) else []))
                row |= callback(model, row["epoch"]) if callback else {}
                row |= {"seconds": time.monotonic() - started} | ({"stage": stage.stage} if stage.stage else {})
                accelerator.log(row, step=row["epoch"])
                score = -row["val_loss"] if stage.select == "least loss" else row.get(f"val_{task.monitor}")
                if stage.select == "last" or saved.best is None or score > saved.best["value"]:
                    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
                    saved.best = {"epoch": row["epoch"], "value": score, "model": weights}
                saved.after_epoch(row, title, stage is stages[-1] and epoch + 1 == stage.epochs, **state)
            model.load_state_dict(saved.best["model"])
    return Fit(pd.DataFrame(saved.history), saved.best["epoch"], data, saved.changes)


def train_epoch(net, task, loader, optimizer, accelerator, title: str, by_step: Callable | None) -> dict[str, float]:
    """One pass over `loader`; returns `train_loss`, the mean of what is minimised, and the metrics on the way.
    `by_step` is called after every step, for a schedule that moves with them."""
    net.train(), task.train()
    metrics, total, seen = task.metrics().to(accelerator.device), 0.0, 0
    quiet = os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not accelerator.is_main_process
    for batch in tqdm(loader, desc=title, disable=quiet, leave=False):
        inputs, targets = task.example(batch)
        outputs = net(inputs)
        loss = task.loss(outputs, targets)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if by_step:
            by_step()
        metrics.update(outputs, targets)  # torchmetrics records no gradient
        total, seen = total + loss.detach() * len(inputs), seen + len(inputs)
    mean = (accelerator.reduce(total) / accelerator.reduce(torch.tensor(seen, device=accelerator.device))).item()
    if not math.isfinite(mean):
        rate = optimizer.param_groups[0]["lr"]
        raise TrainingDiverged(f"{title}: the training loss is {mean} at rate {rate:g}; try a smaller rate")
    return {f"train_{k}": v.item() for k, v in metrics.compute().items()} | {"train_loss": mean}


@torch.no_grad()
def validate(net, task, loader, accelerator, title: str) -> dict[str, float]:
    """The task's metrics over `loader`, its plain loss among them, each image counted once. All processes raise
    `TrainingDiverged` before an epoch is saved that a restart could not go on from."""
    net.eval(), task.eval()
    metrics = task.metrics().to(accelerator.device)
    for batch in loader:
        outputs = net(task.inputs(batch))
        metrics.update(*accelerator.gather_for_metrics((outputs, task.targets(batch))))
    found = {f"val_{k}": v.item() for k, v in metrics.compute().items()}
    advice = "try a smaller rate; the epoch before is in the checkpoint"
    if not math.isfinite(found["val_loss"]):
        raise TrainingDiverged(f"{title}: the validation loss is {found['val_loss']}; {advice}")
    weights = [*net.state_dict().items(), *task.state_dict().items()]
    poisoned = [name for name, values in weights if values.is_floating_point() and not values.isfinite().all()]
    if accelerator.reduce(torch.tensor(len(poisoned), device=accelerator.device)):
        raise TrainingDiverged(f"{title}: weights are not finite, {', '.join(poisoned[:1])} first; {advice}")
    return found


TRIAL, GAIN = (8, 32, 64, 64), 0.8  # a batch; the share of the time of 32 bits that 16 may take to be worth it


def faster_precision(device: torch.device) -> str:
    """The faster one here: "bf16" where a convolution takes at most `GAIN` of its time in 32 bits, or "no"."""
    with torch.random.fork_rng():  # a run draws the same after a trial as without
        net = nn.Conv2d(TRIAL[1], TRIAL[1], 3, padding=1).to(device, memory_format=torch.channels_last)
    x = torch.ones(TRIAL, device=device).contiguous(memory_format=torch.channels_last)
    took = {False: [], True: []}
    for bf16 in [False, True] * 6:  # in turn, and the least of each: another process may take time from one of them
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            net(x).sum().backward()
        net.weight.grad.sum().item()  # waits for a GPU
        took[bf16].append(time.perf_counter() - started)
    return "bf16" if min(took[True][1:]) <= GAIN * min(took[False][1:]) else "no"


def make_accelerator(precision: str = "no", seed: int = 0) -> Accelerator:
    """Accelerator of a run: `precision` "no", "bf16", or "auto", the faster of the two by a short trial; the recipe's
    batch is split among the processes.

    Where `$BRAIN_MRI_TENSORBOARD` names a folder, `fit` also logs every row of its history there for TensorBoard.
    """
    board = os.environ.get("BRAIN_MRI_TENSORBOARD")
    if board and not is_tensorboard_available():
        raise DataError("BRAIN_MRI_TENSORBOARD: TensorBoard is not installed. Run: pip install tensorboard")
    loading = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed)
    # Without a GPU, Accelerate joins the processes that torchrun started only when it has to stay on the CPU.
    # Apple's MPS has no float64, which the metrics of an epoch need.
    cpu = not torch.accelerator.is_available() or torch.accelerator.current_accelerator().type == "mps"
    if cpu:
        keep_freed_memory()
    # Else DDP puts gradients into other buckets after its first step, a resumed training one step after its start:
    # sums of three processes and more would be rounded in another order, and the weights would differ.
    same_buckets = DistributedDataParallelKwargs(find_unused_parameters=True)
    words = {"log_with": "tensorboard", "project_dir": board} if board else {}
    words |= {"dataloader_config": loading, "kwargs_handlers": [same_buckets]}
    if precision == "auto":  # one answer for all processes
        (precision,) = broadcast_object_list([faster_precision(PartialState(cpu=cpu).device)])
    return Accelerator(cpu=cpu, mixed_precision=precision, **words)


def require_equal_shares(model: nn.Module, stages: list[Recipe], processes: int) -> None:
    """Raise `DataError` where a batch cannot be divided among the processes into shares of one size."""
    least = 2 if any(isinstance(m, nn.BatchNorm1d) for m in model.modules()) else 1  # one image has no variance
    for size in {stage.batch_size for stage in stages}:
        if size % processes or size // processes < least:
            able = " or ".join(str(n) for n in range(1, size // least + 1) if size % n == 0)
            what = f"a batch of {size} images cannot be shared by {processes} processes alike"
            raise DataError(f"{what}: start {able} of them, or change the recipe's batch_size")

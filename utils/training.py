"""The training loop: `fit(model, task, train, val, recipe)` on one screen, the rest of the file serves it.

`fit_stages` runs it for each stage of a recipe.

It knows neither model nor loss (`tasks.py`) nor rates (`recipes.py`). Accelerate carries device, precision and data
parallelism. Stopped at any moment and started again, a CPU run ends with the same bytes.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, broadcast_object_list, set_seed
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, WeightedRandomSampler
from tqdm import tqdm

from datasets.catalog import DataError
from datasets.preprocess import cores
from datasets.store import PackedImages
from utils.finetuning import freeze, parameter_groups
from utils.recipes import Recipe

MOST_WORKERS = 4  # reading a slice of BraTS takes 0.4 ms: more would wait
EPOCH_SEEDS = 100_003  # seeds of neighbouring runs must not share the seeds of their epochs


class TrainingPaused(Exception):
    """A STOP file or the time budget ended training after an epoch; the same call goes on from there."""


class TrainingDiverged(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Fit:
    """What training left: `history` a row an epoch, `epoch` (1-based) whose weights `model` now holds."""

    history: pd.DataFrame
    epoch: int

    @property
    def seconds(self) -> float:
        """Training time of all epochs, interruptions left out."""
        return float(self.history.seconds.sum())


def make_accelerator(precision: str = "no", seed: int = 0) -> Accelerator:
    """Accelerator of a run: `precision` "no" or "bf16"; the recipe's batch is split among the processes."""
    loading = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed)
    # Without a GPU, Accelerate joins the processes that torchrun started only when it is told to stay on the CPU.
    cpu = not torch.accelerator.is_available()
    return Accelerator(cpu=cpu, mixed_precision=precision, dataloader_config=loading)


class BalancedSampler(WeightedRandomSampler):
    """Draws every class equally often, with replacement; what an epoch draws follows from the seed and the epoch."""

    def __init__(self, labels: torch.Tensor, seed: int):
        weights = 1 / torch.bincount(labels).double()[labels]
        super().__init__(weights, len(labels), generator=torch.Generator())
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Called by the loader before each epoch."""
        self.generator.manual_seed(epoch_seed(self.seed, epoch))


def make_loader(
    data: PackedImages, batch_size: int, training: bool = False, sampling: str = "shuffled", seed: int = 0
) -> DataLoader:
    """Loader of whole batches; a set too large for memory is read by worker processes, each for itself.

    `sampling` (see `Recipe`) and `seed` are those of training.
    """
    # A last training batch of one image has no variance for batch norm: it waits for the next shuffle.
    single = training and len(data) % batch_size == 1
    workers = 0 if data.in_memory else min(MOST_WORKERS, cores())
    order = {"shuffle": training}
    if training and sampling == "balanced":
        order = {"sampler": BalancedSampler(data.labels, seed)}
    return DataLoader(data, batch_size, drop_last=single, collate_fn=data.collate, num_workers=workers, **order)


def epoch_seed(seed: int, epoch: int) -> int:
    """Of all that is drawn in an epoch."""
    return seed * EPOCH_SEEDS + epoch


def fit(
    model: nn.Module,
    task,
    train: PackedImages,
    val: PackedImages,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int = 0,
    time_budget: float | None = None,
    accelerator: Accelerator | None = None,
    watch: Callable[[nn.Module, int], dict[str, float]] | None = None,
    more_follows: bool = False,
) -> Fit:
    """Train `model` in place by `recipe`, resuming from `folder` when a checkpoint lies there.

    Args:
        folder: receives `checkpoint.pt` after every epoch; a file `STOP` in it, or the file that `$BRAIN_MRI_STOP`
            names, ends training after the current epoch.
        seed: order of batches, dropout and augmentation follow from it and the epoch alone.
        time_budget: seconds after which training ends with the current epoch.
        watch: called after every epoch with the model, in evaluation, and the epoch; its values join the history.
        more_follows: another stage does, so that training may pause after the last epoch, too.

    Raises:
        TrainingPaused: ended early; call again to go on.
        TrainingDiverged: the loss became NaN or infinite; the last good epoch is in the checkpoint.
        DataError: the checkpoint belongs to other settings.
    """
    accelerator = accelerator or make_accelerator(seed=seed)
    checkpoint, started = Checkpoint(folder, recipe, seed, accelerator), time.monotonic()
    task.to(accelerator.device)
    freeze(model, recipe)
    optimizer = recipe.make_optimizer(parameter_groups(model, recipe), task.parameters())
    scheduler = recipe.make_scheduler(optimizer)
    history, best = checkpoint.load(model, task, optimizer, scheduler)
    batches = (
        make_loader(train, recipe.batch_size, training=True, sampling=recipe.sampling, seed=seed),
        make_loader(val, recipe.batch_size),
    )
    prepared, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, *batches)

    by_batch = scheduler.step if scheduler and recipe.schedule_step == "batch" else None

    for epoch in range(len(history), recipe.epochs):
        if stalled(history, f"val_{task.monitor}", recipe.patience):
            break
        epoch_started = time.monotonic()
        set_seed(epoch_seed(seed, epoch), device_specific=True)
        train_loader.set_epoch(epoch)
        row = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]}
        row |= train_epoch(prepared, task, train_loader, optimizer, accelerator, title(epoch, recipe), by_batch)
        row |= validate(prepared, task, val_loader, accelerator)
        if scheduler and not by_batch:
            scheduler.step(*([row["val_loss"]] if isinstance(scheduler, ReduceLROnPlateau) else []))
        row |= watch(model, epoch + 1) if watch else {}
        row["seconds"] = time.monotonic() - epoch_started
        history.append(row)
        if recipe.select == "last" or best is None or row[f"val_{task.monitor}"] > best["value"]:
            best = {"epoch": epoch + 1, "value": row[f"val_{task.monitor}"], "model": state_of(model)}
        checkpoint.save(model, task, optimizer, scheduler, history, best)
        report(row, recipe, accelerator)
        if (more_follows or len(history) < recipe.epochs) and checkpoint.stop_wanted(started, time_budget):
            raise TrainingPaused(f"after epoch {epoch + 1} of {recipe.epochs}; run the same again to go on")

    model.load_state_dict(best["model"])
    return Fit(pd.DataFrame(history), best["epoch"])


def fit_stages(
    model: nn.Module,
    task,
    train: PackedImages,
    val: PackedImages,
    recipe: Recipe,
    *,
    time_budget: float | None = None,
    **words: object,
) -> Fit:
    """`fit` for each stage of `recipe` in order, each from the weights that the one before has kept.

    Arguments and errors are those of `fit`; a recipe without stages is one. The history says the stage of each epoch,
    epochs are counted through; `epoch` is the one kept by the last stage.
    """
    started, histories, stages = time.monotonic(), [], recipe.in_stages()
    for stage in stages:
        left = None if time_budget is None else max(0.0, time_budget - (time.monotonic() - started))
        done = fit(model, task, train, val, stage, time_budget=left, more_follows=stage is not stages[-1], **words)
        before = sum(map(len, histories))
        history = done.history.assign(epoch=done.history.epoch + before)
        histories.append(history.assign(stage=stage.stage) if stage.stage else history)
    return Fit(pd.concat(histories, ignore_index=True), before + done.epoch)


def stalled(history: list[dict], monitor: str, patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than the best before them; never with 0."""
    values = [row[monitor] for row in history]
    return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])


def train_epoch(model, task, loader, optimizer, accelerator, bar_title: str, by_batch=None) -> dict[str, float]:
    """One pass over `loader`; returns `train_loss`, the mean of what is minimised, and the metrics on the way.

    `by_batch` is called after every step, for a schedule that moves with them.
    """
    model.train()
    task.train()
    metrics, total, seen = task.metrics().to(accelerator.device), 0.0, 0
    for batch in tqdm(loader, desc=bar_title, disable=quiet(accelerator), leave=False):
        inputs, targets = task.example(batch)
        outputs = model(inputs)
        loss = task.loss(outputs, targets)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        if by_batch:
            by_batch()
        metrics.update(outputs, targets)  # torchmetrics asks for no gradient
        total, seen = total + loss.detach() * len(inputs), seen + len(inputs)
    mean = (accelerator.reduce(total) / accelerator.reduce(torch.tensor(seen, device=accelerator.device))).item()
    if not torch.isfinite(torch.tensor(mean)):
        rate = optimizer.param_groups[0]["lr"]
        raise TrainingDiverged(f"{bar_title}: the training loss is {mean} at rate {rate:g}; try a smaller rate")
    return {f"train_{k}": v.item() for k, v in metrics.compute().items()} | {"train_loss": mean}


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


class Checkpoint:
    """The state after the last whole epoch, replaced atomically; only the main process writes."""

    def __init__(self, folder: Path, recipe: Recipe, seed: int, accelerator: Accelerator):
        name = f"checkpoint-{recipe.stage}.pt" if recipe.stage else "checkpoint.pt"
        self.path, self.accelerator = Path(folder) / name, accelerator
        values = {k: str(v) for k, v in dataclasses.asdict(recipe).items() if not k.startswith("published")}
        self.settings = values | {"seed": str(seed)}

    def load(self, model, task, optimizer, scheduler) -> tuple[list[dict], dict | None]:
        """Restore the four in place; returns the history so far and the kept weights, or ([], None)."""
        if not self.path.is_file():
            return [], None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DataError(f"{self.path}: not a readable checkpoint ({error}). Delete it to start again.") from error
        other = [k for k, v in self.settings.items() if state["settings"].get(k) != v]
        if other:
            was = ", ".join(f"{k}: {state['settings'].get(k)} → {self.settings[k]}" for k in other)
            raise DataError(f"{self.path}: made with other settings ({was}). Delete its folder, or undo the change.")
        model.load_state_dict(state["model"])
        task.load_state_dict(state["task"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            scheduler.load_state_dict(state["scheduler"])
        return state["history"], state["best"]

    def save(self, model, task, optimizer, scheduler, history, best) -> None:
        """Write all of it under a temporary name, then rename: a kill leaves the old one or the new one."""
        if not self.accelerator.is_main_process:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "settings": self.settings,
            "model": state_of(model),
            "task": task.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler else None,
            "history": history,
            "best": best,
        }
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def stop_wanted(self, started: float, time_budget: float | None) -> bool:
        """Whether the main process found a STOP file or a spent budget; all processes get the same answer."""
        own = self.path.with_name("STOP")
        named = os.environ.get("BRAIN_MRI_STOP")
        late = time_budget is not None and time.monotonic() - started >= time_budget
        wanted = [late or own.exists() or bool(named and Path(named).exists())]
        broadcast_object_list(wanted)
        if wanted[0] and self.accelerator.is_main_process:
            own.unlink(missing_ok=True)  # obeyed once; it must not end the next start too
        return wanted[0]


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights that later training steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def title(epoch: int, recipe: Recipe) -> str:
    return f"{recipe.stage + ' ' if recipe.stage else ''}epoch {epoch + 1}/{recipe.epochs}"


def quiet(accelerator: Accelerator) -> bool:
    """No progress bar without a reader: unattended runs, and all processes but the first."""
    return os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not accelerator.is_main_process


def report(row: dict, recipe: Recipe, accelerator: Accelerator) -> None:
    """One line an epoch on the main process."""
    if accelerator.is_main_process:
        values = " ".join(f"{k} {v:.4f}" for k, v in row.items() if k.startswith(("train_", "val_")))
        print(f"{title(row['epoch'] - 1, recipe)} {values} ({row['seconds']:.1f} s)", file=sys.stdout, flush=True)

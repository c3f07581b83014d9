"""Everything around the epochs of a training: its lock, whose a checkpoint is, saving, loading and pausing.

`loop.fit` calls a `Checkpoint` before and after every epoch. Stopped at any moment and started again, a CPU run ends
with the same bytes.
"""

import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from datasets.catalog import DataError
from datasets.lock import Held, acquire
from datasets.store.images import ImageDataset
from utils.files import damage, replacing, seal
from utils.recipes.recipe import Recipe
from utils.training import environment

PATIENCE = 15.0  # seconds: the kernel of a notebook outlives a job that was killed by some of them
NEWEST, BEFORE, DAMAGED = "checkpoint.pt", "checkpoint.before.pt", "checkpoint.damaged"
KEPT = ("facts", "stage", "begun", "history", "best", "changes", "conditions")  # of a `Checkpoint`, in its file
START = "starting weights"
# Those that a network had when its training began: interrupted in a notebook and called again with the same network, a
# training finds it trained in part.
_starts: WeakKeyDictionary[nn.Module, dict[str, list[float]]] = WeakKeyDictionary()


class TrainingPaused(Exception):
    """A STOP file or the time budget ended training after an epoch; the same call resumes from there."""


@dataclass
class Checkpoint:
    """The state after the last whole epoch; the main process alone writes it, and keeps the one before."""

    folder: Path
    facts: dict  # whose it is, see `facts_of`
    main: bool
    deadline: float
    stage: int = 0  # the one that was reached
    begun: int = 0  # rows of the history before it
    history: list[dict] = field(default_factory=list)  # a row an epoch, of all stages
    best: dict | None = None  # epoch, value and weights that the stage keeps
    changes: list[str] = field(default_factory=list)  # a line for each time that it was resumed under other conditions
    conditions: dict[str, str] = field(default_factory=dict)  # of the last epoch
    saved: dict | None = None  # what was loaded, until it is restored

    def restore(self, stage: int, **parts) -> int:
        """Begin a stage, or put back into `parts` (model, task, …) what was saved in it; returns its epochs so far."""
        if self.saved:
            for name, part in parts.items():
                if part is not None:
                    part.load_state_dict(self.saved[name])
            self.saved = None
        else:
            self.stage, self.begun, self.best = stage, len(self.history), None
        return len(self.history) - self.begun

    def before_epoch(self) -> None:
        """Warn where the conditions differ from those of the last epoch, and keep the difference in `changes`."""
        was, self.conditions = self.conditions, environment.conditions()
        if self.main and was and (other := changed(was, self.conditions)):
            self.changes = [*self.changes, f"epoch {len(self.history) + 1}: {other}"]
            result = "The result will differ from that of one uninterrupted training, at least in its last digits"
            note = f"{self.folder / NEWEST}: goes on under other conditions ({other}). {result}; the record says so."
            warnings.warn(note, stacklevel=3)

    def after_epoch(self, row: dict, title: str, last: bool, **parts) -> None:
        """Add `row` to the history, save all under a temporary name and rename it: a kill leaves the old one or the
        new one. Print a line. Unless this was the last epoch, raise `TrainingPaused`, on all processes, where the main
        one finds a STOP file or the time spent."""
        self.history.append(row)
        wanted, own, named = [False], self.folder / "STOP", os.environ.get("BRAIN_MRI_STOP")
        if self.main:
            state = {name: part.state_dict() if part is not None else None for name, part in parts.items()}
            with replacing(self.folder / NEWEST, before=self.folder / BEFORE) as temporary:
                torch.save(state | {name: getattr(self, name) for name in KEPT}, temporary)
                seal(temporary)
            values = " ".join(f"{k} {v:.4f}" for k, v in row.items() if k.startswith(("train_", "val_")))
            print(f"{title} {values} ({row['seconds']:.1f} s)", flush=True)
            wanted = [time.monotonic() >= self.deadline or own.exists() or bool(named and Path(named).exists())]
        broadcast_object_list(wanted)
        if wanted[0] and not last:
            if self.main:
                own.unlink(missing_ok=True)  # obeyed once; it must not end the next start too
            raise TrainingPaused(f"after {title}; run the same again to resume")


@contextmanager
def opened(folder: Path, facts: dict, accelerator: Accelerator, time_budget: float | None) -> Iterator[Checkpoint]:
    """The checkpoint of a training in `folder`; meanwhile this process, of several the main one, holds its `run.lock`.

    Raises `DataError`: another process trains this run; no checkpoint is readable, or it is of another training.
    """
    folder, deadline = Path(folder), time.monotonic() + (math.inf if time_budget is None else time_budget)
    lock, chosen = None, [None, ""]  # a file, or what is wrong
    try:
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = acquire(folder / "run.lock", "trains this run", PATIENCE)
                chosen = _choose(folder)
            except Held as who:
                advice = "Wait for it or stop it; another run has another seed or $BRAIN_MRI_OUTPUT."
                chosen = [None, f"{folder}: {who}. {advice}"]
        broadcast_object_list(chosen)  # all processes load the same file or end with the same line
        path, problem = chosen
        if problem:
            raise DataError(problem)
        found = Checkpoint(folder, facts, accelerator.is_main_process, deadline)
        if path:
            found.saved = _load(path, facts)
            vars(found).update({name: found.saved[name] for name in KEPT})
            if found.main:
                print(f"taken up after epoch {len(found.history)}, from {path.name}", flush=True)
        yield found
    finally:
        if lock:
            lock.release()


def _choose(folder: Path) -> list:
    """The newest checkpoint whose bytes are those that were written, or what is wrong with all of them. A damaged one
    is set aside, with a warning: it must not become the one before."""
    for left in folder.glob("checkpoint*.tmp"):  # of a killed process
        left.unlink(missing_ok=True)
    problems = []
    for path in filter(Path.is_file, (folder / NEWEST, folder / BEFORE)):
        if not (problem := damage(path)):
            if problems:
                note = f"Training goes on from the epoch before, of {path}; the damaged file is kept as {DAMAGED}."
                warnings.warn(f"{problems[0]}. {note}", stacklevel=4)
                (folder / NEWEST).replace(folder / DAMAGED)
            return [path, ""]
        problems.append(f"{path}: damaged ({problem})")
    return [None, f"{'; '.join(problems)}; delete {folder} to start again." if problems else ""]


def _load(path: Path, facts: dict) -> dict:
    """What a checkpoint holds; raises `DataError` where it is not one of the training with these `facts`."""
    anew = f"delete {path.parent} to start again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        other = changed(state["facts"], facts)
    except Exception as error:
        raise DataError(f"{path}: not a readable checkpoint of this version ({error!r}); {anew}.") from error
    if other:
        raise DataError(f"{path}: belongs to another training ({other}). Undo that, or {anew}.")
    return state


def facts_of(
    model: nn.Module, task: nn.Module, train: ImageDataset, val: ImageDataset, recipe: Recipe, seed: int, precision: str
) -> dict:
    """What a training depends on, by name: images, model, task, recipe, seed, precision, and under `START` the sum and
    norm of each weight. The images say themselves what they are, and of which run (`ImageDataset.identity`).

    Sums and norms stand in for a digest, since the same seed gives weights that differ in the last bit on another
    processor, where a job that was requeued must go on.
    """
    facts = {f"train {name}": value for name, value in train.identity().items()}
    facts |= {f"val {name}": value for name, value in val.identity().items()}
    facts["model"] = f"{type(model).__name__} of {sum(p.numel() for p in model.parameters()):,} parameters"
    facts["task"] = type(task).__name__
    facts |= {name: str(value) for name, value in asdict(recipe).items() if name != "source"}
    if model not in _starts:
        weights = {name: weight for name, weight in model.state_dict().items() if weight.is_floating_point()}
        _starts[model] = {n: [w.sum(dtype=torch.float64).item(), w.norm().item()] for n, w in weights.items()}
    return facts | {"seed": str(seed), "precision": precision, START: _starts[model]}


def changed(was: dict, now: dict) -> str:
    """Where two tables of facts differ: "name: before → now, …", "" where nowhere."""
    told = [f"{n}: {was.get(n)} → {now.get(n)}" for n in now | was if n != START and was.get(n) != now.get(n)]
    before, start = was.get(START, {}), now.get(START, {})
    others = [name for name in start | before if not _alike(before.get(name), start.get(name))]
    return ", ".join([*told, *(f"{START}: others in {name}" for name in others[:1])])


def _alike(was: list[float] | None, now: list[float] | None) -> bool:
    """Whether sum and norm of two weights differ by no more than rounding. The sum of N weights drawn anew moves by the
    order of their norm; rounding by 1e-7 of it, times √N at worst."""
    if was is None or now is None:
        return False
    (total, norm), (other, its_norm) = was, now
    return abs(total - other) <= 1e-3 * its_norm and abs(norm - its_norm) <= 1e-5 * its_norm

"""Everything around the epochs of a training: the lock, whose checkpoint it is, saving and loading it, and pausing.

`loop.fit` holds a `Checkpoint`, and calls it before and after every epoch. Stopped at any moment and started again, a
CPU run ends with the same bytes.
"""

import dataclasses
import os
import time
import warnings
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from datasets.catalog import DataError
from datasets.lock import Held, acquire
from datasets.store.images import ImageDataset
from datasets.store.index import short_digest
from utils.files import damage, replacing, seal
from utils.recipes.recipe import Recipe
from utils.training import environment

PATIENCE = 15.0  # seconds: the kernel of a notebook outlives a job that was killed by some of them
START = "starting weights"
# The weights that a network had when its training began: interrupted in a notebook and called again with the same
# network, a training finds it trained in part.
_starts: WeakKeyDictionary[nn.Module, dict[str, list[float]]] = WeakKeyDictionary()


class TrainingPaused(Exception):
    """A STOP file or the time budget ended training after an epoch; the same call resumes from there."""


class Checkpoint:
    """The state after the last whole epoch, replaced atomically, and the one before it; the main process alone writes.

    Within `with`, this process (of several the main one) holds `run.lock` in `folder`.

    Attributes:
        stage: number of the stage that was reached; history: a row an epoch, of all stages; begun: rows before this
            stage; best: epoch, value and weights that this stage keeps.
        changes: a line for each time that training was resumed under other conditions; conditions: the last ones.

    Raises:
        DataError: another process trains this run; no checkpoint is readable, or it is of another training.
    """

    def __init__(self, folder: Path, facts: dict, accelerator: Accelerator, time_budget: float | None):
        self.folder, self.facts, self.accelerator = Path(folder), facts, accelerator
        self.path, self.before = self.folder / "checkpoint.pt", self.folder / "checkpoint.before.pt"
        self.deadline = time.monotonic() + (float("inf") if time_budget is None else time_budget)
        self.lock, self.saved, self.stage, self.begun, self.history, self.best = None, None, 0, 0, [], None
        self.changes, self.conditions = [], {}

    def __enter__(self) -> "Checkpoint":
        found = [None, ""]
        try:
            if self.accelerator.is_main_process:
                found = self._choose()
            broadcast_object_list(found)  # all processes end with the same error
            path, problem = found
            if problem:
                raise DataError(problem)
            if path:
                self._load(path)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.lock:
            self.lock.release()

    def _choose(self) -> list:
        """Take the lock, and find the newest checkpoint whose bytes are those that were written, or what is wrong."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock = acquire(self.folder / "run.lock", "trains this run", PATIENCE)
        except Held as who:
            wait = "Wait for it or stop it, or set another seed or BRAIN_MRI_OUTPUT"
            return [None, f"{self.folder}: {who}. {wait}."]
        for left in self.folder.glob("checkpoint*.tmp"):  # of a killed process
            left.unlink(missing_ok=True)
        problems = []
        for path in filter(Path.is_file, (self.path, self.before)):
            if not (problem := damage(path)):
                return [path, ""]
            problems.append(f"{path}: not a readable checkpoint ({problem})")
        return [None, f"{'; '.join(problems)}; delete {self.folder} to start again." if problems else ""]

    def _load(self, path: Path) -> None:
        anew = f"delete {self.folder} to start again"
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            other = changed(saved["facts"], self.facts)
        except Exception as error:
            raise DataError(f"{path}: not a readable checkpoint of this version ({error!r}); {anew}.") from error
        if other:
            raise DataError(f"{path}: belongs to another training ({other}). Undo that, or {anew}.")
        if path == self.before and self.path.is_file() and self.accelerator.is_main_process:
            aside = self.path.with_suffix(".damaged")  # it must not become the one before
            note = f"damaged ({damage(self.path)}). Training goes on from epoch {len(saved['history'])}, of {path}"
            warnings.warn(f"{self.path}: {note}; the damaged file is kept as {aside.name}.", stacklevel=4)
            self.path.replace(aside)
        for name in ("stage", "begun", "history", "best", "changes", "conditions"):
            setattr(self, name, saved[name])
        self.saved = saved

    def restore(self, stage: int, **parts) -> int:
        """Begin a stage, or put back into `parts` (model, task, …) what was saved in it; returns its epochs so far."""
        if self.saved and stage == self.stage:
            for name, part in parts.items():
                if part is not None:
                    part.load_state_dict(self.saved[name])
            self.saved = None
        else:
            self.stage, self.begun, self.best = stage, len(self.history), None
        return len(self.history) - self.begun

    def before_epoch(self) -> None:
        """Warn where the conditions differ from those of the last epoch, and keep the difference in `changes`."""
        if not self.accelerator.is_main_process:
            return
        now = environment.conditions()
        was, self.conditions = self.conditions or now, now
        if other := changed(was, now):
            self.changes = [*self.changes, f"epoch {len(self.history) + 1}: {other}"]
            warnings.warn(
                f"{self.path}: goes on under other conditions ({other}). The result will differ from that of one "
                "uninterrupted training, at least in its last digits; the record says so.",
                stacklevel=3,
            )

    def after_epoch(self, row: dict, **parts) -> bool:
        """Save `parts` with the history and `row`, under a temporary name that is then renamed: a kill leaves the old
        checkpoint or the new one. Whether the main process found a STOP file or that the time is up, for all alike."""
        self.history.append(row)
        wanted = [False]
        if self.accelerator.is_main_process:
            state = {name: part.state_dict() if part is not None else None for name, part in parts.items()}
            for name in ("facts", "stage", "begun", "history", "best", "changes", "conditions"):
                state[name] = getattr(self, name)
            with replacing(self.path, before=self.before) as temporary:
                torch.save(state, temporary)
                seal(temporary)
            own, named = self.folder / "STOP", os.environ.get("BRAIN_MRI_STOP")
            wanted = [time.monotonic() >= self.deadline or own.exists() or bool(named and Path(named).exists())]
        broadcast_object_list(wanted)
        return wanted[0]

    def pause(self, where: str) -> None:
        """Raise `TrainingPaused`; the STOP file was obeyed, and must not end the next start too."""
        if self.accelerator.is_main_process:
            (self.folder / "STOP").unlink(missing_ok=True)
        raise TrainingPaused(f"{where}; run the same again to resume")


def facts_of(
    model: nn.Module, task: nn.Module, train: ImageDataset, val: ImageDataset, recipe: Recipe, seed: int, precision: str
) -> dict:
    """What a training depends on, by name: images, model, task, recipe, seed, precision, and under `START` the sum and
    norm of each weight. The images say themselves what they are, and of which run (`ImageDataset.identity`).

    Sums and norms stand in for a digest, since the same seed gives weights that differ in the last bit on another
    processor, where a job that was requeued must go on.
    """
    images, other, own = train.identity(), val.identity(), ("rows", "turns")
    facts = {f"train {name}" if name in own else name: value for name, value in images.items()}
    facts |= {f"val {name}": v for name, v in other.items() if name in own or images.get(name) != v}
    weights = model.state_dict()
    facts["model"] = f"{type(model).__name__} of {sum(p.numel() for p in model.parameters()):,} parameters"
    shapes = [f"{name} {list(tensor.shape)}" for name, tensor in weights.items()]
    facts |= {"names and shapes of weights": short_digest("\n".join(shapes).encode())}
    facts |= {"task": type(task).__name__, "precision": precision}
    facts |= {name: str(value) for name, value in dataclasses.asdict(recipe).items() if name != "source"}
    if model not in _starts:
        of = {name: w.cpu() for name, w in weights.items() if w.is_floating_point()}
        norm = torch.linalg.vector_norm
        _starts[model] = {
            n: [w.sum(dtype=torch.float64).item(), norm(w, dtype=torch.float64).item()] for n, w in of.items()
        }
    return facts | {"seed": str(seed), START: _starts[model]}


def changed(was: dict, now: dict) -> str:
    """Where two tables of facts differ: "name: before → now, …", "" where nowhere."""
    told = [f"{n}: {was.get(n)} → {now.get(n)}" for n in now | was if n != START and was.get(n) != now.get(n)]
    before, start = was.get(START, {}), now.get(START, {})
    # The sum of N weights drawn anew moves by the order of their norm; rounding by 1e-7 of it, times √N at the worst.
    others = [
        name
        for name, (total, norm) in start.items()
        if before.keys() == start.keys()  # else the model differs, which its facts say
        and (abs(total - before[name][0]) > 1e-3 * norm or abs(norm - before[name][1]) > 1e-5 * norm)
    ]
    return ", ".join([*told, *(f"{START}: others in {name}" for name in others[:1])])

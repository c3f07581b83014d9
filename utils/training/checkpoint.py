"""Saves and restores the state of a training after every epoch, and finds out whether it should stop."""

import os
import time
import warnings
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from datasets.catalog import DataError
from utils.files import damage, replacing, seal
from utils.training import environment
from utils.training.identity import Identity, changed


class TrainingPaused(Exception):
    """A STOP file or the time budget ended training after an epoch; the same call resumes from there."""


class Checkpoint:
    """The state after the last whole epoch, replaced atomically, and the one before it; the main process alone writes.

    Attributes:
        path, before: the two files, each with a SHA-256 at its end.
        changes: a line for each time that training was resumed under other conditions.
        conditions: those of the last epoch.
    """

    def __init__(self, folder: Path, stage: str, identity: Identity, accelerator: Accelerator):
        name = f"checkpoint-{stage}" if stage else "checkpoint"
        self.path, self.before = Path(folder) / f"{name}.pt", Path(folder) / f"{name}.before.pt"
        self.identity, self.accelerator = identity, accelerator
        self.changes: list[str] = []
        self.conditions: dict[str, str] = {}

    def load(self, model, task, optimizer, scheduler) -> tuple[list[dict], dict | None]:
        """Restore the four in place; returns the history so far and the kept weights, or ([], None).

        A damaged checkpoint is set aside and the one before is taken, with a warning that names both.

        Raises:
            DataError: none is readable, or it is of another training; then nothing of it was taken.
        """
        chosen = [self._choose() if self.accelerator.is_main_process else None]
        broadcast_object_list(chosen)
        path, problem = chosen[0]
        if problem:
            raise DataError(problem)
        if path is None:
            return [], None
        anew = f"delete {self.path.parent} to start again"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DataError(f"{path}: not a readable checkpoint ({error}); {anew}.") from error
        if other := self.identity.differences(state["identity"]):
            raise DataError(f"{path}: belongs to another training ({other}). Undo that, or {anew}.")
        if path == self.before and self.accelerator.is_main_process:
            self._set_aside(len(state["history"]))
        self.changes, self.conditions = state["changes"], state["conditions"]
        model.load_state_dict(state["model"])
        task.load_state_dict(state["task"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            scheduler.load_state_dict(state["scheduler"])
        return state["history"], state["best"]

    def _choose(self) -> tuple[Path | None, str]:
        """The newest checkpoint whose bytes are those that were written, or what is wrong with all of them."""
        problems = []
        for path in filter(Path.is_file, (self.path, self.before)):
            if not (problem := damage(path)):
                return path, ""
            problems.append(f"{path}: not a readable checkpoint ({problem})")
        return None, "; ".join(problems) + f"; delete {self.path.parent} to start again." if problems else ""

    def _set_aside(self, epoch: int) -> None:
        """Take the damaged checkpoint out of the way, so that it never becomes the one before."""
        if self.path.is_file():
            problem = damage(self.path)
            self.path.replace(self.path.with_suffix(".damaged"))
            note = f"damaged ({problem}). Training goes on from epoch {epoch}, of {self.before}"
            warnings.warn(f"{self.path}: {note}; the damaged file is kept as {self.path.stem}.damaged.", stacklevel=2)

    def compare_conditions(self, epoch: int) -> None:
        """Before `epoch`: warn where the conditions (`environment.conditions`) differ from those of the last epoch, and
        keep the difference in `changes`."""
        if not self.accelerator.is_main_process:
            return
        now = environment.conditions()
        was, self.conditions = self.conditions or now, now
        if other := changed(was, now):
            self.changes = [*self.changes, f"epoch {epoch}: {other}"]
            warnings.warn(
                f"{self.path}: goes on under other conditions ({other}). The result will differ from that of one "
                "uninterrupted training, at least in its last digits; the record says so.",
                stacklevel=2,
            )

    def save(self, model, task, optimizer, scheduler, history, best) -> None:
        """Write all of it under a temporary name, then rename: a kill leaves the old one or the new one."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "identity": self.identity.as_dict(),
            "conditions": self.conditions,
            "changes": self.changes,
            "model": state_of(model),
            "task": task.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler else None,
            "history": history,
            "best": best,
        }
        with replacing(self.path, before=self.before) as temporary:
            torch.save(state, temporary)
            seal(temporary)

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

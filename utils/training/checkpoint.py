"""Saves and restores the state of a training after every epoch, and finds out whether it should stop."""

import os
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from datasets.catalog import DataError
from utils.files import replacing
from utils.training.identity import Identity


class TrainingPaused(Exception):
    """A STOP file or the time budget ended training after an epoch; the same call resumes from there."""


class Checkpoint:
    """The state after the last whole epoch, replaced atomically; only the main process writes."""

    def __init__(self, folder: Path, stage: str, identity: Identity, accelerator: Accelerator):
        name = f"checkpoint-{stage}.pt" if stage else "checkpoint.pt"
        self.path, self.identity, self.accelerator = Path(folder) / name, identity, accelerator

    def load(self, model, task, optimizer, scheduler) -> tuple[list[dict], dict | None]:
        """Restore the four in place; returns the history so far and the kept weights, or ([], None).

        Raises:
            DataError: not readable, or of another training; then nothing of it was taken.
        """
        if not self.path.is_file():
            return [], None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DataError(f"{self.path}: not a readable checkpoint ({error}). Delete it to start again.") from error
        anew = f"delete {self.path.parent} to start again"
        if "identity" not in state:
            raise DataError(f"{self.path}: does not say what it was trained on; {anew}.")
        if other := self.identity.differences(state["identity"]):
            raise DataError(f"{self.path}: belongs to another training ({other}). Undo that, or {anew}.")
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
        state = {
            "identity": self.identity.as_dict(),
            "model": state_of(model),
            "task": task.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler else None,
            "history": history,
            "best": best,
        }
        with replacing(self.path) as temporary:
            torch.save(state, temporary)

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

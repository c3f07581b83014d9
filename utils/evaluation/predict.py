"""Applies a model to images. `run_model` is the one inference loop: everything that predicts uses it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from utils.training.data import make_loader

Batch = dict[str, Tensor]


@torch.no_grad()
def run_model(
    model: nn.Module,
    inputs: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    precision: str = "no",
    name: str = "these images",
) -> Iterator[tuple[Batch, Any]]:
    """Each batch on the model's device, and the model's outputs for it: in evaluation mode, without gradients.

    Args:
        inputs: batch → model inputs, such as a task's `inputs`.
        batches: tensors by name, such as `image` B×C×S×S; those of a data set have the manifest's `row`.
        precision: "bf16" computes in 16 bits where torch's autocast does; "no" in 32.
        name: of what the batches are, for an error.

    Raises `DataError`: an output is NaN or infinite: no comparison with a threshold or another class would show it.
    """
    device = next(model.parameters()).device
    model.eval()
    for batch in batches:
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = model(inputs(batch))
        every = found.values() if isinstance(found, dict) else found
        for tensor in (every,) if isinstance(every, Tensor) else every:
            finite = torch.isfinite(tensor).reshape(len(tensor), -1).all(1)
            if not finite.all():
                where = f"first for row {batch['row'][~finite][0].item()} of '{name}'" if "row" in batch else name
                who = type(model).__name__
                raise DataError(f"{who}: outputs are not finite, {where}. Train again at a smaller rate.")
        yield batch, found


def outputs(
    model: nn.Module, inputs: Callable[[Batch], Tensor], data: ImageDataset, batch_size: int = 64, precision: str = "no"
) -> Iterator[tuple[Batch, Any]]:
    """`run_model` on all images of `data`, in their order."""
    return run_model(model, inputs, make_loader(data, batch_size), precision, data.facts.name)


def predict(
    model: nn.Module, task, data: ImageDataset, *, augment: nn.Module | None = None, draws: int = 4, seed: int = 0
) -> np.ndarray:
    """Probabilities N×K of the images of `data`, in their order; with `augment`, such as one of
    `augmentation.AUGMENTATIONS`, averaged over each image as it is and `draws` random changes of it (test-time
    augmentation), which follow from `seed`."""

    def one_pass(inputs: Callable[[Batch], Tensor]) -> np.ndarray:
        return np.concatenate([task.probabilities(out).cpu().numpy() for _, out in outputs(model, inputs, data)])

    probs = one_pass(task.inputs)
    if augment is None:
        return probs
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return sum((one_pass(lambda batch: augment(task.inputs(batch))) for _ in range(draws)), probs) / (draws + 1)


@contextmanager
def recording(
    layers: Iterable[nn.Module], keep: Callable[[nn.Module, tuple, Tensor], Any] = lambda layer, inputs, output: output
) -> Iterator[list]:
    """What `keep` makes of each of `layers`, its inputs and its output in every pass within the block, in order."""
    kept = []

    def hook(*what: Any) -> None:  # must return nothing: that would replace the output
        kept.append(keep(*what))

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def last_features(model: nn.Module, task, data: ImageDataset) -> np.ndarray:
    """The input of a classifier's last linear layer for each image, N×D."""
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with recording([layer], lambda layer, inputs, output: inputs[0].cpu()) as kept:
        for _ in outputs(model, task.inputs, data):
            pass
    return torch.cat(kept).numpy()

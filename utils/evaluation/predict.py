"""Applies a model to images. `run_model` is the one inference loop: everything that predicts uses it."""

from collections.abc import Callable, Iterable, Iterator
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
        batches: any tensors by name, `{"image": B×C×S×S}` at least; those of a data set have the manifest's `row`.
        precision: "bf16" computes in 16 bits where torch's autocast does; "no" in 32.
        name: of what the batches are, for an error.

    Raises:
        DataError: an output is NaN or infinite: no comparison with a threshold or another class would show it.
    """
    device = next(model.parameters()).device
    model.eval()
    for batch in batches:
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = model(inputs(batch))
        every = found.values() if isinstance(found, dict) else found if isinstance(found, tuple | list) else (found,)
        for tensor in every:
            finite = torch.isfinite(tensor).reshape(len(tensor), -1).all(1)
            if not finite.all():
                where = f"first for row {batch['row'][~finite][0].item()} of '{name}'" if "row" in batch else name
                raise DataError(
                    f"{type(model).__name__}: outputs are not finite, {where}. Train again at a smaller rate."
                )
        yield batch, found


def outputs(
    model: nn.Module, inputs: Callable[[Batch], Tensor], data: ImageDataset, batch_size: int = 64, precision: str = "no"
) -> Iterator[tuple[Batch, Any]]:
    """`run_model` on all images of `data`, in their order."""
    return run_model(model, inputs, make_loader(data, batch_size), precision, data.facts.name)


def predict(
    model: nn.Module,
    task,
    data: ImageDataset,
    batch_size: int = 64,
    *,
    precision: str = "no",
    augment: nn.Module | None = None,
    draws: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Probabilities N×K of the images of `data`, in their order.

    Args:
        precision: see `outputs`.
        augment: test-time augmentation: probabilities are averaged over each image as it is and `draws` changed copies
            of it. It draws changed copies of a batch B×C×S×S, such as one of `augmentation.AUGMENTATIONS`; what it
            draws follows from `seed`.
    """

    def one_pass(inputs: Callable[[Batch], Tensor]) -> np.ndarray:
        found = outputs(model, inputs, data, batch_size, precision)
        return np.concatenate([task.probabilities(out).cpu().numpy() for _, out in found])

    total = one_pass(task.inputs)
    if augment is None:
        return total
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(draws):
            total = total + one_pass(lambda batch: augment(task.inputs(batch)))
    return total / (draws + 1)


def last_features(model: nn.Module, task, data: ImageDataset, batch_size: int = 64) -> np.ndarray:
    """The input of a classifier's last linear layer for each image, N×D."""
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(inputs[0].cpu()))
    try:
        for _ in outputs(model, task.inputs, data, batch_size):
            pass
    finally:
        handle.remove()
    return torch.cat(kept).numpy()

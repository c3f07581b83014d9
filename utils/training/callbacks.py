"""Callbacks for `fit(callback=…)`, which measure something inside a model after every epoch."""

import torch
from torch import Tensor, nn


class GradientWatch:
    """The gradient of each loss of a task (with `parts` and a `balance`) at the shared encoder, on `batch`, always the
    same images, none of them from the test set."""

    def __init__(self, task, batch: dict[str, Tensor]):
        self.task, self.batch = task, batch

    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """`gradient_NAME`, the norm of a loss's gradient at the encoder as it is, and `weight_NAME` in the balance."""
        shared = list(model.encoder.parameters())
        batch = {key: value.to(shared[0].device) for key, value in self.batch.items()}
        losses = self.task.parts(model(self.task.inputs(batch)), self.task.targets(batch))
        found = {f"weight_{name}": weight.item() for name, weight in self.task.balance.weights().items()}
        for name, loss in losses.items():
            # A missing gradient counts as 0: a batch without a tumour has none for the subtype.
            gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
            found[f"gradient_{name}"] = torch.nn.utils.get_total_norm(gradients).item()
        return found

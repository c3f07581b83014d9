"""On a GPU a small network's step is hundreds of short kernels that Python starts one by one: recorded once as a CUDA
graph, they start together. What is computed stays the same (`tests/training/test_graphs.py`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._pytree import tree_map


@contextmanager
def recorded(model: nn.Module, accelerator: Accelerator, accumulate: int = 1) -> Iterator[None]:
    """Within it, training passes of `model` over whole batches are replayed; all else runs as it is written.

    Only on one GPU, where processes exchange nothing between the passes, and where each step has one backward pass:
    a replay writes its gradients where the one before has left its own.
    """
    if accelerator.device.type != "cuda" or accelerator.num_processes > 1 or accumulate > 1:
        yield
        return
    written = model.forward
    model.forward = _replaying(model, written, _record)
    try:
        yield
    finally:
        model.forward = written


def _replaying(model: nn.Module, written: Callable, record: Callable) -> Callable:
    """`written`, the model's forward pass, which is recorded at the first training batch and replayed for all others of
    its shape."""
    found: dict[torch.Size, Callable] = {}

    def forward(x: Tensor, **asked):
        if asked or not (model.training and torch.is_grad_enabled()):
            return written(x, **asked)  # a callback asks for more than the outputs, such as gates
        if not found:  # the first batch of an epoch is a whole one
            found[x.shape] = record(model, written, x)
        return found.get(x.shape, written)(x)

    return forward


class _Passed(nn.Module):
    """A model under its forward pass as Accelerate has wrapped it, precision included."""

    def __init__(self, model: nn.Module, forward: Callable):
        super().__init__()
        self.model, self.pass_on = model, forward

    def forward(self, x: Tensor):
        return self.pass_on(x)


def _record(model: nn.Module, written: Callable, x: Tensor) -> Callable:
    """The forward pass `written`, recorded on a batch like `x`; weights and averages are afterwards as before."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.cuda.get_rng_state(x.device)
    passed, sample = _Passed(model, written), x.detach().clone()
    try:
        graphed = torch.cuda.make_graphed_callables(passed, (sample,), allow_unused_input=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # an operation of the model cannot be recorded
        print(f"{type(model).__name__}: not recorded as a CUDA graph, trained kernel by kernel ({error})")
        return written
    finally:  # the passes before the recording moved the averages of batch norms
        model.load_state_dict(before)
        torch.cuda.set_rng_state(random, x.device)
    return lambda batch: tree_map(torch.clone, graphed(batch))  # the next replay overwrites what this one gives out

"""Training passes replayed as a CUDA graph: which passes are, and on a GPU that the same weights come out."""

from contextlib import nullcontext

import pytest
import torch
from small_training import run_fit
from torch import nn

from utils.training import graphs, loop


class Adding(nn.Module):
    """Adds 1, or what is asked for."""

    def forward(self, x, add=1):
        return x + add


def test_only_whole_training_batches_are_replayed():
    model, recorded, replayed = Adding(), [], []

    def record(model, written, x):
        recorded.append(tuple(x.shape))
        return lambda batch: replayed.append(len(batch)) or written(batch)

    forward = graphs._replaying(model, model.forward, record)
    whole, rest = torch.zeros(4, 1), torch.zeros(3, 1)
    for batch in (whole, whole, rest):
        assert torch.equal(forward(batch), batch + 1)
    with torch.no_grad():
        forward(whole)
    assert torch.equal(forward(whole, add=2), whole + 2), "more than the outputs is asked for"
    model.eval()
    forward(whole)
    assert recorded == [(4, 1)] and replayed == [4, 4], "neither the last, smaller batch nor an evaluation"


def test_on_a_cpu_the_model_stays_as_it_is_written():
    model = Adding()
    with graphs.recorded(model, loop.make_accelerator()):
        assert "forward" not in vars(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_training_ends_with_the_same_weights(roots, monkeypatch):
    before = run_fit(roots / "before", epochs=1, lr=0.0)[0].state_dict()
    replayed, history = run_fit(roots / "replayed")
    monkeypatch.setattr(loop, "recorded", lambda *_: nullcontext())
    written, expected = run_fit(roots / "written")
    assert history.history.train_loss.to_numpy() == pytest.approx(expected.history.train_loss.to_numpy(), rel=1e-2)
    for name, value in written.state_dict().items():
        if value.is_floating_point():
            apart = (replayed.state_dict()[name] - value).norm()
            assert apart <= 0.2 * (value - before[name]).norm() + 1e-6, f"{name}: apart by more than training moved it"

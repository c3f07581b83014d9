"""Gradient accumulation: parts of a batch give the step of the whole batch, and resume stays exact."""

import pytest
import torch
from small_training import run_fit, same

from datasets.catalog import DataError
from models import AlexNet
from utils.training.loop import divided
from utils.training.resume import TrainingPaused


def trained(folder, **words):
    """AlexNet has neither batch norm nor dropout."""
    torch.manual_seed(0)
    return run_fit(folder, model=AlexNet(image_size=64), **words)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_give_the_step_of_the_whole(roots, parts):
    whole, of_whole = trained(roots / "whole")
    divided_up, of_parts = trained(roots / "parts", accumulate=parts)
    for name, weights in whole.state_dict().items():
        assert torch.allclose(weights, divided_up.state_dict()[name], atol=1e-5), name
    assert torch.allclose(
        torch.tensor(of_whole.history.train_loss), torch.tensor(of_parts.history.train_loss), atol=1e-4
    )
    assert not same(whole.state_dict(), trained(roots / "smaller", batch_size=4)[0].state_dict())


def test_resume_is_exact_and_another_number_of_parts_is_another_training(roots):
    with pytest.raises(TrainingPaused):
        trained(roots / "run", accumulate=2, time_budget=0)
    with pytest.raises(DataError, match="accumulate"):
        trained(roots / "run", accumulate=4)
    model, _ = trained(roots / "run", accumulate=2)
    assert same(model.state_dict(), trained(roots / "straight", accumulate=2)[0].state_dict())


def test_a_batch_is_divided_whole_and_in_order():
    inputs = torch.arange(7)
    found = divided(inputs, {"label": inputs * 2}, 3)
    assert [len(some) for some, _ in found] == [3, 3, 1]
    assert torch.equal(torch.cat([some for some, _ in found]), inputs)
    assert all(torch.equal(their["label"], some * 2) for some, their in found)
    assert len(divided(inputs, inputs, 100)) == 7

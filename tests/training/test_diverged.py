"""A training whose numbers are no longer finite stops before the epoch is saved."""

import pytest
import torch
from small_training import run_fit, same

from models import CustomCNN
from utils.training.loop import TrainingDiverged
from utils.training.tasks.base import MeanLoss


class Poisoned(CustomCNN):
    """Is poisoned in its second epoch of four batches: outputs in validation, or a weight that no loss shows."""

    def __init__(self, where: str):
        super().__init__(image_size=64)
        self.where, self.trained, self.validated = where, 0, 0
        self.spare = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out = super().forward(x) + 0 * self.spare
        if self.training:
            self.trained += 1
        elif self.trained >= 8:
            self.validated += 1
            if self.where == "outputs" and self.validated == 1:
                out = out * float("nan")
            if self.where == "statistics" and self.validated == 1:
                next(m for m in self.modules() if isinstance(m, torch.nn.BatchNorm2d)).running_var[0] = float("inf")
            if self.where == "spare weight" and self.validated == 1:
                self.spare.data[0] = float("inf")
        return out


WHAT = {
    "outputs": "the validation loss is (nan|inf)",
    "statistics": r"weights are not finite, .*running_var first",
    "spare weight": r"weights are not finite, spare first",
}


@pytest.mark.parametrize("where", WHAT)
def test_a_poisoned_epoch_is_never_saved(roots, where):
    torch.manual_seed(0)
    model = Poisoned(where)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TrainingDiverged, match=rf"epoch 2/3: {WHAT[where]}"):
        run_fit(roots / "run", epochs=3, model=model)
    assert len(torch.load(roots / "run/checkpoint.pt")["history"]) == 1
    ends = []
    for folder in ("run", "straight"):
        healed = Poisoned("nowhere")
        healed.load_state_dict(first)
        ends.append(run_fit(roots / folder, epochs=3, model=healed)[0].state_dict())
    assert same(*ends), "a restart begins from the last good epoch"


def test_one_nan_among_the_batches_of_validation_is_not_left_out():
    """torchmetrics' mean drops NaN by default: a poisoned epoch had a finite validation loss."""
    metric = MeanLoss(lambda outputs, targets: (outputs - targets).mean())
    for value in (1.0, float("nan"), 2.0):
        metric.update(torch.full((4,), value), torch.zeros(4))
    assert not torch.isfinite(metric.compute())


def test_the_mean_loss_counts_images_not_batches():
    """Without its check for NaN, torchmetrics' mean leaves out the weights."""
    metric = MeanLoss(lambda outputs, targets: (outputs - targets).mean())
    for value, images in ((1.0, 6), (3.0, 2)):
        metric.update(torch.full((images,), value), torch.zeros(images))
    assert metric.compute() == 1.5

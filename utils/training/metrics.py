"""The metrics of an epoch that torchmetrics does not have. Import it where metrics are made: torchmetrics takes
seconds, for which an answer of a saved model need not wait."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat


def class_metrics(num_classes: int) -> dict[str, Metric]:
    """Accuracy and macro F1 of one class an image."""
    # Every process sees the gathered outputs, so the metrics must not gather them again; torchmetrics' own checks
    # of labels would wait for the GPU at every batch.
    same = {"num_classes": num_classes, "sync_on_compute": False, "validate_args": False}
    return {"accuracy": MulticlassAccuracy(average="micro", **same), "f1": MulticlassF1Score(average="macro", **same)}


class MeanLoss(MeanMetric):
    """Mean of a criterion over all images of a pass; infinite where it is NaN for one."""

    def __init__(self, criterion: Callable[[Tensor, Tensor], Tensor]):
        super().__init__(nan_strategy=float("inf"), sync_on_compute=False)  # by default NaN is left out
        self.criterion = criterion

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        super().update(self.criterion(outputs, targets), len(targets))


class PerImage(Metric):
    """Means of the values that `per_image` gives, each over the images that count; `total` names their sum."""

    def __init__(self, per_image: Callable, total: str = ""):
        super().__init__(sync_on_compute=False)
        self.per_image, self.total, self.sums = per_image, total, {}

    def update(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
        for name, (values, counts) in self.per_image(outputs, targets).items():
            total, images = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = total + (values * counts).sum().double(), images + counts.sum().double()

    def compute(self) -> dict[str, Tensor]:
        means = {name: total / images.clamp_min(1) for name, (total, images) in self.sums.items()}
        return means | ({self.total: sum(means.values())} if self.total else {})


class MeanAUC(Metric):
    """Mean area under the ROC curve of the findings that some, but not all, images of a pass show; NaN without any."""

    full_state_update = False

    def __init__(self):
        super().__init__(sync_on_compute=False)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("shown", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.scores.append(outputs.float())
        self.shown.append(targets)

    def compute(self) -> Tensor:
        scores, shown = dim_zero_cat(self.scores), dim_zero_cat(self.shown).long()
        occur = [k for k in range(shown.shape[1]) if 0 < shown[:, k].sum() < len(shown)]
        areas = [binary_auroc(scores[:, k].sigmoid(), shown[:, k]) for k in occur]
        return torch.stack(areas).mean() if areas else torch.tensor(torch.nan)

"""One or more masks an image, which may overlap; a sigmoid for each."""

import torch
from torch import Tensor, nn

from datasets import catalog
from datasets.catalog import DataError, lookup
from datasets.store.images import with_masks
from datasets.store.preprocess import MINMAX
from utils.training.losses import LOSSES
from utils.training.tasks.base import Batch, Task


class Segmentation(Task):
    """One or more masks an image; `loss` is a key of `LOSSES`, and masks are augmented with their image."""

    monitor, reported = "dice", ("dice", "iou", "hd95")
    channels, masks, scaling = "all", True, MINMAX

    def __init__(self, mask_channels: int, loss: str = "bce", augmentation: str = "none"):
        super().__init__(augmentation)
        self.mask_channels, self.criterion = mask_channels, lookup(LOSSES, loss, "loss")()

    def inputs(self, batch: Batch) -> Tensor:
        """`batch["image"]` B×C×S×S → float in [0, 1] by S2's scaling: each slice and channel by its own minimum and
        maximum. A constant slice becomes 0."""
        x = batch["image"].float()
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = (x - low) / (high - low).clamp_min(1e-6)
        return x.contiguous(memory_format=torch.channels_last)  # depthwise convolutions: twice as fast on a CPU

    def targets(self, batch: Batch) -> Tensor:
        """`batch["mask"]`, uint8 0/1 B×M×S×S."""
        return batch["mask"]

    def example(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.moved(self.inputs(batch), self.targets(batch))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of logits B×M×S×S, a scalar."""
        return self.criterion(outputs, targets.float())

    def metrics(self) -> nn.ModuleDict:
        from torchmetrics import MetricCollection
        from torchmetrics.segmentation import DiceScore
        from torchmetrics.wrappers import LambdaInputTransformer

        from utils.training.metrics import MeanLoss

        # of all pixels of a pass together; the mean over the channels that occur
        how = {"average": "macro", "aggregation_level": "global", "input_format": "one-hot", "sync_on_compute": False}
        dice = LambdaInputTransformer(DiceScore(self.mask_channels, **how), lambda out: (out > 0).int(), Tensor.int)
        return MetricCollection({"loss": MeanLoss(self.loss), "dice": dice}, compute_groups=False)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits → probabilities, B×M×S×S."""
        return outputs.float().sigmoid()

    @classmethod
    def require(cls, dataset: str, target: str) -> None:
        if dataset not in with_masks():
            able = f"sets with masks: {', '.join(with_masks())}; those of your own images go into a column 'mask'"
            raise DataError(f"'{dataset}' has no masks; {able} of {catalog.OWN_TABLE}")

    @classmethod
    def evaluate(cls, table, names, resamples=1000, fold=None) -> dict:
        """Of the masks, and of the regions that the table has besides, which unite some of them."""
        from utils.evaluation.segmentation import evaluate_masks

        every = [column.removesuffix(".tp") for column in table if column.endswith(".tp")]
        return evaluate_masks(table, names, [name for name in every if name not in names], resamples)

    @classmethod
    def to_card(cls, run, model: nn.Module) -> dict:
        facts = catalog.get(run.dataset)
        arguments = {"in_channels": len(facts.channels), "out_channels": len(facts.mask_channels)}
        return {"arguments": arguments, "masks": list(facts.mask_channels)}

    @classmethod
    def from_card(cls, card: dict) -> Task:
        return cls(len(card["masks"]))

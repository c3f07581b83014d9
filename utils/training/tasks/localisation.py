"""The task of an `OutlineClassifier`: name the image, and outline the tumour where somebody has outlined it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.catalog import HEALTHY
from utils.training.tasks.base import Batch, SeveralLosses, Task


class Outlining(SeveralLosses):
    """Which class an image has, and which of its pixels belong to which kind of tumour.

    Images whose mask is not known train the name only; those without a tumour have an empty mask. `healthy` is the
    index of the class without one; without `outline`, the `OutlineClassifier`'s, the name alone is learned.
    """

    masks = True

    def __init__(
        self,
        num_classes: int,
        healthy: int | None,
        balance: str = "ema",
        augmentation: str = "none",
        label_smoothing: float = 0.0,
        outline: bool = True,
    ):
        super().__init__(num_classes, augmentation, balance, ["outline", "name"] if outline else ["name"])
        self.label_smoothing, self.outline = label_smoothing, outline
        # Channel of the outline of each class: 0 is the background, to which a healthy image belongs as a whole.
        kinds = [k for k in range(num_classes) if k != healthy]
        channel = torch.tensor([kinds.index(k) + 1 if k in kinds else 0 for k in range(num_classes)])
        self.register_buffer("channel", channel, persistent=False)

    def targets(self, batch: Batch) -> Batch:
        """`label` int64 B; `tumour` B×1×S×S of 0 and 1, what any channel of the mask marks; `outlined` bool B, whether
        the mask is known. A data set without masks has none that is."""
        label = batch["label"]
        mask = batch.get("mask", torch.zeros_like(batch["image"]))
        known = batch.get("outlined", torch.zeros_like(label).bool())
        return {"label": label, "tumour": mask.amax(1, keepdim=True).float(), "outlined": known}

    def example(self, batch: Batch) -> tuple[Tensor, Batch]:
        targets = self.targets(batch)
        x, tumour = self.moved(self.inputs(batch), targets["tumour"])
        return x, targets | {"tumour": tumour}

    def per_image(self, outputs: Batch, targets: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """`outline`: cross-entropy of the pixels, and where there is a tumour 1 − Dice of its kind's probability with
        the mask; it counts where the mask is known. `name`: cross-entropy of the class; it always counts."""
        label, found = targets["label"], {}
        if self.outline:
            logits, tumour = outputs["outline"].float(), targets["tumour"][:, 0]
            channel = self.channel[label][:, None, None]
            pixels = F.cross_entropy(logits, (tumour * channel).long(), reduction="none").mean((1, 2))
            p = logits.softmax(1).gather(1, channel[:, None].expand(-1, 1, *tumour.shape[1:]))[:, 0]
            dice = 2 * (p * tumour).sum((1, 2)) / (p.sum((1, 2)) + tumour.sum((1, 2))).clamp_min(1e-6)
            shown = tumour.amax((1, 2)) * (self.channel[label] > 0)
            found["outline"] = pixels + shown * (1 - dice), targets["outlined"].float()
        logits = outputs["classes"].float()
        name = F.cross_entropy(logits, label, reduction="none", label_smoothing=self.label_smoothing)
        return found | {"name": (name, torch.ones_like(name))}

    def dice(self, outputs: Batch, targets: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """`dice` of each image, tumour of any kind, and whether it counts: where a known mask marks something."""
        found, tumour = self.where(outputs) > 0.5, targets["tumour"][:, 0] > 0
        sizes = found.sum((1, 2)) + tumour.sum((1, 2))
        dice = 2 * (found & tumour).sum((1, 2)) / sizes.clamp_min(1)
        return {"dice": (dice, (targets["outlined"] & tumour.any(2).any(1)).float())}

    def metrics(self) -> nn.ModuleDict:
        metrics = super().metrics()
        if self.outline:
            from utils.training.metrics import PerImage

            metrics.add_metrics({"outlines": PerImage(self.dice)})
        return metrics

    def probabilities(self, outputs: Batch) -> Tensor:
        return super().probabilities(outputs["classes"])

    def scores(self, outputs: Batch) -> Tensor:
        return outputs["classes"]

    def where(self, outputs: Batch) -> Tensor:
        """Probability of each pixel that it belongs to a tumour, B×S×S."""
        return 1 - outputs["outline"].float().softmax(1)[:, 0]

    @classmethod
    def evaluate(cls, table, names, resamples=1000, fold=None) -> dict:
        """Besides, `outline`, of the columns that `evaluation.outlining.describe` adds."""
        from utils.evaluation.outlining import evaluate_outlines

        return super().evaluate(table, names, resamples, fold) | {"outline": evaluate_outlines(table)}

    @classmethod
    def to_card(cls, run, model: nn.Module) -> dict:
        card = super().to_card(run, model)
        healthy = card["classes"].index(HEALTHY) if HEALTHY in card["classes"] else None
        return card | {"arguments": card["arguments"] | {"healthy": healthy}}

    @classmethod
    def from_card(cls, card: dict) -> Task:
        arguments = card["arguments"]
        return cls(len(card["classes"]), arguments["healthy"], outline=arguments.get("outline", True))

"""The task of an `OutlineClassifier`: name the image, and outline the tumour where somebody has outlined it.

Images whose mask is not known train the name only; those without a tumour have an empty mask.
"""

from operator import itemgetter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.wrappers import LambdaInputTransformer

from datasets.catalog import lookup
from datasets.store.images import scaled
from utils.training.augmentation import AUGMENTATIONS
from utils.training.balancing import BALANCES
from utils.training.metrics import PerImage, RawLosses

Outputs = dict[str, Tensor]


class Outlining(nn.Module):
    """Two tasks of one network: which class an image has, and which of its pixels belong to which kind of tumour.

    Args:
        num_classes: number of labels; healthy: index of the one without a tumour, None where there is none.
        balance: key of `balancing.BALANCES`, how the two losses become one.
        augmentation: key of `AUGMENTATIONS`, used in training only; masks are moved with their image.
        label_smoothing: of the name, share of a target that is spread over all classes.
        outline: that of the `OutlineClassifier`; without it the name alone is learned.
    """

    monitor = "accuracy"

    def __init__(
        self,
        num_classes: int,
        healthy: int | None,
        balance: str = "ema",
        augmentation: str = "none",
        label_smoothing: float = 0.0,
        outline: bool = True,
    ):
        super().__init__()
        self.num_classes, self.label_smoothing, self.outline = num_classes, label_smoothing, outline
        # Channel of the outline of each class: 0 is the background, to which a healthy image belongs as a whole.
        kinds = [k for k in range(num_classes) if k != healthy]
        channel = torch.tensor([kinds.index(k) + 1 if k in kinds else 0 for k in range(num_classes)])
        self.register_buffer("channel", channel, persistent=False)
        self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()
        self.balance = lookup(BALANCES, balance, "balance")(["outline"] * outline + ["name"])

    def inputs(self, batch: dict[str, Tensor]) -> Tensor:
        """`batch["image"]` of 8 or 16 bits, B×1×S×S → float in [0, 1]; the model repeats the channel."""
        return scaled(batch["image"]).contiguous(memory_format=torch.channels_last)

    def targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`label` int64 B; `tumour` B×1×S×S of 0 and 1, what any channel of the mask marks; `outlined` bool B, whether
        the mask is known. A data set without masks has none that is."""
        label, image = batch["label"], batch["image"]
        if "mask" in batch:
            tumour, outlined = batch["mask"].amax(1, keepdim=True).float(), batch["outlined"]
        else:
            tumour, outlined = torch.zeros_like(image[:, :1], dtype=torch.float32), torch.zeros_like(label).bool()
        return {"label": label, "tumour": tumour, "outlined": outlined}

    def example(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Inputs and targets for training, image and mask moved alike."""
        x, targets = self.inputs(batch), self.targets(batch)
        if self.augment is None:
            return x, targets
        x, moved = self.augment(x, targets["tumour"], data_keys=["input", "mask"])
        moved = (moved > 0.5).float()
        return x.contiguous(memory_format=torch.channels_last), targets | {"tumour": moved}

    def per_image(self, outputs: Outputs, targets: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Both losses of every image, B, and whether they count, B of 0 and 1.

        `outline`: cross-entropy of the pixels, and where there is a tumour 1 − Dice of its kind's probability with the
        mask; it counts where the mask is known. `name`: cross-entropy of the class; it always counts.
        """
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

    def parts(self, outputs: Outputs, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses that are balanced, each a mean over the images that count; without any it is 0, and so is its
        gradient."""
        return {
            name: (loss * counts).sum() / counts.sum().clamp_min(1)
            for name, (loss, counts) in self.per_image(outputs, targets).items()
        }

    def loss(self, outputs: Outputs, targets: dict[str, Tensor]) -> Tensor:
        """The balanced sum, a scalar."""
        return self.balance(self.parts(outputs, targets))

    def dice(self, outputs: Outputs, targets: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """`dice` of each image, tumour of any kind against background, B, and whether it counts: where a known mask
        marks something."""
        found, tumour = self.where(outputs) > 0.5, targets["tumour"][:, 0] > 0
        sizes = found.sum((1, 2)) + tumour.sum((1, 2))
        dice = 2 * (found & tumour).sum((1, 2)) / sizes.clamp_min(1)
        return {"dice": (dice, (targets["outlined"] & tumour.any(2).any(1)).float())}

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass: both raw losses and their sum `loss`, accuracy, F1, and Dice where there is an
        outline."""
        same = {"num_classes": self.num_classes, "sync_on_compute": False, "validate_args": False}
        named = {
            "accuracy": MulticlassAccuracy(average="micro", **same),
            "f1": MulticlassF1Score(average="macro", **same),
        }
        named = {
            name: LambdaInputTransformer(metric, itemgetter("classes"), itemgetter("label"))
            for name, metric in named.items()
        }
        outlined = {"outlines": PerImage(self.dice)} if self.outline else {}
        return MetricCollection({"raw": RawLosses(self.per_image)} | named | outlined, compute_groups=False)

    def probabilities(self, outputs: Outputs) -> Tensor:
        """Probabilities of the classes, B×K."""
        return outputs["classes"].float().softmax(dim=1)

    def where(self, outputs: Outputs) -> Tensor:
        """Probability of each pixel that it belongs to a tumour, B×S×S."""
        return 1 - outputs["outline"].float().softmax(1)[:, 0]

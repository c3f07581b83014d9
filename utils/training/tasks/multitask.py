"""S0's three tasks of one network: reconstruct the image, detect a tumour, and name its type."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets import catalog
from datasets.catalog import HEALTHY, DataError
from utils.training.tasks.base import Batch, SeveralLosses, Task


class MultiTask(SeveralLosses):
    """`healthy` is the index of the class without a tumour; `reconstruct`, `hierarchical` are the `MultiTaskUNet`'s."""

    def __init__(
        self,
        num_classes: int,
        healthy: int,
        balance: str = "ema",
        augmentation: str = "none",
        reconstruct: bool = True,
        hierarchical: bool = True,
    ):
        losses = ["reconstruction", "classification"] if reconstruct else ["classification"]
        super().__init__(num_classes, augmentation, balance, losses)
        self.healthy, self.reconstruct, self.hierarchical = healthy, reconstruct, hierarchical

    def targets(self, batch: Batch) -> Batch:
        """`label` int64 B, and the `image` to reconstruct, as `inputs` gives it."""
        return {"label": batch["label"], "image": self.inputs(batch)}

    def example(self, batch: Batch) -> tuple[Tensor, Batch]:
        x = self.inputs(batch, training=True)
        return x, {"label": batch["label"], "image": x}

    def per_image(self, outputs: Batch, targets: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Every loss of every image, and whether it counts: a healthy image has no tumour type."""
        label, found = targets["label"], {}
        every = torch.ones_like(label, dtype=torch.float32)
        if self.reconstruct:
            found["reconstruction"] = ((outputs["reconstruction"] - targets["image"]) ** 2).mean((1, 2, 3)), every
        if not self.hierarchical:
            found["classes"] = F.cross_entropy(outputs["classes"], label, reduction="none"), every
            return found
        tumour = (label != self.healthy).float()
        found["tumour"] = F.binary_cross_entropy_with_logits(outputs["tumour"], tumour, reduction="none"), every
        # Types are numbered without the healthy class; a healthy image gets an arbitrary one, which does not count.
        kind = (label - (label > self.healthy).long()).clamp_max(outputs["subtype"].shape[1] - 1)
        found["subtype"] = F.cross_entropy(outputs["subtype"], kind, reduction="none"), tumour
        return found

    def parts(self, outputs: Batch, targets: Batch) -> Batch:
        """`reconstruction`, and `classification`, the sum of the heads' losses."""
        means = super().parts(outputs, targets)
        reconstruction = {"reconstruction": means.pop("reconstruction")} if self.reconstruct else {}
        return reconstruction | {"classification": sum(means.values())}

    def probabilities(self, outputs: Batch) -> Tensor:
        """B×K: of a kind of tumour p(tumour)·p(kind | tumour), of the healthy class 1 − p(tumour)."""
        if "classes" in outputs:
            return super().probabilities(outputs["classes"])
        tumour = outputs["tumour"].float().sigmoid()[:, None]
        kinds = tumour * outputs["subtype"].float().softmax(1)
        return torch.cat([kinds[:, : self.healthy], 1 - tumour, kinds[:, self.healthy :]], dim=1)

    def scores(self, outputs: Batch) -> Tensor:
        return outputs["classes"] if "classes" in outputs else self.probabilities(outputs).clamp_min(1e-12).log()

    def decide(self, probabilities: Tensor, threshold: float | None = None) -> Tensor:
        """S0's rule: p(tumour) < `threshold`, .5, → healthy, else the likeliest tumour, though no kind of it may reach
        the probability of none. Where there is one head and no threshold: the likeliest class."""
        if threshold is None and not self.hierarchical:
            return probabilities.argmax(1)
        kinds = probabilities.clone()
        kinds[:, self.healthy] = -1
        none = 1 - probabilities[:, self.healthy].double() < (0.5 if threshold is None else threshold)
        return torch.where(none, self.healthy, kinds.argmax(1))

    @classmethod
    def evaluate(cls, table, names, resamples=1000, fold=None) -> dict:
        """Besides, `screening` and `anomaly` where the table has the columns `screened` and `error`."""
        from utils.evaluation.reconstruction import anomaly
        from utils.evaluation.thresholds import screening

        found = super().evaluate(table, names, resamples, fold)
        if "screened" in table:
            found["screening"] = screening(table, resamples)
        if "error" in table:
            found["anomaly"] = anomaly(table, names, resamples, fold=fold)
        return found

    @classmethod
    def to_card(cls, run, model: nn.Module) -> dict:
        return {"arguments": {"in_channels": model.in_channels}, "classes": list(catalog.get(run.dataset).classes)}

    @classmethod
    def from_card(cls, card: dict) -> Task:
        heads = {name: card["arguments"].get(name, True) for name in ("reconstruct", "hierarchical")}
        return cls(len(card["classes"]), card["classes"].index(HEALTHY), **heads)


def healthy_class(name: str) -> int:
    """Index of the class without a tumour of data set `name`; raises `DataError` where there is none."""
    classes = catalog.get(name).classes
    if HEALTHY not in classes:
        able = ", ".join(n for n, facts in catalog.CATALOG.items() if HEALTHY in facts.classes and not facts.test_only)
        todo = f"Take one of: {able}; or, of your own images, call the class without a tumour '{HEALTHY}'"
        raise DataError(f"'{name}' has no images without a tumour, so there is none to detect. {todo}")
    return classes.index(HEALTHY)

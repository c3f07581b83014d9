"""Writes `docs/scaling.md`: what 8 and 64 GPUs would read, exchange and compute in an epoch, worked out on paper.

    python benchmarks/scaling.py

Numbers of images, sides and channels come from `datasets/catalog.py`, batches from the recipes, parameters and
operations from the models, bytes and processor time of an image from `saved_metrics/benchmarks/`; what is assumed of
a cluster stands in `Cluster`, and on the page.
"""

import json
from dataclasses import dataclass, field
from functools import cache, cached_property

import torch
from torch.utils.flop_counter import FlopCounterMode

from datasets import catalog
from datasets.catalog import REPO
from datasets.splitting import MIDDLE
from datasets.store.images import IN_MEMORY_BYTES
from models import BACKBONES, MODELS, MULTITASK, SEGMENTERS, build_backbone
from utils.files import write_atomically
from utils.recipes import get_recipe
from utils.training.data import MOST_WORKERS
from utils.training.optimisation import freeze

PAGE, RECORDS = REPO / "docs/scaling.md", REPO / "saved_metrics/benchmarks"
PROCESSES = (1, 8, 64)
BATCHES = (16, 64, 256, 1024)
BYTES_A_GRADIENT = 4  # gradients are exchanged with 32 bits, under bf16 autocast, too
PASSES = 3  # backward costs twice what forward does


def assumed(value: float, words: str) -> float:
    """A field with what it means, for the page."""
    return field(default=value, metadata={"words": words})


@dataclass(frozen=True)
class Cluster:
    """What is assumed of a cluster; none of it was measured here."""

    gpus: int = assumed(8, "GPUs a node")
    operations: float = assumed(2e14, "operations a second that a GPU reaches: a fifth of an H100's 989 TFLOP/s (bf16)")
    within: float = assumed(4.5e11, "bytes a second that a GPU sends to others of its node: NVLink of an H100")
    between: float = assumed(5e10, "bytes a second that a node sends to another: one network card of 400 Gbit/s")
    hop: float = assumed(1e-5, "seconds that a message takes, whatever its size")
    to_gpu: float = assumed(5e10, "bytes a second from a node's memory to each GPU: PCIe 5")
    disk: float = assumed(5e9, "bytes a second that the shared disk gives to all nodes together")
    workers: int = assumed(MOST_WORKERS, "cores that read for a GPU, as in `utils/training/data.py`")


CLUSTER = Cluster()


@cache
def record(name: str) -> dict:
    return json.loads((RECORDS / f"{name}.json").read_text())


@dataclass(frozen=True)
class Job:
    """A training: data set, model, recipe, side of its input in pixels; `read_as`: the set in `reading.json` that is
    read alike."""

    dataset: str
    model: str
    recipe: str
    side: int
    read_as: str = ""
    selection: str = "all"

    @cached_property
    def facts(self) -> catalog.Dataset:
        return catalog.get(self.dataset)

    @cached_property
    def batch(self) -> int:
        return get_recipe(self.recipe, self.model).batch_size

    @property
    def title(self) -> str:
        return self.dataset + (f", {self.selection} slices" if self.selection != "all" else "")

    @property
    def segments(self) -> bool:
        return self.model in SEGMENTERS

    @property
    def images(self) -> int:
        """Images of the selection."""
        taken = (MIDDLE[1] - MIDDLE[0] + 1) / self.facts.slices if self.selection == "middle" else 1
        return round(self.facts.images * taken)

    @property
    def tested(self) -> int:
        """Images of a fold's test set."""
        return round(self.images / self.facts.folds)

    @property
    def trained(self) -> int:
        """Training images of a patient fold: the others, but for the recipe's share for validation."""
        return round((self.images - self.tested) * (1 - get_recipe(self.recipe, self.model).val_fraction))

    @property
    def on_disk(self) -> float:
        """Bytes of a stored image, masks included where they are read."""
        if self.facts.layout == "brats":
            return record("volumes")["8 bits"]["gzip-1"]["GiB of BraTS 2020"] * 2**30 / catalog.get("brats2020").images
        return record("reading")["sets"][self.read_as or self.dataset]["bytes an image on disk"]

    @property
    def to_gpu(self) -> int:
        """Bytes of an image as it moves to the GPU: 8 bits a pixel and channel, masks, label and row."""
        channels = len(self.facts.channels) + len(self.facts.mask_channels) if self.segments else 1
        return channels * self.side**2 + 16

    @property
    def reading(self) -> float:
        """Seconds of a core to read an image; of brats-mini, with two sequences of four, twice what was measured."""
        found = record("reading")["sets"][self.read_as or self.dataset]
        wanted = len(self.facts.channels) if self.segments else 1
        return found["ms an image"] / 1000 * wanted / found["input"][0]

    def kept(self, processes: int) -> bool:
        """Whether the processes of a node keep what they train on in memory, as `ImageDataset` decides."""
        return self.trained * (self.to_gpu - 16) * min(processes, CLUSTER.gpus) <= IN_MEMORY_BYTES

    @cached_property
    def network(self) -> tuple[int, float]:
        """Parameters that are trained, and operations of a forward pass of one image."""
        return network(self.model, self.recipe, self.side, len(self.facts.channels), self.facts.name)

    def gradients(self, processes: int) -> float:
        """Bytes that each process sends in a step: a ring passes every gradient on 2(n - 1)/n times."""
        return BYTES_A_GRADIENT * self.network[0] * 2 * (processes - 1) / processes

    def seconds(self, processes: int, batch: int) -> dict[str, float]:
        """Seconds of one step by what takes them."""
        share, steps = batch / processes, 2 * (processes - 1)
        link = CLUSTER.within if processes <= CLUSTER.gpus else CLUSTER.between
        read = 0 if self.kept(processes) else share * self.reading / CLUSTER.workers
        return {
            "computing": PASSES * self.network[1] * share / CLUSTER.operations,
            "gradients": self.gradients(processes) / link + steps * CLUSTER.hop,
            "reading": read,
            "to the GPU": share * self.to_gpu / CLUSTER.to_gpu,
        }

    def efficiency(self, processes: int, batch: int, alone: int) -> float:
        """Images a second of each process as a share of one process with a batch of `alone`; gradients are exchanged
        after all else, which is the worst case, and all else at the same time."""

        def an_image(n: int, of: int) -> float:
            took = self.seconds(n, of)
            exchange = took.pop("gradients")
            return (max(took.values()) + exchange) * n / of

        return an_image(1, alone) / an_image(processes, batch)


@cache
def network(model: str, recipe: str, side: int, channels: int, dataset: str) -> tuple[int, float]:
    """Parameters of a model that `recipe` trains, in the stage in which they are most, and operations of one image,
    counted without computing it."""
    settings = get_recipe(recipe, model)
    args = dict(settings.model_args)
    with torch.device("meta"):
        if model in BACKBONES:
            classes = len(catalog.get(dataset).classes)
            net = build_backbone(model, num_classes=classes, in_channels=3, image_size=side, **args)
            channels = 3
        elif model in SEGMENTERS:
            net = SEGMENTERS[model](in_channels=channels, **args)
        elif model in MULTITASK:
            net, channels = MULTITASK[model](**args), 1
        else:
            net, channels = MODELS[model](image_size=side), 3
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net.eval()(torch.empty(1, channels, side, side))
    trained = []
    for stage in settings.in_stages():
        freeze(net, stage)
        trained.append(sum(weights.numel() for weights in net.parameters() if weights.requires_grad))
    return max(trained), counter.get_total_flops()


JOBS = (
    Job("brain-tumor-mri", "CustomCNN", "s2", 128),
    Job("brain-tumor-mri", "ViT", "s2", 128),
    Job("brain-tumor-mri", "MultiTaskUNet", "s0", 512, read_as="cheng"),
    Job("brain-tumor-mri", "EfficientNetV2-S", "s3", 224, read_as="cheng"),
    Job("brain-tumor-44c", "EfficientNetV2-B1", "s4", 224, read_as="cheng"),
    Job("chest-xray14", "DenseNet121", "chexnet", 224),
    Job("brats2020", "AttentionUNet", "s2", 240, read_as="brats-mini", selection="middle"),
    Job("brats2020", "AttentionUNet", "s2", 240, read_as="brats-mini"),
)


if __name__ == "__main__":
    from scaling_page import page

    write_atomically(PAGE, page())
    print(PAGE.relative_to(REPO))

"""Times the steps of training (reading, augmenting, the model): the loop's small twin, on random images.

    python benchmarks/training.py [--model CustomCNN] [--batch 64] [--threads 2]

Prints milliseconds a batch, medians of alternating rounds, and the ratios that matter: input pipeline against model,
and kornia (one call a batch) against torchvision v2 (one call an image) for S2's augmentation.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torchvision.transforms import v2

from models import MODELS
from utils.training.tasks import Classification


def milliseconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="CustomCNN")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    store = torch.randint(0, 256, (2000, 1, 128, 128), dtype=torch.uint8)
    labels = torch.randint(0, 4, (args.batch,))
    task, net = Classification(4, 3, "s2"), MODELS[args.model]()
    optimizer = torch.optim.Adam(net.parameters())
    flip, rotate = v2.RandomHorizontalFlip(), v2.RandomRotation(10, interpolation=v2.InterpolationMode.BILINEAR)
    single = v2.Compose([flip, rotate, v2.ColorJitter(0.2, 0.2)])
    batch = {"image": store[: args.batch]}

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(task.inputs(batch)), labels).backward()
        optimizer.step()

    works = {
        "read": lambda: store[torch.randint(0, len(store), (args.batch,))],
        "augment, kornia": lambda: task.inputs(batch, training=True),
        "augment, torchvision": lambda: torch.stack([single(image) for image in batch["image"]]).float() / 255,
        "model step": step,
    }
    for work in works.values():
        work()  # the first call also allocates
    rounds = [{name: milliseconds(work) for name, work in works.items()} for _ in range(args.rounds)]
    cost = {name: median(r[name] for r in rounds) for name in works}
    for name, value in cost.items():
        print(f"{name:22s} {value:8.1f} ms a batch")
    pipeline = cost["read"] + cost["augment, kornia"]
    print(f"input pipeline / model: {pipeline / cost['model step']:.3f}")
    print(f"torchvision / kornia:   {cost['augment, torchvision'] / cost['augment, kornia']:.1f}")


if __name__ == "__main__":
    main()

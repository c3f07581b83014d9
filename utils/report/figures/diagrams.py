"""Diagrams of networks, whose sizes are read from the network itself while an empty image passes through it."""

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from models import AttentionUNet, MultiTaskUNet, OutlineClassifier
from utils.report.figures.common import LETTERS, PAGE

ENCODER, DECODER, HEAD, DATA = "#CFE3F1", "#FBE3C5", "#D5EFE6", "#EEEEEE"  # pale tints of the palette, black on them
WIDE, HIGH, ROW = 1.55, 0.32, 0.56  # inches: a box, and from one row to the next
LEFT, MIDDLE, RIGHT = 0.95, PAGE / 2, PAGE - 0.95  # where boxes stand


@dataclass(frozen=True)
class Box:
    """A box by its centre, in inches."""

    x: float
    y: float
    width: float = WIDE
    height: float = HIGH

    @property
    def left(self) -> tuple[float, float]:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x, self.y - self.height / 2


class Canvas:
    """An empty page of some height whose coordinates are inches, with boxes and arrows."""

    def __init__(self, height: float, title: str):
        self.figure = plt.figure(figsize=(PAGE, height))
        self.axis = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, PAGE), ylim=(0, height))
        self.axis.axis("off")
        self.axis.text(MIDDLE, height - 0.06, title, ha="center", va="top", fontsize=LETTERS)

    def box(self, x: float, y: float, text: str, colour: str, width: float = WIDE, height: float = HIGH) -> Box:
        place = Box(x, y, width, height)
        corner = (x - width / 2, y - height / 2)
        style = {"boxstyle": "round,pad=0,rounding_size=0.05", "facecolor": colour, "edgecolor": "0.3"}
        self.axis.add_patch(FancyBboxPatch(corner, width, height, **style))
        self.axis.text(x, y, text, ha="center", va="center", fontsize=LETTERS)
        return place

    def arrow(self, *points: tuple[float, float], text: str = "") -> None:
        """An arrow along `points`; its text stands above the middle of its last part, or right of a vertical one."""
        for start, end in pairwise(points[:-1]):
            self.axis.plot(*zip(start, end, strict=True), color="0.3", linewidth=1)
        (x0, y0), (x1, y1) = points[-2:]
        line = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
        self.axis.annotate("", (x1, y1), (x0, y0), arrowprops=line)
        upright = abs(x1 - x0) < abs(y1 - y0)
        x, y = (x0 + x1) / 2 + 0.05 * upright, (y0 + y1) / 2 + 0.03 * (not upright)
        where = {"ha": "left", "va": "center"} if upright else {"ha": "center", "va": "bottom"}
        self.axis.text(x, y, text, fontsize=LETTERS, **where)


@dataclass(frozen=True)
class Passed:
    """What went into a module and came out of it: shapes without the batch."""

    into: tuple[int, ...]
    out: tuple[int, ...]


def traced(net: nn.Module, x: Tensor, modules: Iterable[nn.Module]) -> list[Passed]:
    """The shapes at `modules` while `x` passes through `net`, once each, in their order."""
    modules, found = list(modules), {}

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        found[module] = Passed(tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        with _evaluating(net), torch.no_grad():
            net(x.to(next(net.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return [found[module] for module in modules]


@contextmanager
def _evaluating(net: nn.Module):
    training = net.training
    try:
        yield net.eval()
    finally:
        net.train(training)


def size(shape: Sequence[int]) -> str:
    """`16 × 64 × 64` of channels, height and width."""
    return " × ".join(map(str, shape))


def _layers(level: nn.Module) -> str:
    """The convolutions of a level in order: `3×3, 3×3`; a depthwise one has a filter for each channel alone."""
    convolutions = [m for m in level.modules() if isinstance(m, nn.Conv2d)]
    depthwise = [m.groups == m.in_channels > 1 for m in convolutions]
    return ", ".join(
        f"{'depthwise ' * alone}{m.kernel_size[0]}×{m.kernel_size[1]}"
        for m, alone in zip(convolutions, depthwise, strict=True)
    )


def _parameters(net: nn.Module) -> str:
    return f"{sum(p.numel() for p in net.parameters()):,} parameters"


def unet(net: nn.Module, image_size: int) -> Figure:
    """A U-Net level by level: the encoder on the left, the decoder on the right, skip connections between them.

    Args:
        net: `ClassicUNet`, `ImprovedUNet`, `AttentionUNet` or `MultiTaskUNet` with its decoder.
        image_size: side of the image that passes through, in pixels.
    """
    multi = isinstance(net, MultiTaskUNet)
    *encoder, bottleneck = net.encoder if multi else [*net.encoder, net.bottleneck]
    decoder, out = (net.decoder.blocks, net.decoder.out) if multi else (net.decoder, net.head)
    x = torch.zeros(1, net.in_channels, image_size, image_size)
    found = traced(net, x, [*encoder, bottleneck, *decoder, out])
    down, deepest, up, last = found[: len(encoder)], found[len(encoder)], found[len(encoder) + 1 : -1], found[-1]

    rows = len(encoder) + 2 + 2 * multi
    title = f"{type(net).__name__}, {_parameters(net)}\nconvolutions of a level: {_layers(encoder[1])}"
    canvas = Canvas(0.55 + ROW * rows, title)
    heights = [0.1 + ROW * (rows - 0.5 - row) for row in range(rows)]
    image = canvas.box(LEFT, heights[0], f"image {size(x.shape[1:])}", DATA)
    left = [canvas.box(LEFT, y, size(p.out), ENCODER) for y, p in zip(heights[1:], down, strict=False)]
    right = [canvas.box(RIGHT, y, size(p.out), DECODER) for y, p in zip(heights[1:], reversed(up), strict=False)]
    deep = canvas.box(MIDDLE, heights[len(encoder) + 1], size(deepest.out), ENCODER)
    result = canvas.box(RIGHT, heights[0], f"{'image' if multi else 'masks'} {size(last.out)}", DATA)

    canvas.arrow(image.bottom, left[0].top)
    for above, below in pairwise(left):
        canvas.arrow(above.bottom, below.top, text="max-pool")
    canvas.arrow(left[-1].bottom, (LEFT, deep.y), deep.left, text="max-pool")
    enlarged = "transposed convolution" if multi else "enlarged"
    canvas.arrow(deep.right, (RIGHT, deep.y), right[-1].bottom)
    canvas.axis.text((deep.right[0] + RIGHT) / 2, deep.y + 0.03, enlarged, ha="center", va="bottom", fontsize=LETTERS)
    for above, below in pairwise(right):
        canvas.arrow(below.top, above.bottom, text="" if multi else enlarged)
    canvas.arrow(right[0].top, result.bottom, text="1×1")
    for a, b, skip, level in zip(left, right, down, reversed(up), strict=True):
        joined = "concatenated" if level.into[0] > skip.out[0] else "added"
        canvas.arrow(a.right, b.left, text=f"times the gate, {joined}" if hasattr(net, "gates") else joined)
    if multi:
        _heads(canvas, net, deep, heights[-2:], x)
    return canvas.figure


def _heads(canvas: Canvas, net: MultiTaskUNet, deep: Box, heights: Sequence[float], x: Tensor) -> None:
    """What reads the bottleneck of a multi-task network."""
    modules = {"latent": net.shared} | dict(net.heads.items())
    found = dict(zip(modules, traced(net, x, modules.values()), strict=True))
    names = {"tumour": "tumour or none", "subtype": "tumour type", "classes": "class"}
    latent = canvas.box(MIDDLE, heights[0], f"latent {size(found['latent'].out)}", HEAD)
    canvas.arrow(deep.bottom, latent.top, text="mean over all places, linear layer")
    places = (MIDDLE - 1.2, MIDDLE + 1.2) if len(net.heads) > 1 else (MIDDLE,)
    for name, place in zip(net.heads, places, strict=True):
        head = canvas.box(place, heights[1], f"{names[name]}: {size(found[name].out)}", HEAD, width=1.8)
        canvas.arrow(latent.bottom, head.top)


def gate(net: AttentionUNet, image_size: int, number: int = 1) -> Figure:
    """One attention gate of a network with the sizes of its tensors; gate 1 is the deepest."""
    module = net.gates[number - 1]
    steps = {"query": module.query, "key": module.key, "score": module.score[1], "map": module}
    x = torch.zeros(1, net.in_channels, image_size, image_size)
    found = dict(zip(steps, traced(net, x, steps.values()), strict=True))
    channels, *whole = found["map"].into[0], *found["map"].out[1:]
    canvas = Canvas(2.7, f"gate {number} of {type(net).__name__}, {_parameters(module)}")
    top, middle, low = 2.15, 1.45, 0.55
    decoder = canvas.box(0.95, top, f"decoder {size(found['map'].into)}", DECODER, width=1.7)
    skip = canvas.box(0.95, low, f"skip {size((channels, *whole))}", ENCODER, width=1.7)
    query = canvas.box(2.75, top, f"1×1 to {size(found['query'].out)}", HEAD, width=1.4)
    key = canvas.box(2.75, middle, f"1×1 to {size(found['key'].out)}", HEAD, width=1.4)
    together = canvas.box(4.05, top, "added, ReLU", HEAD, width=0.9)
    normalised = any(isinstance(m, nn.InstanceNorm2d) for m in module.score)
    lines = f"1×1 to {size(found['score'].out)}\n{'normalised, ' * normalised}sigmoid"
    score = canvas.box(5.5, top, lines, HEAD, width=1.4, height=0.44)
    found_map = canvas.box(5.5, middle, f"gate {size(found['map'].out)}", HEAD, width=1.4)
    product = canvas.box(5.5, low, f"skip × gate\n{size((channels, *whole))}", DECODER, width=1.4, height=0.44)
    canvas.arrow(decoder.right, query.left)
    canvas.arrow(query.right, together.left)
    canvas.arrow(skip.top, (0.95, middle), key.left, text="every 2nd pixel")
    canvas.arrow(key.right, (together.x, middle), together.bottom)
    canvas.arrow(together.right, score.left)
    canvas.arrow(score.bottom, found_map.top, text="enlarged")
    canvas.arrow(found_map.bottom, product.top)
    canvas.arrow(skip.right, product.left, text="the skip itself")
    return canvas.figure


def outline_classifier(net: OutlineClassifier) -> Figure:
    """The network that outlines the tumour and names the image, with the sizes of its maps."""
    encoder, drawn, side = net.backbone, hasattr(net.head, "decoder"), net.image_size
    x = torch.zeros(1, 3, side, side)
    maps: list[Tensor] = []
    handle = encoder.register_forward_hook(lambda module, inputs, output: maps.extend(output))
    try:
        (named,) = traced(net, x, [net.head.name.out])
    finally:
        handle.remove()
    canvas = Canvas(0.45 + ROW * 6.4, f"{type(net).__name__}, {_parameters(net)}")
    heights = [0.15 + ROW * (5.9 - row) for row in range(7)]
    image = canvas.box(LEFT, heights[0], f"image {size(x.shape[1:])}", DATA)
    left = [canvas.box(LEFT, y, size(m.shape[1:]), ENCODER) for y, m in zip(heights[1:], maps, strict=False)]
    for above, below in pairwise([image, *left]):
        canvas.arrow(above.bottom, below.top)
    name = canvas.box(LEFT, heights[-1] + 0.15, f"classes {size(named.out)}", HEAD)
    if not drawn:
        canvas.arrow(left[-1].bottom, name.top, text="mean and maximum of all places")
        return canvas.figure
    decoder = net.head.decoder
    *blocks, out = traced(net, x, [*decoder.blocks, decoder.out])
    right = [canvas.box(RIGHT, y, size(p.out), DECODER) for y, p in zip(heights[1:], blocks, strict=False)]
    outline = canvas.box(RIGHT, heights[0], f"outline {size((out.out[0], side, side))}", DATA)
    for a, b in zip(left, right, strict=False):
        canvas.arrow(a.right, b.left, text="1×1, added")
    canvas.arrow(left[-1].right, (RIGHT, left[-1].y), right[-1].bottom)
    canvas.axis.text(MIDDLE, left[-1].y + 0.03, "1×1, enlarged", ha="center", va="bottom", fontsize=LETTERS)
    for above, below in pairwise(right):
        canvas.arrow(below.top, above.bottom, text="enlarged")
    canvas.arrow(right[0].top, outline.bottom, text="1×1, enlarged")
    if net.named_from == "image":
        canvas.arrow(left[-1].bottom, name.top, text="mean and maximum of all places")
        return canvas.figure
    inside = canvas.box(MIDDLE, name.y, "features inside the outline", HEAD, width=1.9)
    canvas.arrow(
        (LEFT + 0.4, left[-1].y - HIGH / 2), (LEFT + 0.4, name.y + 0.36), (inside.x, name.y + 0.36), inside.top
    )
    edge = PAGE - 0.06
    canvas.arrow(outline.right, (edge, outline.y), (edge, name.y), inside.right, text="the outline as weights")
    canvas.arrow(inside.left, name.right, text="linear")
    return canvas.figure

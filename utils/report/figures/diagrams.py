"""Diagrams of networks, whose sizes are read while an empty image passes through them, and of the repository."""

from collections.abc import Sequence
from itertools import pairwise
from math import copysign

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from datasets.catalog import CATALOG, REPO
from datasets.splitting import PROTOCOLS
from datasets.store.index import SPLITS
from models import BACKBONES, MODELS, MULTITASK, SEGMENTERS, AttentionUNet, MultiTaskUNet, OutlineClassifier
from utils.recipes import RECIPES
from utils.report.figures.common import LETTERS, PAGE
from utils.report.records import Evidence
from utils.report.tables import BLOCKS

ENCODER, DECODER, HEAD, DATA = "#CFE3F1", "#FBE3C5", "#D5EFE6", "#EEEEEE"  # pale tints of the palette, black on them
ROW, LEFT, MIDDLE, RIGHT = 0.56, 0.95, PAGE / 2, PAGE - 0.95  # inches: from one row to the next; where boxes stand
HEADS = {"tumour": "tumour or none", "subtype": "tumour type", "classes": "class"}


class Canvas:
    """A page whose coordinates are inches, with boxes, by name, and arrows between them."""

    def __init__(self, height: float, title: str):
        self.figure = plt.figure(figsize=(PAGE, height))
        self.axis, self.boxes = self.figure.add_axes((0, 0, 1, 1)), {}
        self.axis.set(xlim=(0, PAGE), ylim=(0, height))
        self.axis.axis("off")
        self.text(MIDDLE, height - 0.06, title, va="top")

    def text(self, x: float, y: float, text: str, **style) -> None:
        self.axis.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": LETTERS} | style)

    def box(self, name: str, x: float, y: float, text: str, colour: str, width: float = 1.55, height: float = 0.32):
        style = {"boxstyle": "round,pad=0,rounding_size=0.05", "facecolor": colour, "edgecolor": "0.3"}
        self.axis.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
        self.text(x, y, text)
        self.boxes[name] = x, y, width, height

    def arrow(self, *path: str | tuple[float, float], text: str = "") -> None:
        """An arrow from box to box by corners; its text stands above its last part, or right of a vertical one."""
        points = [self.boxes[step][:2] if isinstance(step, str) else step for step in path]
        points[0], points[-1] = self._edge(path[0], points[1]), self._edge(path[-1], points[-2])
        for start, end in pairwise(points[:-1]):
            self.axis.plot(*zip(start, end, strict=True), color="0.3", linewidth=1)
        (x0, y0), (x1, y1) = points[-2:]
        line = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
        self.axis.annotate("", (x1, y1), (x0, y0), arrowprops=line)
        if abs(x1 - x0) < abs(y1 - y0):
            self.text(x1 + 0.05, (y0 + y1) / 2, text, ha="left")
        else:
            self.text((x0 + x1) / 2, y1 + 0.03, text, va="bottom")

    def _edge(self, name: str, towards: tuple[float, float]) -> tuple[float, float]:
        """Where a horizontal or vertical line from the middle of a box towards a point leaves it."""
        x, y, width, height = self.boxes[name]
        across, up = towards[0] - x, towards[1] - y
        if abs(across) > abs(up):
            return x + copysign(width / 2, across), y
        return x, y + copysign(height / 2, up)


def traced(net: nn.Module, x: Tensor, modules: Sequence[nn.Module]) -> list[tuple[Sequence[int], ...]]:
    """What went into each module and what came out, as shapes without the batch, while `x` passed through `net`."""
    found, training = {}, net.training

    def keep(module: nn.Module, inputs: tuple, output: Tensor | list[Tensor]) -> None:
        outputs = [tuple(one.shape[1:]) for one in ([output] if isinstance(output, Tensor) else output)]
        found[module] = tuple(inputs[0].shape[1:]), *outputs

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.no_grad():
            net.eval()(x.to(next(net.parameters()).device))
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return [found[module] for module in modules]


def size(shape: Sequence[int]) -> str:
    """`16 × 64 × 64` of channels, height and width."""
    return " × ".join(map(str, shape))


def _title(net: nn.Module, name: str = "") -> str:
    return f"{name or type(net).__name__}, {sum(p.numel() for p in net.parameters()):,} parameters"


def unet(net: nn.Module, image_size: int) -> Figure:
    """A U-Net (also `MultiTaskUNet` with its decoder) level by level: encoder on the left, decoder on the right,
    skip connections between them. `image_size`: side of the image that passes through, in pixels."""
    multi = isinstance(net, MultiTaskUNet)
    *encoder, bottleneck = net.encoder if multi else [*net.encoder, net.bottleneck]
    decoder, out = (net.decoder.blocks, net.decoder.out) if multi else (net.decoder, net.head)
    heads = {"latent": net.shared, **net.heads} if multi else {}
    x = torch.zeros(1, net.in_channels, image_size, image_size)
    found = traced(net, x, [*encoder, bottleneck, *decoder, out, *heads.values()])
    levels, shapes = len(encoder), [shape for _, shape in found]
    up = found[levels + 1 : 2 * levels + 1][::-1]  # of the decoder, the largest first

    convolutions = [m for m in encoder[1].modules() if isinstance(m, nn.Conv2d)]
    kernels = [f"{m.kernel_size[0]}×{m.kernel_size[1]}" for m in convolutions]
    alone = ["depthwise " if m.groups == m.in_channels > 1 else "" for m in convolutions]  # a filter a channel
    layers = ", ".join(map("".join, zip(alone, kernels, strict=True)))
    rows = levels + (4 if multi else 2)
    canvas = Canvas(0.55 + ROW * rows, f"{_title(net)}\nconvolutions of a level: {layers}")
    heights = [0.1 + ROW * (rows - 0.5 - row) for row in range(rows)]
    canvas.box("down0", LEFT, heights[0], f"image {size(x.shape[1:])}", DATA)
    for level, y in enumerate(heights[1 : levels + 1]):
        canvas.box(f"down{level + 1}", LEFT, y, size(shapes[level]), ENCODER)
        canvas.box(f"up{level + 1}", RIGHT, y, size(up[level][1]), DECODER)
    bottom = heights[levels + 1]
    canvas.box("deep", MIDDLE, bottom, size(shapes[levels]), ENCODER)
    canvas.box("up0", RIGHT, heights[0], f"{'image' if multi else 'masks'} {size(shapes[2 * levels + 1])}", DATA)

    enlarged = "transposed convolution" if multi else "enlarged"
    gated = "times the gate, " if hasattr(net, "gates") else ""
    for level in range(1, levels + 1):
        canvas.arrow(f"down{level - 1}", f"down{level}", text="max-pool" if level > 1 else "")
        canvas.arrow(f"up{level}", f"up{level - 1}", text="1×1" if level == 1 else "" if multi else enlarged)
        joined = "concatenated" if up[level - 1][0][0] > shapes[level - 1][0] else "added"
        canvas.arrow(f"down{level}", f"up{level}", text=gated + joined)
    canvas.arrow(f"down{levels}", (LEFT, bottom), "deep", text="max-pool")
    canvas.arrow("deep", (RIGHT, bottom), f"up{levels}")
    canvas.text((MIDDLE + 0.775 + RIGHT) / 2, bottom + 0.03, enlarged, va="bottom")
    for k, (name, shape) in enumerate(zip(heads, shapes[2 * levels + 2 :], strict=True)):
        if name == "latent":
            canvas.box(name, MIDDLE, heights[-2], f"latent {size(shape)}", HEAD)
            canvas.arrow("deep", "latent", text="mean over all places, linear layer")
            continue
        place = MIDDLE if len(heads) == 2 else MIDDLE + (1.2 if k == 2 else -1.2)
        canvas.box(name, place, heights[-1], f"{HEADS[name]}: {size(shape)}", HEAD, width=1.8)
        canvas.arrow("latent", *([] if place == MIDDLE else [(place, heights[-2])]), name)
    return canvas.figure


def gate(net: AttentionUNet, image_size: int) -> Figure:
    """The deepest attention gate of a network with the sizes of its tensors."""
    module = net.gates[0]
    x = torch.zeros(1, net.in_channels, image_size, image_size)
    (_, query), (_, key), (_, score), (into, out) = traced(net, x, [module.query, module.key, module.score[1], module])
    skip = size((into[0], *out[1:]))
    normalised = "normalised, " if any(isinstance(m, nn.InstanceNorm2d) for m in module.score) else ""
    canvas, top, middle, low = Canvas(2.7, _title(module, f"gate 1 of {type(net).__name__}")), 2.15, 1.45, 0.55
    canvas.box("decoder", 0.95, top, f"decoder {size(into)}", DECODER, 1.7)
    canvas.box("skip", 0.95, low, f"skip {skip}", ENCODER, 1.7)
    canvas.box("query", 2.75, top, f"1×1 to {size(query)}", HEAD, 1.4)
    canvas.box("key", 2.75, middle, f"1×1 to {size(key)}", HEAD, 1.4)
    canvas.box("sum", 4.05, top, "added, ReLU", HEAD, 0.9)
    canvas.box("score", 5.5, top, f"1×1 to {size(score)}\n{normalised}sigmoid", HEAD, 1.4, 0.44)
    canvas.box("gate", 5.5, middle, f"gate {size(out)}", HEAD, 1.4)
    canvas.box("product", 5.5, low, f"skip × gate\n{skip}", DECODER, 1.4, 0.44)
    canvas.arrow("decoder", "query")
    canvas.arrow("query", "sum")
    canvas.arrow("skip", (0.95, middle), "key", text="every 2nd pixel")
    canvas.arrow("key", (4.05, middle), "sum")
    canvas.arrow("sum", "score")
    canvas.arrow("score", "gate", text="enlarged")
    canvas.arrow("gate", "product")
    canvas.arrow("skip", "product", text="the skip itself")
    return canvas.figure


def outline_classifier(net: OutlineClassifier) -> Figure:
    """The network that outlines the tumour and names the image, with the sizes of its maps."""
    side, drawn = net.image_size, hasattr(net.head, "decoder")
    x = torch.zeros(1, 3, side, side)
    decoder = [*net.head.decoder.blocks, net.head.decoder.out] if drawn else []
    (_, *maps), (_, named), *up = traced(net, x, [net.backbone, net.head.name.out, *decoder])
    canvas = Canvas(0.45 + ROW * 6.4, _title(net))
    heights = [0.15 + ROW * (5.9 - row) for row in range(7)]
    name_y, last = heights[-1] + 0.15, f"down{len(maps) - 1}"
    bottom = heights[len(maps)]
    canvas.box("image", LEFT, heights[0], f"image {size(x.shape[1:])}", DATA)
    for k, shape in enumerate(maps):
        canvas.box(f"down{k}", LEFT, heights[k + 1], size(shape), ENCODER)
    canvas.box("name", LEFT, name_y, f"classes {size(named)}", HEAD)
    for above, under in pairwise(["image", *(f"down{k}" for k in range(len(maps)))]):
        canvas.arrow(above, under)
    if net.named_from == "image":
        canvas.arrow(last, "name", text="mean and maximum of all places")
    if not drawn:
        return canvas.figure
    *blocks, (_, outline) = up
    canvas.box("outline", RIGHT, heights[0], f"outline {size((outline[0], side, side))}", DATA)
    for k, (_, shape) in enumerate(blocks):
        canvas.box(f"up{k}", RIGHT, heights[k + 1], size(shape), DECODER)
        canvas.arrow(f"down{k}", f"up{k}", text="1×1, added")
        canvas.arrow(f"up{k}", f"up{k - 1}" if k else "outline", text="enlarged" if k else "1×1, enlarged")
    canvas.arrow(last, (RIGHT, bottom), f"up{len(blocks) - 1}")
    canvas.text(MIDDLE, bottom + 0.03, "1×1, enlarged", va="bottom")
    if net.named_from == "outline":
        edge, turn = PAGE - 0.06, name_y + 0.36
        canvas.box("inside", MIDDLE, name_y, "features inside the outline", HEAD, width=1.9)
        canvas.arrow(last, (LEFT, turn), (MIDDLE, turn), "inside")
        canvas.arrow("outline", (edge, heights[0]), (edge, name_y), "inside", text="the outline as weights")
        canvas.arrow("inside", "name", text="linear")
    return canvas.figure


def house(evidence: Evidence) -> Figure:
    """How a number comes about: data → splits → training → evidence → tables, with the folder of each room; its numbers
    are counted, none is typed."""
    networks = len(MODELS | SEGMENTERS | MULTITASK | BACKBONES)
    chapters, splits = (len(list(f.glob(p))) for f, p in ((REPO / "notebooks", "*.ipynb"), (SPLITS, "*.csv")))
    rooms = {
        "datasets/": (f"{len(CATALOG)} data sets, packed\nand checked", ENCODER),
        "datasets/splits/": (f"{len(PROTOCOLS)} protocols, {splits} tables\nof groups", ENCODER),
        "models/, utils/training/": (f"{networks} networks,\n{len(RECIPES)} recipes", DECODER),
        "utils/evaluation/": ("the test set, once;\nintervals over patients", DECODER),
        "saved_metrics/": (f"{len(evidence.runs)} runs: metrics,\nhistory, predictions", HEAD),
        "utils/report/, notebooks/": (f"{len(BLOCKS)} tables,\n{chapters} chapters", DATA),
    }
    canvas = Canvas(2.5, "from an image to a number: each arrow is a step that a command repeats")
    columns = (0.98, 3.15, 5.32)
    places = [(x, 1.75) for x in columns] + [(x, 0.55) for x in reversed(columns)]
    for (x, y), (room, (what, colour)) in zip(places, rooms.items(), strict=True):
        canvas.box(room, x, y, "", colour, width=1.75, height=0.78)
        canvas.text(x, y + 0.26, room, weight="bold")
        canvas.text(x, y - 0.1, what)
    for room, following in pairwise(rooms):
        canvas.arrow(room, following)
    return canvas.figure

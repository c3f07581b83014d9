"""Diagrams show the sizes of the networks that they are given, and every word of them can be read."""

from itertools import combinations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
import torch
from letters import letters

from datasets.catalog import CATALOG, REPO
from models import AttentionUNet, ClassicUNet, ImprovedUNet, MultiTaskUNet, OutlineClassifier
from utils.report import figures
from utils.report.records import load_evidence
from utils.report.tables import BLOCKS

UNETS = {
    "ClassicUNet": (lambda n: ClassicUNet(n_filters=n), "concatenated"),
    "ImprovedUNet": (lambda n: ImprovedUNet(n_filters=n, in_channels=1), "added"),
    "AttentionUNet": (lambda n: AttentionUNet(n_filters=n, out_channels=1), "times the gate, added"),
    "MultiTaskUNet": (lambda n: MultiTaskUNet(width=n), "concatenated"),
    "MultiTaskUNet, one head": (lambda n: MultiTaskUNet(width=n, hierarchical=False), "concatenated"),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def words(figure) -> list[str]:
    """Every text of a diagram, none outside the page, on another one or too small."""
    figure.canvas.draw()
    assert min(letters(figure).values()) >= figures.LETTERS
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    page = figure.bbox
    assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)
    assert not [(a, b) for (a, x), (b, y) in combinations(zip(texts, boxes, strict=True), 2) if x.overlaps(y)]
    return [text.get_text() for text in texts]


@pytest.mark.parametrize(("width", "side"), [(4, 32), (6, 48)])
@pytest.mark.parametrize("name", UNETS)
def test_a_unet_is_drawn_with_its_own_sizes(name, width, side):
    build, joined = UNETS[name]
    net = build(width).train()
    said = words(figures.unet(net, side))
    assert said.count(joined) == 4 and net.training
    assert f"{sum(p.numel() for p in net.parameters()):,} parameters" in said[0]
    levels = [f"{width * 2**level} × {side // 2**level} × {side // 2**level}" for level in range(4)]
    assert set(levels) <= set(said), "the encoder's"
    bottom = side // 16
    assert f"{width * (16 if name.startswith('Multi') else 8)} × {bottom} × {bottom}" in said
    x = torch.zeros(1, net.in_channels, side, side)
    with torch.no_grad():
        out = net.eval()(x)
    if isinstance(out, dict):
        assert f"image 1 × {side} × {side}" in said and f"latent {out['latent'].shape[1]}" in said
        assert ("tumour type: 3" in said) is ("subtype" in out) and ("class: 4" in said) is ("classes" in out)
    else:
        assert f"masks {out.shape[1]} × {side} × {side}" in said


@pytest.mark.parametrize("number", [1, 4])
def test_a_gate_is_drawn_with_its_own_sizes(number):
    net, side = AttentionUNet(n_filters=4, normalised=number == 1), 64
    said = words(figures.gate(net, side, number))
    channels, large = 4 * 2 ** (4 - number), side // 2 ** (4 - number)
    assert (
        f"skip {channels} × {large} × {large}" in said and f"decoder {channels} × {large // 2} × {large // 2}" in said
    )
    assert f"gate 1 × {large} × {large}" in said
    assert any("normalised" in text for text in said) is (number == 1)


@pytest.mark.parametrize("arguments", [{}, {"named_from": "image"}, {"named_from": "image", "outline": False}])
def test_the_outline_classifier_is_drawn_with_what_it_has(arguments):
    net = OutlineClassifier(healthy=2, image_size=96, **arguments)
    said = words(figures.outline_classifier(net))
    assert {"image 3 × 96 × 96", "64 × 48 × 48", "1024 × 6 × 6", "classes 4"} <= set(said)
    assert ("outline 4 × 96 × 96" in said) is ("outline" not in arguments)
    assert ("features inside the outline" in said) is (not arguments)


def test_the_house_is_drawn_with_what_is_in_it():
    evidence = load_evidence(REPO / "saved_metrics")
    said = words(figures.house(evidence))
    assert f"{len(CATALOG)} data sets, packed\nand checked" in said
    chapters = len(list((REPO / "notebooks").glob("*.ipynb")))
    assert f"{len(BLOCKS)} tables,\n{chapters} chapters" in said
    assert any(text.startswith(f"{len(evidence.records)} runs") for text in said)
    for room in ", ".join(text for text in said if text.endswith("/")).split(", "):
        assert (REPO / room).is_dir(), room
    figures.house(load_evidence(REPO / "docs"))

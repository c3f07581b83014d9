"""Tumours for the phantom: where each kind grows, its shape, and how it displaces the brain.

The heads come from `anatomy.py`; `scanner.py` draws the tumours into their slices.
"""

from dataclasses import dataclass

import numpy as np

from datasets.generator.anatomy import (
    HEAD_LOW,
    NOISE_SIZE,
    ORIGIN,
    Head,
    brain_distance,
    column,
    eased,
    from_template,
    head_maps,
    plane,
    scanner_axes,
    step,
    template,
    to_template,
    wander,
)

RING = 2.0  # mm of living tumour around every core, at least
UNUSUAL = 0.15  # share of the tumours that are small, and of those that hardly take up contrast


@dataclass(frozen=True)
class Tumour:
    """A mass in a head; lengths in mm."""

    kind: str  # glioma, meningioma or pituitary
    centre: np.ndarray  # (3,) in the head
    radii: np.ndarray  # (3,)
    lobes: float  # how far the outline wanders, as a share of the radius
    core: float  # radius of the necrosis (glioma) or cyst (others) as a share of the whole; 0 for none
    oedema: float  # width
    enhancement: float  # 0 no uptake of contrast … 1 that of the signal table
    push: float  # displacement of the brain as a share of the distance to the centre
    phase: np.ndarray  # (3,) offset into the random field


def draw_tumour(kind: str, head: Head, rng: np.random.Generator) -> Tumour:
    """A random tumour of `kind` (a label other than notumor) that shows in the slice through its centre."""
    draw = {"glioma": _draw_glioma, "meningioma": _draw_meningioma, "pituitary": _draw_pituitary}[kind]
    while True:  # a place at the edge of the brain may hide nearly all of a tumour
        tumour = draw(head, rng)
        if area(head, tumour, height(head, tumour)) > 120:
            return tumour


def _draw_glioma(head: Head, rng: np.random.Generator) -> Tumour:
    size = _size(rng, 18, 31, 9)
    while True:
        target = rng.uniform((-55, -80, -25), (55, 52, 55))
        white = template()[1][tuple(np.rint(target + ORIGIN).astype(int))] > 150
        if white and _depth(target) > 8 and abs(target[0]) > 9:
            break
    return Tumour(
        kind="glioma",
        centre=from_template(head, target),
        radii=size * rng.uniform(0.8, 1.25, 3),
        lobes=rng.uniform(0.16, 0.32),
        core=rng.uniform(0.6, 0.85),
        oedema=rng.uniform(6, 18),
        enhancement=_uptake(rng),
        push=rng.uniform(0.1, 0.35),
        phase=rng.uniform(0, NOISE_SIZE, 3),
    )


def _draw_meningioma(head: Head, rng: np.random.Generator) -> Tumour:
    size = _size(rng, 15, 26, 9)
    while True:
        target = rng.uniform((-70, -95, -35), (70, 70, 75))
        if rng.random() < 0.25:
            target[0] = rng.choice((-3, 3))  # beside the falx
        sellar = abs(target[0]) < 24 and -28 < target[1] < 32 and target[2] < -5
        if not sellar and abs(_depth(target) - 0.4 * size) < 1.5:
            break
    return Tumour(
        kind="meningioma",
        centre=from_template(head, target),
        radii=size * rng.uniform(0.9, 1.12, 3),
        lobes=rng.uniform(0.02, 0.09),
        core=rng.uniform(0.2, 0.35) if rng.random() < 0.12 else 0.0,
        oedema=rng.uniform(2, 6) if rng.random() < 0.35 else 0.0,
        enhancement=_uptake(rng),
        push=rng.uniform(0.3, 0.5),
        phase=rng.uniform(0, NOISE_SIZE, 3),
    )


def _draw_pituitary(head: Head, rng: np.random.Generator) -> Tumour:
    size = _size(rng, 10, 17, 7)
    target = np.array([0.0, 4.0, 0.5 * size - 35]) + rng.normal(0, (1.5, 1.5, 1))
    return Tumour(
        kind="pituitary",
        centre=from_template(head, target),
        radii=size * rng.uniform((0.85, 0.75, 1.0), (1.1, 1.0, 1.35)),
        lobes=rng.uniform(0.03, 0.12),
        core=rng.uniform(0.25, 0.45) if rng.random() < 0.2 else 0.0,
        oedema=0.0,
        enhancement=_uptake(rng),
        push=rng.uniform(0.3, 0.5),
        phase=rng.uniform(0, NOISE_SIZE, 3),
    )


def _size(rng: np.random.Generator, low: float, high: float, smallest: float) -> float:
    """A radius in mm: between `low` and `high` as a rule, for some patients below, where it is easily missed."""
    return float(rng.uniform(smallest, low) if rng.random() < UNUSUAL else rng.uniform(low, high))


def _uptake(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.3, 0.7) if rng.random() < UNUSUAL else rng.uniform(0.8, 1.2))


def _depth(target: np.ndarray) -> float:
    """Depth in mm of a template point below the brain's surface, to the nearest voxel of the map."""
    return -float(head_maps()[0][tuple(np.rint((target - HEAD_LOW) / 2).astype(int))])


def height(head: Head, tumour: Tumour) -> float:
    """Height in mm along the scanner's axis of the slice through the tumour's centre."""
    return float((scanner_axes(head)[:, 2] * tumour.centre).sum())


def area(head: Head, tumour: Tumour, height: float) -> float:
    """Area in mm² of necrosis and enhancing tumour in the slice at `height`."""
    points = plane(head, height, 32, np.zeros(3))
    to_brain = brain_distance(to_template(head, points))
    solid = parts(tumour, points, to_brain, np.zeros_like(to_brain))[[0, 2]]
    return float(solid.sum()) * (head.field_of_view / 32) ** 2


def radius(tumour: Tumour, points: np.ndarray) -> np.ndarray:
    """Distance of `points` (3, …) from the centre in units of the tumour's own radii: 1 on its surface."""
    scaled = (points - column(tumour.centre, points)) / column(tumour.radii, points)
    return np.sqrt((scaled**2).sum(0))


def displacement(tumour: Tumour, points: np.ndarray) -> np.ndarray:
    """mm (3, …) by which the brain tissue at `points` has been pushed away by the tumour."""
    reach = np.exp(-(radius(tumour, points) ** 2) / 2.5)
    return (points - column(tumour.centre, points)) * (tumour.push * reach)


def parts(tumour: Tumour, points: np.ndarray, to_brain: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Shares (3, H, W) of necrosis, oedema and enhancing tumour at `points` (3, H, W).

    `to_brain`: mm to the brain's undisturbed surface, `white`: share of white matter, which oedema prefers.
    """
    smallest = float(tumour.radii.min())
    # Lobes about as wide as the tumour: wider ones would only shift it.
    lobes = tumour.lobes * eased(lambda p: wander(p, max(12.0, 1.1 * smallest), tumour.phase), points)
    distance = radius(tumour, points)
    rim = (1 + lobes - distance) * smallest  # mm inside the outline
    if tumour.kind == "glioma":
        rim = np.minimum(rim, -to_brain)  # it does not leave the brain
    mass = step(rim)
    if tumour.kind == "meningioma":
        mass = mass * step(0.8 - to_brain)  # the dura is its flat base
    core = np.minimum((tumour.core * (1 + lobes) - distance) * smallest, rim - RING)
    necrosis = mass * step(core) if tumour.core else 0 * mass
    oedema = 0 * mass
    if tumour.oedema:
        patchy = eased(lambda p: wander(p, 22.0, tumour.phase + 3), points)
        oedema = step(rim + tumour.oedema * (0.35 + 0.65 * white + 0.35 * patchy), 1.5) * step(-to_brain)
    return np.stack([necrosis, oedema * (1 - mass), mass - necrosis])

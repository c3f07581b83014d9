"""Tumours for the phantom: where each kind grows, its shape, and how it displaces the brain.

The heads come from `anatomy.py`; `scanner.py` draws the tumours into their slices.
"""

import numpy as np

from datasets.generator import anatomy
from datasets.generator.anatomy import NOISE_SIZE, Head, brain_distance, column, eased, from_template, step

RING = 2.0  # mm of living tumour around every core, at least
UNUSUAL = 0.15  # share of the tumours that are small, and of those that hardly take up contrast
# Of each kind, as (low, high): size in mm, with the smallest of the few that are easily missed; radii in sizes; lobes;
# core and oedema, with the share of tumours that have it before them; push.
KINDS = {
    "glioma": ((18, 31, 9), (0.8, 1.25), (0.16, 0.32), (1, 0.6, 0.85), (1, 6, 18), (0.1, 0.35)),
    "meningioma": ((15, 26, 9), (0.9, 1.12), (0.02, 0.09), (0.12, 0.2, 0.35), (0.35, 2, 6), (0.3, 0.5)),
}
SELLAR = ((0.85, 0.75, 1.0), (1.1, 1.0, 1.35))  # radii along each axis
KINDS["pituitary"] = ((10, 17, 7), SELLAR, (0.03, 0.12), (0.2, 0.25, 0.45), (0, 0, 0), (0.3, 0.5))


class Tumour:
    """A mass in a head, drawn at random; lengths in mm. `kind`: a label other than notumor."""

    def __init__(self, kind: str, head: Head, rng: np.random.Generator):
        (low, high, smallest), radii, lobes, core, oedema, push = KINDS[kind]
        self.kind, size = kind, _usually(rng, (low, high), (smallest, low))
        self.centre = from_template(head, _place(kind, size, rng))  # (3,) in the head
        self.radii = size * rng.uniform(*radii, 3)
        self.lobes = rng.uniform(*lobes)  # how far the outline wanders, as a share of the radius
        self.core = _sometimes(rng, *core)  # radius of necrosis (glioma) or cyst as a share of the whole
        self.oedema = _sometimes(rng, *oedema)  # width
        self.enhancement = _usually(rng, (0.8, 1.2), (0.3, 0.7))  # 0 no uptake of contrast, 1 that of the signal table
        self.push = rng.uniform(*push)  # displacement of the brain as a share of the distance to the centre
        self.phase = rng.uniform(0, NOISE_SIZE, 3)  # offset into the random field


def draw_tumour(kind: str, head: Head, rng: np.random.Generator) -> Tumour:
    """A random tumour of `kind` that shows in the slice through its centre."""
    while True:  # a place at the edge of the brain may hide nearly all of a tumour
        tumour = Tumour(kind, head, rng)
        if area(head, tumour, height(head, tumour)) > 120:
            return tumour


def _usually(rng: np.random.Generator, usual: tuple[float, float], unusual: tuple[float, float]) -> float:
    return float(rng.uniform(*(unusual if rng.random() < UNUSUAL else usual)))


def _sometimes(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    there = share == 1 or (share > 0 and rng.random() < share)
    return rng.uniform(low, high) if there else 0.0


def _place(kind: str, size: float, rng: np.random.Generator) -> np.ndarray:
    """A template point (3,) where a tumour of this kind and size (mm) may grow."""
    if kind == "pituitary":
        return np.array([0.0, 4.0, 0.5 * size - 35]) + rng.normal(0, (1.5, 1.5, 1))
    while True:
        if kind == "glioma":
            target = rng.uniform((-55, -80, -25), (55, 52, 55))
            white = anatomy.template()[1][tuple(np.rint(target + anatomy.ORIGIN).astype(int))] > 150
            if white and _depth(target) > 8 and abs(target[0]) > 9:
                return target
        else:
            target = rng.uniform((-70, -95, -35), (70, 70, 75))
            if rng.random() < 0.25:
                target[0] = rng.choice((-3, 3))  # beside the falx
            sellar = abs(target[0]) < 24 and -28 < target[1] < 32 and target[2] < -5
            if not sellar and abs(_depth(target) - 0.4 * size) < 1.5:
                return target


def _depth(target: np.ndarray) -> float:
    """Depth in mm of a template point below the brain's surface, to the nearest voxel of the map."""
    return -float(anatomy.head_maps()[0][tuple(np.rint((target - anatomy.HEAD_LOW) / 2).astype(int))])


def height(head: Head, tumour: Tumour) -> float:
    """Height in mm along the scanner's axis of the slice through the tumour's centre."""
    return float((anatomy.scanner_axes(head)[:, 2] * tumour.centre).sum())


def area(head: Head, tumour: Tumour, height: float) -> float:
    """Area in mm² of necrosis and enhancing tumour in the slice at `height`."""
    points = anatomy.plane(head, height, 32, np.zeros(3))
    to_brain = brain_distance(anatomy.to_template(head, points))
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
    lobes = tumour.lobes * eased(lambda p: anatomy.wander(p, max(12.0, 1.1 * smallest), tumour.phase), points)
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
        patchy = eased(lambda p: anatomy.wander(p, 22.0, tumour.phase + 3), points)
        oedema = step(rim + tumour.oedema * (0.35 + 0.65 * white + 0.35 * patchy), 1.5) * step(-to_brain)
    return np.stack([necrosis, oedema * (1 - mass), mass - necrosis])

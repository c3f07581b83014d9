"""Heads for the phantom: warps the MNI152 template into a patient, and adds what lies around the brain.

`tumours.py` grows tumours in these heads, `scanner.py` takes their images.
Millimetres and MNI axes (x to the right, y forward, z up) everywhere; points are arrays of shape (3, H, W).
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from nilearn import datasets as nilearn_data
from scipy import ndimage

ORIGIN = np.array([98.0, 134.0, 72.0])  # voxel of the 1 mm template at 0, 0, 0 mm
HEAD_LOW = np.array([-110.0, -140.0, -100.0])  # corner of the 2 mm head maps, which reach beyond the template
HEAD_SHAPE = (111, 131, 111)
NOISE_SIZE = 64  # cells after which the random field repeats itself


class Head:
    """One patient's anatomy, and how the head lay in the scanner: drawn at random, in this order."""

    def __init__(self, rng: np.random.Generator):
        self.zoom = np.exp(0.03 * rng.standard_normal() + 0.03 * rng.standard_normal(3))  # template mm per head mm
        self.angles = np.deg2rad(rng.normal(0, (6, 2.5, 3.5)))  # pitch, roll, yaw in radians
        self.shift = rng.normal(0, 4, 2)  # mm off the middle of the image
        self.field_of_view = rng.uniform(195, 230)  # mm
        self.phase = rng.uniform(0, NOISE_SIZE, 3)  # offset into the random field
        self.warp = rng.uniform(2.5, 5.0)  # mm
        self.ventricles = rng.uniform(-0.1, 0.35)  # how much they and their surroundings are enlarged
        self.fluid = rng.uniform(1.5, 4.0)  # mm between brain and skull
        self.bone = rng.uniform(5.0, 8.5)  # mm
        self.scalp = rng.uniform(3.0, 8.0)  # mm
        self.atrophy = rng.uniform(0, 0.6)  # how much grey matter at the sulci gives way to fluid
        self.lesions = rng.uniform(-0.5, 0.8)  # amount of age-related spots in the white matter; none below 0


@cache
def template() -> tuple[np.ndarray, np.ndarray]:
    """Grey and white matter shares of the MNI152 template that ships with nilearn, as uint8 (197, 233, 189)."""
    loaders = (nilearn_data.load_mni152_gm_template, nilearn_data.load_mni152_wm_template)
    shares = (np.asarray(load(resolution=1).dataobj) for load in loaders)
    grey, white = ((255 * share).round().clip(0, 255).astype(np.uint8) for share in shares)
    return grey, white


@cache
def head_maps() -> tuple[np.ndarray, np.ndarray]:
    """Signed distances in mm to the surfaces of brain and head (negative inside), float32 on the 2 mm grid."""
    mask = np.asarray(nilearn_data.load_mni152_brain_mask(resolution=1).dataobj) > 0
    steps = [low + 2 * np.arange(n) for low, n in zip(HEAD_LOW, HEAD_SHAPE, strict=True)]
    voxels = [np.rint(ticks + origin).astype(int) for ticks, origin in zip(steps, ORIGIN, strict=True)]
    inside = [(voxel >= 0) & (voxel < length) for voxel, length in zip(voxels, mask.shape, strict=True)]
    brain = np.zeros(HEAD_SHAPE, bool)
    brain[np.ix_(*inside)] = mask[np.ix_(*(voxel[here] for voxel, here in zip(voxels, inside, strict=True)))]
    to_brain = _signed_distance(ndimage.binary_fill_holes(brain))
    x, y, z = np.meshgrid(*steps, indexing="ij", sparse=True)
    face = (x / 58) ** 2 + ((y - 28) / 66) ** 2 + ((z + 62) / 62) ** 2 < 1
    neck = (x / 62) ** 2 + ((y + 42) / 58) ** 2 + ((z + 72) / 66) ** 2 < 1
    head = (to_brain < 15) | face | neck
    # Smoothed, so that the skin does not dip between the temporal lobes and the cerebellum.
    head = ndimage.gaussian_filter(head.astype(np.float32), 5) > 0.42
    return ndimage.gaussian_filter(to_brain, 0.6), ndimage.gaussian_filter(_signed_distance(head), 2)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    outside = ndimage.distance_transform_edt(~mask, sampling=2)
    return (outside - ndimage.distance_transform_edt(mask, sampling=2)).astype(np.float32)


@cache
def noise_field() -> np.ndarray:
    """A smooth periodic random field, mean 0, deviation 1; warps, lobes and textures are looked up in it."""
    white = np.random.default_rng(152).standard_normal((NOISE_SIZE,) * 3)
    field = ndimage.gaussian_filter(white, 3, mode="wrap")
    return ((field - field.mean()) / field.std()).astype(np.float32)


def wander(points: np.ndarray, scale: float, phase: np.ndarray) -> np.ndarray:
    """The random field at `points` (3, …), stretched to about one bump every `scale` mm."""
    at = points * (8 / scale) + column(phase, points)
    return ndimage.map_coordinates(noise_field(), at, order=1, mode="grid-wrap")


def sample(volume: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`volume` at the voxel positions `at` (3, H, W), linear between voxels, float32."""
    return ndimage.map_coordinates(volume, at, order=1, output=np.float32, mode="nearest")


def brain_distance(at: np.ndarray) -> np.ndarray:
    """Signed distance in mm to the template's brain surface at template points `at` (3, …)."""
    return sample(head_maps()[0], (at - column(HEAD_LOW, at)) / 2)


def column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Three values in the shape and precision in which they combine with points `like` (3, …)."""
    return np.reshape(values, (3, *[1] * (like.ndim - 1))).astype(like.dtype)


def eased(function: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> np.ndarray:
    """`function` of a slice's `points` (3, N, N), evaluated at every few of them and interpolated.

    For smooth functions only: the difference does not show, and the phantom is made in half the time.
    """
    size = points.shape[1]
    ticks = np.append(np.arange(0, size - 1, max(1, size // 40)), size - 1)
    coarse = function(points[:, ticks][:, :, ticks])
    low = np.searchsorted(ticks, np.arange(size), side="right").clip(1, len(ticks) - 1) - 1
    share = ((np.arange(size) - ticks[low]) / (ticks[low + 1] - ticks[low])).astype(points.dtype)
    coarse = coarse[..., low, :] * (1 - share)[:, None] + coarse[..., low + 1, :] * share[:, None]
    return coarse[..., low] * (1 - share) + coarse[..., low + 1] * share


def to_template(head: Head, points: np.ndarray) -> np.ndarray:
    """Where in the template the head's `points` (3, …) lie: scaled, warped, ventricles enlarged."""
    out = points * column(head.zoom, points)
    for axis in range(3):
        out[axis] += head.warp * wander(points, 75.0, head.phase + 11 * axis)
    centre = column([0.0, -8.0, 16.0], points)
    away = out - centre
    near = np.exp(-((away / column([32.0, 55.0, 28.0], points)) ** 2).sum(0))
    return centre + away * (1 - head.ventricles * near)


def from_template(head: Head, target: np.ndarray) -> np.ndarray:
    """The head's point (3,) that `to_template` sends to `target` (3,)."""
    target = target.reshape(3, 1)
    point = target.astype(float)
    for _ in range(12):
        point = point - 0.8 * (to_template(head, point) - target)
    return point[:, 0]


def scanner_axes(head: Head) -> np.ndarray:
    """Columns: the image's right, its upward and the slices' axis, in the head."""
    (cp, cr, cy), (sp, sr, sy) = np.cos(head.angles), np.sin(head.angles)
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return np.einsum("ij,jk,kl->il", pitch, roll, yaw)


def plane(head: Head, height: float, size: int, motion: np.ndarray) -> np.ndarray:
    """Points (3, size, size) of the axial slice at `height` mm along the scanner's axis, forehead on top.

    `motion`: what the head moved by since the last slice: mm to the right, mm forward, radians.
    """
    ticks = (np.arange(size) - (size - 1) / 2) * head.field_of_view / size
    right = ticks[None, :] + head.shift[0] + motion[0]
    up = -ticks[:, None] + head.shift[1] + motion[1]
    cos, sin = np.cos(motion[2]), np.sin(motion[2])
    right, up = right * cos - up * sin, right * sin + up * cos - 16  # the template's brain lies 16 mm back
    axes = scanner_axes(head)
    points = np.stack([axes[i, 0] * right + axes[i, 1] * up + axes[i, 2] * height for i in range(3)])
    return points.astype(np.float32)


def step(x: np.ndarray, width: float = 0.8) -> np.ndarray:
    """0 below −`width`, 1 above `width`, straight between: an edge as a voxel blurs it."""
    return np.clip(x / (2 * width) + 0.5, 0, 1)


def ellipsoid(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """About the depth in mm of `points` (3, …) inside an ellipsoid; negative outside."""
    scaled = (points - column(centre, points)) / column(radii, points)
    return (1 - np.sqrt((scaled**2).sum(0))) * min(radii)


def surroundings(head: Head, at: np.ndarray, to_brain: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Tissues around the brain at template points `at`, as (name, share 0–1), each laid over those before."""
    outside = step(to_brain - head.fluid)
    texture = eased(lambda p: wander(p, 14.0, head.phase + 5), at)
    to_head = eased(lambda p: sample(head_maps()[1], (p - column(HEAD_LOW, p)) / 2), at)
    low = step(-at[2] - 18, 6)
    mirrored = np.stack([np.abs(at[0]), at[1], at[2]])
    skull = outside * step(head.fluid + head.bone - to_brain)
    marrow = 0.2 * head.bone - np.abs(to_brain - head.fluid - head.bone / 2)
    yield "soft", outside
    yield "fat", outside * np.maximum(step(to_head + head.scalp), 0.8 * low * step(texture - 0.9, 0.9))
    yield "bone", np.maximum(skull, 0.8 * low * outside * step(-texture - 1.0, 0.8))
    yield "marrow", 0.9 * skull * step(marrow)
    yield "air", step(ellipsoid(at, (0, 44, -50), (13, 34, 20)) + texture)  # nose and sphenoid sinus
    yield "fat", outside * step(ellipsoid(mirrored, (31, 58, -40), (19, 24, 17)))  # orbits
    yield "vitreous", outside * step(ellipsoid(mirrored, (32, 66, -40), (12.5, 12.5, 12.5)))
    yield "soft", step(to_head + 1.5)
    yield "air", step(to_head)


def enhancing(head: Head, at: np.ndarray, to_brain: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Vessels, choroid plexus and pituitary gland: what takes up contrast in everyone and is no tumour."""
    x, y, z = at
    mirrored = np.stack([np.abs(x), y, z])
    behind = step(6 - y, 4) * step(z + 10, 3)
    before = step(y - 6, 4) * step(z + 5, 3)
    sagittal = step(3.2 - np.hypot(x, 1.2 * (to_brain - 1.5))) * np.maximum(behind, before)
    transverse = step(3 - np.hypot(to_brain - 1, (z + 22 + 0.12 * np.abs(x)) / 1.6)) * step(-y - 45, 4)
    carotid = step(ellipsoid(mirrored, (13, 6, -33), (3.2, 7, 4.5)))
    basilar = 0.8 * step(ellipsoid(at, (0, -14, -28), (2.2, 2.2, 16)))
    cerebral = 0.8 * step(ellipsoid(mirrored, (18, 4, -17), (14, 2.2, 2.2)))
    frayed = 0.8 * eased(lambda p: wander(p, 8.0, head.phase), at)
    plexus = 0.6 * step(ellipsoid(mirrored, (24, -40, 8), (5, 9, 6)) + frayed)
    yield "blood", np.max([sagittal, transverse, carotid, basilar, cerebral, plexus], axis=0)
    gland = step(ellipsoid(at, (0, 4, -35), (6.0, 4.5, 3.6)))
    stalk = 0.9 * step(ellipsoid(at, (0, 3, -29), (1.6, 1.6, 6)))
    yield "gland", np.maximum(gland, stalk)

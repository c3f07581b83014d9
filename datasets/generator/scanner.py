"""The phantom's scanner: takes four sequences of a slice, with the shading, blur, noise and grey window of a machine.

Heads come from `anatomy.py`, tumours from `tumours.py`; `phantom.py` calls `examine`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from datasets.generator import anatomy, tumours
from datasets.generator.anatomy import Head, step
from datasets.generator.faults import passes_for_copy
from datasets.generator.tumours import Tumour

# Relative signal of each tissue in T1, T1c, T2 and FLAIR, after the verbal tables of radiology primers.
SIGNAL = {
    "csf": (0.16, 0.16, 1.00, 0.10),
    "gm": (0.48, 0.44, 0.60, 0.62),
    "wm": (0.70, 0.60, 0.40, 0.46),
    "bone": (0.06, 0.06, 0.05, 0.05),
    "marrow": (0.48, 0.42, 0.34, 0.30),
    "fat": (0.84, 0.74, 0.66, 0.58),
    "soft": (0.38, 0.40, 0.26, 0.30),
    "air": (0.01, 0.01, 0.01, 0.01),
    "vitreous": (0.16, 0.16, 1.00, 0.14),
    "blood": (0.24, 0.80, 0.10, 0.16),
    "gland": (0.50, 0.74, 0.55, 0.56),
    "NCR": (0.24, 0.20, 0.90, 0.50),
    "ED": (0.44, 0.34, 0.82, 0.92),
    "ET": (0.45, 1.10, 0.66, 0.74),
}
T1, T1C = 0, 1
WHOLE = (-45.0, 75.0)  # mm, heights from the base of the brain to its top


@dataclass(frozen=True)
class Scanner:
    """One machine and protocol: everything but the head that the slices of a patient share."""

    signal: dict[str, np.ndarray]  # tissue → (4, 1, 1)
    shading: np.ndarray  # (4, 6) coefficients of the coils' sensitivity
    blur: float  # pixels, in an image of 128
    noise: float  # share of the signal scale
    white: np.ndarray  # (4,) signal that the export maps to 255
    gamma: np.ndarray  # (4,)


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """A random scanner."""
    vary = {name: np.exp(0.06 * rng.standard_normal(4)) for name in SIGNAL}
    return Scanner(
        signal={name: np.float32(SIGNAL[name] * vary[name]).reshape(4, 1, 1) for name in SIGNAL},
        shading=0.14 * rng.standard_normal((4, 6)) * rng.uniform(0.2, 1),
        blur=rng.uniform(0.3, 0.8),
        noise=rng.uniform(0.01, 0.04),
        white=rng.uniform(0.9, 1.2, 4),
        gamma=np.exp(0.1 * rng.standard_normal(4)),
    )


def examine(label: str, slices: int, size: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """A new patient of class `label`: (image uint8 (size, size, 4), mask uint8 0/1 (size, size, 3)) a slice.

    Every slice shows the tumour where there is one.
    """
    head, scanner, tumour = _patient(label, rng)
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for height in _heights(head, tumour, slices, rng):
        motion, image = np.array([1.5, 1.5, 0.03]), None
        # Neighbouring slices that pass for copies would be faults that were neither planted nor recorded.
        while image is None or any(passes_for_copy(image, other) for other, _ in pairs):
            points = anatomy.plane(head, height, size, rng.normal(0, motion))
            clean, mask = draw_slice(head, tumour, scanner, points)
            image, motion = scan(scanner, clean, rng), 1.5 * motion
        pairs.append((image, mask))
    return pairs


def volume(label: str, slices: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A new patient of class `label` from the base of the brain to its top, as a volume of `slices` slices: images
    uint8 (slices, size, size, 4) and masks uint8 0/1 (slices, size, size, 3). The head lies still."""
    head, scanner, tumour = _patient(label, rng)
    pairs = []
    for height in np.linspace(*WHOLE, slices):
        clean, mask = draw_slice(head, tumour, scanner, anatomy.plane(head, height, size, np.zeros(3)))
        pairs.append((scan(scanner, clean, rng), mask))
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def _patient(label: str, rng: np.random.Generator) -> tuple[Head, Scanner, Tumour | None]:
    head, scanner = anatomy.draw_head(rng), draw_scanner(rng)
    return head, scanner, None if label == "notumor" else tumours.draw_tumour(label, head, rng)


def _heights(head: Head, tumour: Tumour | None, count: int, rng: np.random.Generator) -> np.ndarray:
    """Heights in mm of `count` slices, spread over the tumour or, without one, over some part of the brain."""
    spread = np.linspace(-1, 1, count) + rng.uniform(-0.3, 0.3, count) / count
    if tumour is None:
        return rng.uniform(-38, 50) + rng.uniform(8, 22) * spread
    centre = tumours.height(head, tumour)
    heights = centre + 0.7 * tumour.radii[2] * spread
    for i in range(count):
        while tumours.area(head, tumour, heights[i]) < 60:
            heights[i] += 0.25 * (centre - heights[i])
    return heights


def draw_slice(
    head: Head, tumour: Tumour | None, scanner: Scanner, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signal float (4, H, W) without any fault of the machine, and the mask, in the slice through `points`."""
    *at, to_brain = anatomy.eased(lambda p: _placed(head, p), points)
    at = np.stack(at)
    shape = to_brain.shape
    signal = np.broadcast_to(scanner.signal["csf"], (4, *shape)).copy()
    for name, share in anatomy.surroundings(head, at, to_brain):
        _paint(signal, scanner.signal[name], share)
    if tumour is not None:
        at = at - tumours.displacement(tumour, points) * anatomy.column(head.zoom, at)
    white = _paint_brain(signal, head, scanner, points, at, to_brain < 4)
    for name, share in anatomy.enhancing(head, at, to_brain):
        _paint(signal, scanner.signal[name], share)
    if tumour is None:
        return signal, np.zeros((*shape, 3), np.uint8)
    regions = tumours.parts(tumour, points, to_brain, white)
    necrosis, oedema, enhancing = regions
    _paint(signal, scanner.signal["ED"], oedema)
    _paint(signal, scanner.signal["NCR"], necrosis)
    _paint(signal, _uptake(tumour, scanner, points), enhancing)
    return signal, (regions > 0.5).transpose(1, 2, 0).astype(np.uint8)


def _placed(head: Head, points: np.ndarray) -> np.ndarray:
    """Template points of `points` and, as a fourth row, their distance to the brain's surface."""
    at = anatomy.to_template(head, points)
    return np.concatenate([at, anatomy.brain_distance(at)[None]])


def _paint(signal: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Lay `share` (H, W) of a tissue of signal `colour` (4, 1, 1) over `signal` (4, H, W), in place."""
    signal += share * (colour - signal)


def _paint_brain(
    signal: np.ndarray, head: Head, scanner: Scanner, points: np.ndarray, at: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """Paint fluid, grey and white matter and the spots of age; returns the share of white matter (H, W).

    `where` (H, W): nothing but air and bone lies elsewhere, and looking there would cost time.
    """
    inside, grey, white = np.zeros((3, *where.shape), np.float32)
    inside[where] = step(-anatomy.brain_distance(at[:, where]), 1.0)
    voxels = at[:, where] + anatomy.column(anatomy.ORIGIN, at[:, where])
    grey[where], white[where] = (anatomy.sample(volume, voxels) / 255 for volume in anatomy.template())
    matter = inside * (grey + white).clip(0, 1)
    matter = matter * (1 - head.atrophy * (1 - matter))
    white = matter * white / (grey + white + 1e-3)
    _paint(signal, scanner.signal["csf"], inside)
    _paint(signal, scanner.signal["gm"], matter)
    _paint(signal, scanner.signal["wm"], white)
    spots = anatomy.eased(lambda p: anatomy.wander(p, 16.0, head.phase + 23), points) - 3 + head.lesions
    _paint(signal, scanner.signal["ED"], 0.8 * step(spots, 0.3) * white)
    return white


def _uptake(tumour: Tumour, scanner: Scanner, points: np.ndarray) -> np.ndarray:
    """Signal (4, H, W) of enhancing tumour: only T1c depends on how much contrast it took up, unevenly."""
    texture = anatomy.eased(lambda p: anatomy.wander(p, 10.0, tumour.phase + 7), points)
    colour = np.broadcast_to(scanner.signal["ET"], (4, *texture.shape)).copy()
    colour[T1C] = colour[T1] + (colour[T1C] - colour[T1]) * tumour.enhancement * (1 + 0.12 * texture)
    return colour


def scan(scanner: Scanner, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What machine and export make of `signal` (4, H, W): shading, blur, Rician noise, window; uint8 (H, W, 4)."""
    height, width = signal.shape[1:]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    terms = np.stack(np.broadcast_arrays(x, y, x * y, x * x - 0.5, y * y - 0.5, x**3))
    shading = np.exp(np.einsum("ct,thw->chw", scanner.shading, terms).astype(np.float32))
    sigma = scanner.blur * width / 128
    signal = ndimage.gaussian_filter(signal * shading, (0, sigma, sigma))
    real, imaginary = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(scanner.noise)
    signal = np.hypot(signal + real, imaginary)
    white, gamma = (v.astype(np.float32).reshape(4, 1, 1) for v in (scanner.white, scanner.gamma))
    grey = 255 * np.clip(signal / white, 0, 1) ** gamma
    return np.rint(grey).astype(np.uint8).transpose(1, 2, 0)

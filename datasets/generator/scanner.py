"""The phantom's scanner: takes four sequences of a slice, with the shading, blur, noise and grey window of a machine.

Heads come from `anatomy.py`, tumours from `tumours.py`; `phantom.py` calls `Visit`.
"""

import numpy as np
from scipy import ndimage

from datasets.generator import anatomy, tumours
from datasets.generator.anatomy import Head, step

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


class Scanner:
    """One machine and protocol, drawn at random: all but the head that the slices of a patient share."""

    def __init__(self, rng: np.random.Generator):
        vary = {name: np.exp(0.06 * rng.standard_normal(4)) for name in SIGNAL}
        self.signal = {name: np.float32(SIGNAL[name] * vary[name]).reshape(4, 1, 1) for name in SIGNAL}
        self.shading = 0.14 * rng.standard_normal((4, 6)) * rng.uniform(0.2, 1)  # the coils' sensitivity
        self.blur = rng.uniform(0.3, 0.8)  # pixels, in an image of 128
        self.noise = rng.uniform(0.01, 0.04)  # share of the signal scale
        self.white = rng.uniform(0.9, 1.2, 4)  # signal that the export maps to 255
        self.gamma = np.exp(0.1 * rng.standard_normal(4))

    def scan(self, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What machine and export make of `signal` (4, H, W): shading, blur, Rician noise, window; uint8 (H, W, 4)."""
        height, width = signal.shape[1:]
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        terms = np.stack(np.broadcast_arrays(x, y, x * y, x * x - 0.5, y * y - 0.5, x**3))
        shading = np.exp(np.einsum("ct,thw->chw", self.shading, terms).astype(np.float32))
        sigma = self.blur * width / 128
        signal = ndimage.gaussian_filter(signal * shading, (0, sigma, sigma))
        real, imaginary = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(self.noise)
        signal = np.hypot(signal + real, imaginary)
        white, gamma = (v.astype(np.float32).reshape(4, 1, 1) for v in (self.white, self.gamma))
        grey = 255 * np.clip(signal / white, 0, 1) ** gamma
        return np.rint(grey).astype(np.uint8).transpose(1, 2, 0)


class Visit:
    """A new patient of class `label` in a scanner: `head`, `scanner`, `tumour` (None of "notumor")."""

    def __init__(self, label: str, rng: np.random.Generator):
        self.head, self.scanner = Head(rng), Scanner(rng)
        self.tumour = None if label == "notumor" else tumours.draw_tumour(label, self.head, rng)

    def heights(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Heights in mm of `count` slices, spread over the tumour or, without one, over some part of the brain."""
        spread = np.linspace(-1, 1, count) + rng.uniform(-0.3, 0.3, count) / count
        if self.tumour is None:
            return rng.uniform(-38, 50) + rng.uniform(8, 22) * spread
        centre = tumours.height(self.head, self.tumour)
        heights = centre + 0.7 * self.tumour.radii[2] * spread
        for i in range(count):
            while tumours.area(self.head, self.tumour, heights[i]) < 60:
                heights[i] += 0.25 * (centre - heights[i])
        return heights

    def slice(
        self, height: float, size: int, motion: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 (size, size, 4) and mask uint8 0/1 (size, size, 3) at `height` mm; `motion`: of `plane`."""
        clean, mask = self.draw(anatomy.plane(self.head, height, size, motion))
        return self.scanner.scan(clean, rng), mask

    def draw(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signal float (4, H, W) without any fault of the machine, and the mask, in the slice through `points`."""
        head, tumour, colours = self.head, self.tumour, self.scanner.signal
        *at, to_brain = anatomy.eased(self._placed, points)
        at, shape = np.stack(at), to_brain.shape
        signal = np.broadcast_to(colours["csf"], (4, *shape)).copy()
        for name, share in anatomy.surroundings(head, at, to_brain):
            _paint(signal, colours[name], share)
        if tumour is not None:
            at = at - tumours.displacement(tumour, points) * anatomy.column(head.zoom, at)
        white = self._paint_brain(signal, points, at, to_brain < 4)
        for name, share in anatomy.enhancing(head, at, to_brain):
            _paint(signal, colours[name], share)
        if tumour is None:
            return signal, np.zeros((*shape, 3), np.uint8)
        regions = tumours.parts(tumour, points, to_brain, white)
        necrosis, oedema, enhancing = regions
        _paint(signal, colours["ED"], oedema)
        _paint(signal, colours["NCR"], necrosis)
        # Of enhancing tumour, only T1c depends on how much contrast it took up, unevenly.
        texture = anatomy.eased(lambda p: anatomy.wander(p, 10.0, tumour.phase + 7), points)
        uptake = np.broadcast_to(colours["ET"], (4, *shape)).copy()
        uptake[T1C] = uptake[T1] + (uptake[T1C] - uptake[T1]) * tumour.enhancement * (1 + 0.12 * texture)
        _paint(signal, uptake, enhancing)
        return signal, (regions > 0.5).transpose(1, 2, 0).astype(np.uint8)

    def _placed(self, points: np.ndarray) -> np.ndarray:
        """Template points of `points` and, as a fourth row, their distance to the brain's surface."""
        at = anatomy.to_template(self.head, points)
        return np.concatenate([at, anatomy.brain_distance(at)[None]])

    def _paint_brain(self, signal: np.ndarray, points: np.ndarray, at: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Paint fluid, grey and white matter and the spots of age; returns the share of white matter (H, W).

        `where` (H, W): nothing but air and bone lies elsewhere, and looking there would cost time.
        """
        head, colours = self.head, self.scanner.signal
        inside, grey, white = np.zeros((3, *where.shape), np.float32)
        inside[where] = step(-anatomy.brain_distance(at[:, where]), 1.0)
        voxels = at[:, where] + anatomy.column(anatomy.ORIGIN, at[:, where])
        grey[where], white[where] = (anatomy.sample(volume, voxels) / 255 for volume in anatomy.template())
        matter = inside * (grey + white).clip(0, 1)
        matter = matter * (1 - head.atrophy * (1 - matter))
        white = matter * white / (grey + white + 1e-3)
        _paint(signal, colours["csf"], inside)
        _paint(signal, colours["gm"], matter)
        _paint(signal, colours["wm"], white)
        spots = anatomy.eased(lambda p: anatomy.wander(p, 16.0, head.phase + 23), points) - 3 + head.lesions
        _paint(signal, colours["ED"], 0.8 * step(spots, 0.3) * white)
        return white


def _paint(signal: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Lay `share` (H, W) of a tissue of signal `colour` (4, 1, 1) over `signal` (4, H, W), in place."""
    signal += share * (colour - signal)

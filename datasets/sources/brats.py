"""Reads BraTS 2020 as its two publishers ship it: NIfTI volumes (CBICA, or a mirror), or Kaggle's HDF5 slices."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np

from datasets import hdf5
from datasets.catalog import DataError, Dataset
from datasets.sources import Sample, volumes
from datasets.store.preprocess import RawImage

# Channel, in Kaggle's order → endings of its file: BraTS 2020's, those since 2023, of converters and of BIDS. The
# official training set holds one segmentation by another name: BraTS20_Training_355/W39_1998.09.19_Segm.nii
ENDINGS = {
    "T1": "t1|t1n|t1w",
    "T1c": "t1ce|t1c|t1gd",
    "T2": "t2|t2w",
    "FLAIR": "flair|t2f",
    "pre-contrast": "pre-contrast",
    "post-contrast": "post-contrast",
}
ENDINGS |= {"segmentation": "seg[a-z]*"}
NAME = re.compile(rf"(|.*[_-])({'|'.join(ENDINGS.values())})(|_bias|_n4|_brain|_bet)\.nii(?:\.gz)?", re.IGNORECASE)
AGENT = re.compile(r"(?:^|_)ce-[a-z0-9]+(?=_)", re.IGNORECASE)  # BIDS names the contrast agent apart from the sequence
NUMBER = re.compile(r"_\d{4}\.nii")
LABELS = {"NCR": 1, "ED": 2, "ET": 4}  # coding of the segmentation; 0 is background
SLICES = 155
SLICE = re.compile(r"volume_(\d+)_slice_(\d+)\.h5$")


def target(dataset: Dataset, member: str) -> str | None:
    """PATIENT/FILE of an archive's member, or None for what is neither a volume nor a slice.

    Kaggle's volume 7 is patient BraTS20_Training_007, so that both forms give the same paths.
    """
    path = PurePosixPath(member)
    if path.name.startswith("._"):
        return None
    if found := SLICE.match(path.name):
        return f"BraTS20_Training_{int(found[1]):03d}/{path.name}"
    # Patients of the validation set, in the same archive on Kaggle, were published without masks.
    kept = len(path.parts) >= 2 and not path.parent.name.startswith("BraTS20_Validation")
    return f"{path.parent.name}/{path.name}" if kept and path.name.endswith((".nii", ".nii.gz")) else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All patients, a folder each."""
    return [Sample(path.name, dataset.classes[0]) for path in sorted(raw.iterdir())]


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """All slices of the patient whose files lie in the folder `raw`/`path`, from the lowest to the highest.

    Each sequence is scaled over the whole volume to 8 bits, background to 0 where it is the darkest value.
    Slices lie as a radiologist looks at them: forehead up, the patient's left on the right.

    Returns `SLICES` images, image H×W×C of `dataset.channels`, mask H×W×3 (NCR, ED, ET).  Raises `DataError`, which
    names the file, for a missing sequence or slice, damage, NaN, no brain, shapes or positions that differ, a rotated
    volume, and masks with values outside the coding.
    """
    folder = raw / path
    slices = any(SLICE.match(file.name) for file in folder.iterdir())
    images, mask = (_read_slices if slices else _read_volumes)(dataset, folder)
    stored = _quantised(images, [f"{path}, {channel}" for channel in dataset.channels])
    places = [{"path": f"{path}/{z:03d}", "patient": path, "slice": z, "label": "glioma"} for z in range(SLICES)]
    return [RawImage(*of) for of in zip(stored, mask, places, strict=True)]


def _quantised(images: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Volumes z × y × x, each scaled to 0 … 255, side by side: z × y × x × C. S2's scaling of each slice by its own
    range does not see the difference, but for rounding (saved_metrics/benchmarks/volumes.json).
    """
    stored = np.empty((*images[0].shape, len(images)), np.uint8)
    for channel, (volume, name) in enumerate(zip(images, names, strict=True)):
        if not np.isfinite(volume).all():
            raise DataError(f"{name}: {int((~np.isfinite(volume)).sum())} voxels are NaN or infinite")
        low, high = float(volume.min()), float(volume.max())
        if low == high:
            raise DataError(f"{name}: all voxels are {low:g}, there is no brain in it")
        stored[..., channel] = np.rint((volume - low) * (255 / (high - low)))
    return stored


def named(path: Path) -> tuple[str, str]:
    """Whose a NIfTI file is, and its channel, by its name, old or new; both "" where that says no channel.

    What was done to a file (`_bias`) belongs to whose it is, so that files to which it was not done lie apart.
    """
    name, agent = AGENT.subn("", path.name)
    if not (found := NAME.fullmatch(name)):
        return "", ""
    channel = next(of for of, endings in ENDINGS.items() if re.fullmatch(endings, found[2], re.IGNORECASE))
    return found[1].rstrip("_-") + found[3], "T1c" if agent and channel == "T1" else channel


def sequences(files: Iterable[Path], channels: Sequence[str]) -> tuple[Path, ...]:
    """The file of each channel among NIfTI files; `DataError` names channels without a file or with several, and files
    of several patients (a segmentation may be named as it likes)."""
    of = {path: named(path) for path in sorted(files)}
    found = {channel: [path for path in of if of[path][1] == channel] for channel in channels}
    if missing := [channel for channel in channels if not found[channel]]:
        ends = ", ".join("_" + ENDINGS[channel].split("|")[0] for channel in missing)
        remedy = f"; a number does not say which sequence it is: end the names in {ends}"
        remedy = remedy if any(NUMBER.search(path.name) for path in of) else ""
        raise DataError(f"no file for {', '.join(missing)} among {[path.name for path in of]}{remedy}")
    for channel, paths in found.items():
        if len(paths) > 1:
            raise DataError(f"{paths[0].name} and {paths[1].name} are both {channel}; leave one of them")
    if len(whose := {of[paths[0]][0] for channel, paths in found.items() if channel != "segmentation"}) > 1:
        raise DataError(f"files of several patients by their names, {' and '.join(sorted(whose))}; keep them apart")
    return tuple(paths[0] for paths in found.values())


def read_sequences(paths: Sequence[Path]) -> np.ndarray:
    """The slices of one patient's files, uint8 N×H×W×C, C in the order of `paths`, scaled and laid as by `read`."""
    return _quantised(_voxels(paths), [path.name for path in paths])


def _read_volumes(dataset: Dataset, folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences and mask, z × y × x [× 3]."""
    files = sequences(filter(volumes.is_nifti, folder.iterdir()), (*dataset.channels, "segmentation"))
    *images, segmentation = _voxels(files)
    if len(segmentation) != SLICES:
        raise DataError(f"{files[-1].name}: {segmentation.shape} voxels; a volume of BraTS has {SLICES} slices")
    if strange := sorted(set(np.unique(segmentation).tolist()) - {0, *LABELS.values()}):
        raise DataError(f"{files[-1].name}: values {strange[:5]}; the coding is 0, 1 NCR, 2 ED, 4 ET")
    mask = np.stack([segmentation == LABELS[channel] for channel in dataset.mask_channels], axis=-1)
    return images, mask.astype(np.uint8)


def _voxels(paths: Sequence[Path]) -> list[np.ndarray]:
    """The voxels of files that lie in one place, each z × y × x."""
    images = [volumes.load(path) for path in paths]
    for image, path in zip(images, paths, strict=True):
        if image.shape != images[0].shape or not np.allclose(image.affine, images[0].affine, atol=1e-3):
            raise DataError(f"{path.name}: does not lie on {paths[0].name} (another shape or affine); register them")
    return [laid(volumes.voxels_of(image, path), image) for image, path in zip(images, paths, strict=True)]


def laid(voxels: np.ndarray, image: volumes.Volume) -> np.ndarray:
    """Voxels in the order of their file as z × y × x, x to the patient's left, y to the back, z up: BraTS's own order.

    Volumes with an identity affine, which converters write, are assumed to be in that order; all others are reoriented
    by their affine.
    """
    if not np.allclose(image.affine, np.eye(4)):
        voxels = nib.orientations.apply_orientation(voxels, volumes.turn_of(image))
    return voxels.transpose(2, 1, 0)


def _read_slices(dataset: Dataset, folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences and mask, z × y × x [× 3]."""
    files = {int(found[2]): path for path in folder.iterdir() if (found := SLICE.match(path.name))}
    if missing := sorted(set(range(SLICES)) - set(files)):
        raise DataError(f"{folder.name}: {len(missing)} of {SLICES} slices are missing, first {missing[0]}")
    images, masks = zip(*(read_slice(files[z]) for z in range(SLICES)), strict=True)
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{folder.name}: its slices differ in shape")
    volume = np.stack(images).transpose(3, 0, 2, 1)  # 4 × z × y × x
    return [volume[list(ENDINGS).index(channel)] for channel in dataset.channels], np.stack(masks).transpose(0, 2, 1, 3)


def read_slice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image x × y × 4 float32 and mask x × y × 3 uint8 of one of Kaggle's files; `DataError` names the file."""
    with hdf5.opened(path, what="not one of Kaggle's slices") as file:
        image, mask = hdf5.read(file, "image").astype(np.float32), hdf5.read(file, "mask")
    if image.ndim != 3 or image.shape[2] != 4 or mask.shape != (*image.shape[:2], len(LABELS)):
        raise DataError(f"{path.name}: image {image.shape} and mask {mask.shape} should be H×W×4 and H×W×3")
    if strange := sorted(set(np.unique(mask).tolist()) - {0, 1}):
        raise DataError(f"{path.name}: mask with values {strange[:5]}, it should hold 0 and 1")
    return image, mask.astype(np.uint8)

"""Reads BraTS 2020 as its two publishers ship it: NIfTI volumes (CBICA, or a mirror), or Kaggle's HDF5 slices.

`read` turns one patient's files into 155 images with masks, the same from either form. `layouts.py` calls it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np

from datasets import hdf5
from datasets.catalog import DataError, Dataset
from datasets.reading import reading
from datasets.sources.sample import Sample
from datasets.store.preprocess import RawImage

SEQUENCES = {"T1": "t1", "T1c": "t1ce", "T2": "t2", "FLAIR": "flair"}  # channel → suffix of its file; Kaggle's order
# What else a file of a sequence may end in: BraTS since 2023, and converters
ALSO = {"T1": "t1n", "T1c": "t1c|t1gd", "T2": "t2w", "FLAIR": "t2f"}
LABELS = {"NCR": 1, "ED": 2, "ET": 4}  # coding of the segmentation; 0 is background
SLICES = 155
SLICE = re.compile(r"volume_(\d+)_slice_(\d+)\.h5$")
# The official training set holds one segmentation by another name: BraTS20_Training_355/W39_1998.09.19_Segm.nii
SEGMENTATION = re.compile(r"seg[a-z]*\.nii(\.gz)?$", re.IGNORECASE)


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
    volume = kept and path.name.endswith((".nii", ".nii.gz"))
    return f"{path.parent.name}/{path.name}" if volume else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All patients, a folder each."""
    return [Sample(path.name, dataset.classes[0], "") for path in sorted(raw.iterdir())]


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """All slices of the patient whose files lie in the folder `raw`/`path`, from the lowest to the highest.

    Each sequence is scaled over the whole volume to `bits` bits, background to 0 where it is the darkest value.
    Slices lie as a radiologist looks at them: forehead up, the patient's left on the right.

    Returns:
        `SLICES` images, image H×W×C of `dataset.channels`, mask H×W×3 (NCR, ED, ET).

    Raises:
        DataError: naming the file, for a missing sequence or slice, damage, NaN, no brain, shapes or positions that
            differ, a rotated volume, and masks with values outside the coding.
    """
    folder = raw / path
    slices = any(SLICE.match(file.name) for file in folder.iterdir())
    images, mask = (_read_slices if slices else _read_volumes)(dataset, folder)
    stored = np.empty((*images[0].shape, len(images)), np.uint8 if bits == 8 else np.uint16)
    for channel, image in enumerate(images):
        stored[..., channel] = _quantised(image, bits, f"{folder.name}, {dataset.channels[channel]}")
    return [
        RawImage(
            stored[z],
            mask[z],
            {"path": f"{folder.name}/{z:03d}", "patient": folder.name, "slice": z, "label": "glioma"},
        )
        for z in range(len(stored))
    ]


def _quantised(volume: np.ndarray, bits: int, what: str) -> np.ndarray:
    """A volume scaled to 0 … 2^bits − 1. S2's scaling of each slice by its own range does not see the difference,
    but for rounding (saved_metrics/benchmarks/volumes.json).
    """
    if not np.isfinite(volume).all():
        raise DataError(f"{what}: {int((~np.isfinite(volume)).sum())} voxels are NaN or infinite")
    low, high = float(volume.min()), float(volume.max())
    if low == high:
        raise DataError(f"{what}: all voxels are {low:g}, there is no brain in it")
    return np.rint((volume - low) * ((2**bits - 1) / (high - low)))


# ---- NIfTI -------------------------------------------------------------------------------------------


def _read_volumes(dataset: Dataset, folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences and mask, z × y × x [× 3]."""
    files = _nifti(folder)
    paths = _of_channels(files, dataset.channels)
    paths["segmentation"] = next((path for path in files if SEGMENTATION.search(path.name)), None)
    _require(paths, folder, files)
    volumes = {what: _load(path) for what, path in paths.items()}
    _require_one_place(volumes, paths)
    segmentation = _pixels(volumes.pop("segmentation"), paths["segmentation"])
    if strange := sorted(set(np.unique(segmentation).tolist()) - {0, *LABELS.values()}):
        raise DataError(f"{paths['segmentation'].name}: values {strange[:5]}; the coding is 0, 1 NCR, 2 ED, 4 ET")
    mask = np.stack([segmentation == LABELS[channel] for channel in dataset.mask_channels], axis=-1)
    return [_pixels(volume, paths[what]) for what, volume in volumes.items()], mask.astype(np.uint8)


def sequences(folder: Path, channels: Sequence[str]) -> tuple[Path, ...]:
    """The NIfTI file of each channel in `folder`, by old or new names; no segmentation is needed.

    Raises:
        DataError: naming the folder and the channels that it has no file for.
    """
    files = _nifti(folder)
    paths = _of_channels(files, channels)
    _require(paths, folder, files)
    return tuple(paths.values())


def read_sequences(paths: Sequence[Path]) -> np.ndarray:
    """The slices of one patient's files, uint8 N×H×W×C, C in the order of `paths`, scaled and laid as by `read`.

    Raises:
        DataError: as `read`.
    """
    volumes = {path.name: _load(path, slices=None) for path in paths}
    _require_one_place(volumes, {path.name: path for path in paths})
    pixels = [_pixels(volume, path) for volume, path in zip(volumes.values(), paths, strict=True)]
    scaled = [_quantised(voxels, 8, path.name) for voxels, path in zip(pixels, paths, strict=True)]
    return np.stack(scaled, axis=-1).astype(np.uint8)


def as_volume(slices: np.ndarray, path: Path) -> nib.Nifti1Image:
    """Slices N×H×W, as `read_sequences` gives those of `path`, as a volume that lies on that file, uint8."""
    image = _load(path, slices=None)
    order = nib.Nifti1Image(np.arange(np.prod(image.shape), dtype=np.int32).reshape(image.shape), image.affine)
    voxels = np.zeros(image.shape, np.uint8)
    voxels.reshape(-1)[_pixels(order, path).ravel()] = slices.ravel()
    return nib.Nifti1Image(voxels, image.affine)


def _nifti(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith((".nii", ".nii.gz")))


def _of_channels(files: Sequence[Path], channels: Sequence[str]) -> dict[str, Path | None]:
    found = {}
    for channel in channels:
        ending = re.compile(rf"(^|[_-])({SEQUENCES[channel]}|{ALSO[channel]})\.nii(\.gz)?$", re.IGNORECASE)
        found[channel] = next((path for path in files if ending.search(path.name)), None)
    return found


def _require(paths: Mapping[str, Path | None], folder: Path, files: Sequence[Path]) -> None:
    if missing := [what for what, path in paths.items() if path is None]:
        raise DataError(f"{folder.name}: no file for {', '.join(missing)} among {[path.name for path in files]}")


def _require_one_place(volumes: Mapping[str, nib.spatialimages.SpatialImage], paths: Mapping[str, Path]) -> None:
    """Raise `DataError` where volumes differ in shape or position from the first of them."""
    (first, one), *others = volumes.items()
    for what, volume in others:
        if volume.shape != one.shape:
            raise DataError(f"{paths[what].name}: {volume.shape} voxels, but {paths[first].name} has {one.shape}")
        if not np.allclose(volume.affine, one.affine, atol=1e-3):
            raise DataError(
                f"{paths[what].name}: lies elsewhere than {paths[first].name} (another affine); register them"
            )


def _load(path: Path, slices: int | None = SLICES) -> nib.spatialimages.SpatialImage:
    with reading(path.name, what="not a NIfTI volume"):
        image = nib.load(path)
    if len(image.shape) != 3 or (slices and image.shape[2] != slices):
        wanted = f"a volume of BraTS has {slices} slices" if slices else "one volume of three dimensions is taken"
        raise DataError(f"{path.name}: {image.shape} voxels; {wanted}")
    return image


def _pixels(image: nib.spatialimages.SpatialImage, path: Path) -> np.ndarray:
    """Voxels z × y × x with x to the patient's left, y to the back, z up: BraTS's own order.

    Volumes with an identity affine, which converters write, are assumed to be in that order; all others are reoriented
    by their affine.
    """
    with reading(path.name, what="the file ends early or is damaged"):
        voxels = np.asanyarray(image.dataobj)
    if not np.allclose(image.affine, np.eye(4)):
        directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0).clip(1e-9)
        if not np.allclose(np.sort(np.abs(directions), axis=0), [[0] * 3, [0] * 3, [1] * 3], atol=0.02):
            raise DataError(f"{path.name}: the volume lies askew (its affine rotates or shears); resample it first")
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(("L", "P", "S"))
        )
        voxels = nib.orientations.apply_orientation(voxels, turn)
    return voxels.transpose(2, 1, 0)


# ---- HDF5 slices ---------------------------------------------------------------------------------------


def _read_slices(dataset: Dataset, folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences and mask, z × y × x [× 3]."""
    files = {int(SLICE.match(path.name)[2]): path for path in folder.iterdir() if SLICE.match(path.name)}
    if missing := sorted(set(range(SLICES)) - set(files)):
        raise DataError(f"{folder.name}: {len(missing)} of {SLICES} slices are missing, first {missing[0]}")
    wanted = [list(SEQUENCES).index(channel) for channel in dataset.channels]
    images, masks = zip(*(_read_slice(files[z]) for z in range(SLICES)), strict=True)
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{folder.name}: its slices differ in shape")
    volume = np.stack(images)  # z × x × y × 4
    return [volume[..., c].transpose(0, 2, 1) for c in wanted], np.stack(masks).transpose(0, 2, 1, 3)


def _read_slice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image x × y × 4 float32 and mask x × y × 3 uint8 of one of Kaggle's files."""
    with hdf5.opened(path, what="not one of Kaggle's slices") as file:
        image, mask = hdf5.read(file, "image").astype(np.float32), hdf5.read(file, "mask")
    if image.ndim != 3 or image.shape[2] != len(SEQUENCES) or mask.shape != (*image.shape[:2], len(LABELS)):
        raise DataError(f"{path.name}: image {image.shape} and mask {mask.shape} should be H×W×4 and H×W×3")
    if strange := sorted(set(np.unique(mask).tolist()) - {0, 1}):
        raise DataError(f"{path.name}: mask with values {strange[:5]}, it should hold 0 and 1")
    return image, mask.astype(np.uint8)

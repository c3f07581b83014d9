"""Files that hold more than an image: NIfTI volumes and DICOM files, as slices scaled to 8 bits."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from datasets.catalog import DataError
from datasets.reading import reading
from datasets.sources import dicom

NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", ".ima")
THICK = 1.5  # a direction in which voxels are so many times as long as in any other is the one it was sliced in
RANGE = (1, 99)  # percentiles of a file that become black and white
MOST_VOXELS = 2**29  # a thousand slices of 732 × 732
OBLIQUE = 30  # degrees by which a volume may be turned against the patient's axes: it is sliced along its own
PERSON = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")

Volume = nib.spatialimages.SpatialImage


def is_nifti(path: Path) -> bool:
    """Whether the name of a file is that of a NIfTI volume."""
    return path.name.lower().endswith(NIFTI)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix, or by its first bytes where it has none or one of digits: those after the
    preamble, or, where that is left out, a first tag of group 2 or 8."""
    suffix = path.suffix.lower()
    if suffix in DICOM or path.name.upper() == "DICOMDIR" or (suffix and not suffix[1:].isdigit()):
        return suffix in DICOM
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or bool(re.match(rb"[\x02\x08]\x00[\x00-\x70]\x00", start))


def person(path: Path) -> dict[str, str]:
    """Tags of a DICOM file that say whose it is, "" where it says nothing."""
    try:
        tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(PERSON))
        return {name: str(tags.get(name) or "").strip() for name in PERSON}
    except Exception:  # of all kinds; reading the pixels says what is wrong with it
        return dict.fromkeys(PERSON, "")


def read(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The slices of a file, uint8 N×H×W, scaled as a whole from its 1st to its 99th percentile, or, where these are one
    value, from its least to its largest; and remarks as of `preprocess.examine`.

    A NIfTI volume is sliced across the direction in which its voxels are longest, or from bottom to top where none
    stands out, and lies as a radiologist looks at it.  Raises `DataError`, which names the file, for damage, NaN, and
    more than three dimensions.
    """
    planes, remarks = dicom.examine(path) if is_dicom(path) else (_planes(path), ())
    return scaled(planes, *ends(planes)), remarks


def ends(pixels: np.ndarray) -> tuple[float, float]:
    """What becomes black and white: a small bright object in the dark is in neither percentile."""
    low, high = np.percentile(pixels, RANGE)
    return (low, high) if low < high else (pixels.min(), pixels.max())


def scaled(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixels as uint8, from `low` (black) to `high` (white); where both are one value, all become black."""
    stretched = (pixels - low) * (255 / (high - low) if high > low else 0)
    return np.rint(stretched.clip(0, 255)).astype(np.uint8)


def read_mask(path: Path, image: Path) -> np.ndarray:
    """The slices of a mask with the values that it holds, N×H×W; `image` is the volume that it must lie on."""
    if is_dicom(path):
        return dicom.examine(path)[0]
    if is_nifti(image) and not np.allclose(load(path).affine, load(image).affine, atol=1e-3):
        raise DataError(f"{path.name}: lies elsewhere than {image.name} (another affine)")
    return _planes(path)


def as_volume(slices: np.ndarray, path: Path, lay: Callable[[np.ndarray, Volume], np.ndarray]) -> nib.Nifti1Image:
    """Slices N×H×W, uint8, as a volume that lies on the NIfTI file that they were made of; `lay` (`laid`, or that of
    `brats`) makes slices of voxels in the file's order."""
    image = load(path)
    places = lay(np.arange(np.prod(image.shape), dtype=np.int64).reshape(image.shape), image)
    voxels = np.zeros(image.shape, np.uint8)
    voxels.reshape(-1)[places.ravel()] = slices.ravel()
    return nib.Nifti1Image(voxels, image.affine)


def spacing(path: Path, axis: int | None = None) -> tuple[float, float, float]:
    """mm from slice to slice, row to row and column to column of the slices that `read` makes of a NIfTI file, or of
    those across `axis` (of left, back and up); NaN where its affine is the identity, which converters write."""
    image = load(path)
    lengths, longest = _lengths(image)
    if np.array_equal(image.affine, np.eye(4)) or not (np.isfinite(lengths) & (lengths > 0)).all():
        return dicom.UNKNOWN
    across = lengths[longest if axis is None else axis]
    columns, rows = np.delete(lengths, longest if axis is None else axis)
    return float(across), float(rows), float(columns)


def load(path: Path) -> Volume:
    """A NIfTI volume of three dimensions, its voxels not read yet; `DataError` names the file, also where its affine
    shears, or turns it by more than `OBLIQUE`."""
    with reading(path.name, what="not a NIfTI volume"):
        loaded = nib.load(path)
        image = nib.squeeze_image(loaded)
    if len(image.shape) != 3:
        raise DataError(f"{path.name}: {len(image.shape)} dimensions; one volume of three is taken")
    if loaded.dataobj.offset < loaded.header.sizeof_hdr:
        raise DataError(f"{path.name}: damaged, since it says that its voxels begin within its header; save it again")
    if not 0 < math.prod(image.shape) <= MOST_VOXELS:
        raise DataError(f"{path.name}: claims {image.shape} voxels, which is no volume of a head")
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0).clip(1e-9)
    turned = np.degrees(np.arccos(np.abs(axes).max(axis=0).clip(0, 1))).max()
    if not (abs(np.linalg.det(axes)) > 0.999 and turned <= OBLIQUE):  # also where there are NaN
        raise DataError(f"{path.name}: lies askew (its affine shears, or turns it by {turned:.0f}°); resample it first")
    return image


def voxels_of(image: Volume, path: Path) -> np.ndarray:
    """The voxels of a volume in the order of its file, all finite numbers; `DataError` names the file, also where the
    checksum at the end of a compressed one is another: it is compared only as all that lies before it is read at once.
    """
    with reading(path.name, what="the file ends early or is damaged"), nib.openers.ImageOpener(path) as file:
        voxels = np.asanyarray(type(image).from_stream(file.fobj).dataobj).reshape(image.shape)
        while file.read(2**20):
            pass
    if voxels.dtype.kind == "c":
        raise DataError(f"{path.name}: holds complex numbers; save their magnitude")
    if voxels.dtype.kind not in "iufb":
        raise DataError(f"{path.name}: holds colours, not intensities; save the scan that they were painted on")
    with np.errstate(over="ignore"):  # too large is infinite
        strange = ~np.isfinite(voxels.astype(np.float32, copy=False))
    if strange.any():
        remedy = "set them to 0 (numpy.nan_to_num, or fslmaths IN -nan OUT) where they are background"
        raise DataError(f"{path.name}: {int(strange.sum())} voxels are NaN or infinite; {remedy}")
    return voxels


def turn_of(image: Volume) -> np.ndarray:
    """How to turn a volume so that its axes go to the patient's left, to the back and up."""
    wanted = nib.orientations.axcodes2ornt(("L", "P", "S"))
    return nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)


def _planes(path: Path) -> np.ndarray:
    image = load(path)
    return laid(voxels_of(image, path), image).astype(np.float32)


def _lengths(image: Volume) -> tuple[np.ndarray, int]:
    """Of a voxel its lengths to the patient's left, back and up, and along which of them the volume was sliced."""
    lengths = np.array(image.header.get_zooms()[:3])[np.argsort(turn_of(image)[:, 0])]
    return lengths, int(np.argmax(lengths)) if max(lengths) >= THICK * np.sort(lengths)[1] else 2


def laid(voxels: np.ndarray, image: Volume) -> np.ndarray:
    """Voxels in the order of their file → slices N×H×W as a radiologist looks at them."""
    _, axis = _lengths(image)
    planes = np.moveaxis(nib.orientations.apply_orientation(voxels, turn_of(image)), axis, 0).transpose(0, 2, 1)
    return planes if axis == 2 else planes[:, ::-1]  # the top of the head up

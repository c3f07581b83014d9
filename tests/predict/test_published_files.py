"""The test files that pydicom and nibabel ship: each is read as a reference decodes it, or refused in one line."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, apply_rescale

from datasets.catalog import DataError
from datasets.sources.volumes import THICK, is_dicom, is_nifti, scaled
from utils.predict.prepare import find

SHIPPED = [Path(pydicom.__file__).parent / "data", *Path(nib.__file__).parent.rglob("tests/data")]
FILES = sorted(path for folder in SHIPPED for path in folder.rglob("*") if path.is_file() and ".py" not in path.name)
# Refused though it can be decoded.
NOTHING_TO_SEE = ("a DICOM file without image", "a mosaic, many", "one grey value", "4 dimensions", "voxels are NaN")


def reference(path: Path) -> np.ndarray:
    """The file's slices as its own library decodes them, scaled as `volumes.read` does."""
    if is_nifti(path):
        image = nib.as_closest_canonical(nib.load(path))
        voxels, lengths = image.get_fdata()[::-1, ::-1], image.header.get_zooms()[:3]  # to the left, to the back, up
        axis = int(np.argmax(lengths)) if max(lengths) >= THICK * sorted(lengths)[1] else 2
        planes = voxels.transpose([(0, 2, 1), (1, 2, 0), (2, 1, 0)][axis])
        planes = planes if axis == 2 else planes[:, ::-1]
    else:
        data = pydicom.dcmread(path)
        planes = data.pixel_array
        if data.PhotometricInterpretation == "PALETTE COLOR":
            planes = apply_color_lut(planes, data)
        if (planes.shape[-1] == 3 and data.get("SamplesPerPixel") == 3) or data.PhotometricInterpretation[0] == "P":
            planes = planes @ np.array([0.299, 0.587, 0.114])
        else:
            planes = apply_rescale(planes, data)
        planes = planes[None] if planes.ndim == 2 else planes
        if data.PhotometricInterpretation == "MONOCHROME1":
            planes = planes.max() + planes.min() - planes
        if (padding := data.get("PixelPaddingValue")) is not None:
            stored = data.pixel_array.reshape(planes.shape)
            planes = np.where(stored == padding, planes[stored != padding].min(), planes)
    return scaled(planes, *np.percentile(planes, (1, 99)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_published_file_is_read_as_its_library_decodes_it_or_refused_in_one_line(path, capfd):
    ((scan,), _) = find([path], ["grey"])
    try:
        slices = scan.read()
    except DataError as error:
        said = str(error)
        assert said.startswith(f"{path.name}: ") and "\n" not in said and len(said) < 400
        assert capfd.readouterr().err == ""
        if (is_nifti(path) or is_dicom(path)) and not any(reason in said for reason in NOTHING_TO_SEE):
            with pytest.raises(Exception):  # noqa: B017 – of all kinds
                reference(path)
        return
    assert capfd.readouterr().err == ""
    wanted = reference(path)
    assert len(wanted) == slices.total
    for number, image in zip(slices.numbers, slices.images, strict=True):
        assert np.abs(image.astype(int) - wanted[number]).max() <= 1

"""Anonymous DICOM files of every kind, made for the tests."""

from pathlib import Path

import gdcm
import numpy as np
from own_images import head
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

RAMP = np.arange(24, dtype=np.int16).reshape(4, 6) * 100


def dicom(path: Path, pixels: np.ndarray = RAMP, *, bits: int = 16, syntax=ExplicitVRLittleEndian, **tags) -> Path:
    """Write pixels H×W (frames N×H×W, colour H×W×3) as an anonymous DICOM file; a tag of None is left out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit = min(bits, data.BitsAllocated), min(bits, data.BitsAllocated) - 1
    data.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.Modality, data.PatientName, data.PatientID = "MR", "anonymous", "anonymous"
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, uid: str, names: str = "abc") -> list[Path]:
    """DICOM files of one series, a letter a file, from the highest slice to the lowest."""
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": uid}
    return [
        dicom(folder / f"{name}.dcm", head(k).astype(np.int16), ImagePositionPatient=[0, 0, -k], **place)
        for k, name in enumerate(names)
    ]


def compressed(path: Path, syntax: int) -> None:
    """Change the transfer syntax of a file in place."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()

"""Masks as DICOM SEG, which viewers lay over the files that they were made of: a segment a class."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from datasets.commands import NOTE
from utils.predict.model import SavedModel
from utils.predict.prepare import Slices
from utils.training.environment import git_revision

OF_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
OF_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime")
LONGEST = 64  # characters of a name in DICOM
TOO_LITTLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def write_seg(path: Path, model: SavedModel, files: Sequence[Path], slices: Slices, masks: list[np.ndarray]) -> None:
    """Write the masks of `slices`, each M×H×W bool, as one file that refers to the images in `files`: those of one
    frame each, or one file of several frames. Raises one of `TOO_LITTLE` where the files lack what a segmentation has
    to say of its images, such as their place.
    """
    import highdicom as hd  # it takes a second, and few answers need it

    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    for image in images:
        for name in {*OF_PATIENT, *OF_STUDY} - {*image.dir()}:  # which may be empty; anonymous files often lack them
            setattr(image, name, None)
    whole = np.zeros((slices.total, images[0].Rows, images[0].Columns, len(model.masks)), bool)
    kind = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:LONGEST],
        family=codes.DCM.ArtificialIntelligence,
        version=model.card["sha256"],
        parameters={"saved_model": model.name},
    )
    for number, mask in zip(slices.numbers, masks, strict=True):
        whole[number] = mask.transpose(1, 2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of patients, and of masks that mark nothing
        hd.seg.Segmentation(
            source_images=images,
            pixel_array=whole,
            segmentation_type="BINARY",
            segment_descriptions=[
                hd.seg.SegmentDescription(number, name, *kind, "AUTOMATIC", algorithm)
                for number, name in enumerate(model.masks, 1)
            ],
            series_instance_uid=generate_uid(),
            series_number=1,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="honest-brain-mri",
            manufacturer_model_name=model.card["model"],
            software_versions=git_revision() or "installed",
            device_serial_number="none",
            content_description=NOTE,
        ).save_as(path)

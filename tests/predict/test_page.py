"""What the page makes of dropped files, without a browser; `test_app.py` has one."""

import nibabel as nib
import numpy as np
from dicom_files import dicom
from own_images import head
from PIL import Image
from saved_model import save_model

from utils.predict.page import Answering


def series(folder, uid: str, slices: int) -> list[tuple[str, bytes]]:
    """The files of a DICOM series, `0.dcm` and on, as they are dropped."""
    folder.mkdir()
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": uid}
    images = [head(k, 96).astype(np.int16) for k in range(slices)]
    files = [dicom(folder / f"{k}.dcm", x, ImagePositionPatient=[0, 0, -k], **place) for k, x in enumerate(images)]
    return [(path.name, path.read_bytes()) for path in files]


def test_dropped_files_and_series_have_an_answer_each_though_they_share_names(classifier, tmp_path):
    contents = []
    for seed in (1, 2):
        Image.fromarray(head(seed, 96)).save(tmp_path / "slice.png")
        contents.append((tmp_path / "slice.png").read_bytes())
    dropped = [("slice.png", content) for content in contents]
    dropped += [("C:\\x\\other.png", contents[0]), ("..", contents[0]), ("empty.png", b"")]
    dropped += series(tmp_path / "a", "1.2.3", 2) + series(tmp_path / "b", "1.2.4", 4)
    found = Answering("best").answer("", dropped)
    slices = {answer["file"]: answer["slices"] for answer in found["answers"]}
    assert list(slices)[:4] == ["dropped 1/slice.png", "dropped 2/slice.png", "other.png", "file"]
    assert sorted(slices.values()) == [1, 1, 1, 1, 2, 4]
    one, two, same, again = (answer["classes"] for answer in found["answers"][:4])
    assert one != two and one == same == again
    assert found["errors"] == ["empty.png: an empty file"]


def test_dropped_sequences_of_two_patients_are_two_scans(roots, tmp_path):
    model, dropped = save_model("phantom", "AttentionUNet").parent.name, []
    for patient in (1, 2):
        for k, name in enumerate(("t1", "t1ce", "t2", "flair")):
            voxels = np.random.default_rng(10 * patient + k).uniform(10, 900, (20, 24, 2)).astype(np.float32)
            nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 3, 1])), tmp_path / f"P_{name}.nii.gz")
            dropped.append((f"P_{name}.nii.gz", (tmp_path / f"P_{name}.nii.gz").read_bytes()))
    found = Answering(model).answer("", dropped)
    assert found["errors"] == [] and [answer["slices"] for answer in found["answers"]] == [2, 2]
    assert all("answer" not in answer["row"] and answer["row"]["outlined"] for answer in found["answers"])

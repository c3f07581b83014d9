"""What the page makes of dropped files, without a browser; `test_app.py` has one."""

import nibabel as nib
import numpy as np
from dicom_files import dicom
from own_images import head
from PIL import Image
from saved_model import save_model

from utils.predict.page import Answering


def content(path, seed: int) -> bytes:
    Image.fromarray(head(seed, 96)).save(path)
    return path.read_bytes()


def series(folder, uid: str, slices: int) -> list[tuple[str, bytes]]:
    """The files of a DICOM series, `0.dcm` and on, as they are dropped."""
    folder.mkdir()
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": uid}
    files = [
        dicom(folder / f"{k}.dcm", head(k, 96).astype(np.int16), ImagePositionPatient=[0, 0, -k], **place)
        for k in range(slices)
    ]
    return [(path.name, path.read_bytes()) for path in files]


def test_dropped_series_whose_files_share_names_are_a_scan_each(classifier, tmp_path):
    dropped = series(tmp_path / "a", "1.2.3", 2) + series(tmp_path / "b", "1.2.4", 4)
    found = Answering("best").answer("", dropped)
    assert sorted(answer["slices"] for answer in found["answers"]) == [2, 4] and found["errors"] == []


def test_a_dropped_series_is_one_scan(classifier, tmp_path):
    dropped = series(tmp_path / "series", "1.2.3", 3)
    found = Answering("best").answer("", [*dropped, ("a.png", content(tmp_path / "a.png", 1))])
    assert [(answer["file"], answer["slices"]) for answer in found["answers"]] == [("2.dcm", 3), ("a.png", 1)]
    assert found["errors"] == []


def test_dropped_files_of_one_name_have_an_answer_each(classifier, tmp_path):
    dropped = [("slice.png", content(tmp_path / "slice.png", seed)) for seed in (1, 2)]
    found = Answering("best").answer("", [*dropped, ("C:\\x\\other.png", dropped[0][1]), ("..", dropped[0][1])])
    names = [answer["file"] for answer in found["answers"]]
    assert names == ["dropped 1/slice.png", "dropped 2/slice.png", "other.png", "file"]
    one, two, same, again = (answer["classes"] for answer in found["answers"])
    assert one != two and one == same == again


def test_an_empty_file_is_refused_alone(classifier, tmp_path):
    found = Answering("best").answer("", [("empty.png", b""), ("a.png", content(tmp_path / "a.png", 1))])
    assert [answer["file"] for answer in found["answers"]] == ["a.png"]
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

"""ReMIND: patients, diagnoses, slices."""

import numpy as np
import pytest
from archives import bring
from dicom_files import dicom
from remind_files import DIAGNOSES, archive, table

from datasets import download
from datasets.catalog import get
from datasets.labels import classes_of
from datasets.sources import remind
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest

REMIND = get("remind")


def test_remind_comes_in_without_rare_diagnoses_and_splits_by_patient(root, tmp_path):
    assert bring("remind", archive(tmp_path, table(DIAGNOSES)), "--size", "32") == 0
    found = read_manifest("remind")
    assert set(found.label) == {"astrocytoma", "glioblastoma"} == set(classes_of("remind")), "two ependymomas are rare"
    assert len(found) == 15 * 3 and found.patient.nunique() == 15, "three slices a patient; no ultrasound, no mask"
    assert found.path[0] == "ReMIND-001/000" and found.height.tolist()[:3] == [16, 16, 24], "from the lowest up"
    assert found.label[found.patient == "ReMIND-009"].eq("astrocytoma").all()
    assert download.main(["remind", "--check"]) == 0
    parts = [make_split("remind", "patient", fold, val_fraction=0.15 / 0.85) for fold in range(7)]
    assert sorted(np.concatenate([p.test for p in parts])) == list(range(45)) and not any(p.seen.any() for p in parts)
    for part in parts:
        owners = [set(found.patient[rows]) for rows in (part.train, part.val, part.test)]
        assert not any(a & b for i, a in enumerate(owners) for b in owners[i + 1 :])
        assert 9 <= len(owners[0]) <= 12 and 2 <= len(owners[1]) <= 3 and 2 <= len(owners[2]) <= 3
    data = ImageDataset("remind", parts[0].train, image_size=32)
    assert data.classes == ("astrocytoma", "glioblastoma") and data.batch([0])["image"].shape == (1, 1, 32, 32)


def test_a_series_is_scaled_as_a_whole_whatever_its_range(tmp_path):
    ramp = np.arange(400).reshape(20, 20)
    for series, echo, most in (("a", 9, 399), ("a", 90, 40), ("b", 9, 19)):
        for z, share in enumerate((1, 4)):
            pixels, name = (ramp * most // 399 // share).astype(np.int16), f"{echo}-{z}{'.DCM' if z else '.dcm'}"
            tags = {"SeriesInstanceUID": f"1.{ord(series)}", "InstanceNumber": z, "EchoTime": echo}
            dicom(tmp_path / "ReMIND-001" / series / name, pixels, **tags)
    bright, dim, echo, _, other, _ = (image.image for image in remind.read(REMIND, tmp_path, "ReMIND-001"))
    assert bright.min() == 0 and bright.max() == 255, "another series has its own range, and another echo"
    assert echo.max() == 255 and other.max() == 255
    assert 55 < dim.max() < 75, "a quarter as bright as the other slice of its series, not stretched by itself"
    assert remind.target(REMIND, "x/ReMIND-001/s/2.DCM") == "ReMIND-001/s/2.DCM"


def test_at_most_399_slices_evenly_over_all_series(tmp_path, monkeypatch):
    for number in range(12):
        series = "ab"[number // 6]
        pixels = np.tile(np.repeat(np.int16([100 * (number % 6 + 1), 0]), 4), (8, 1))
        tags = {"SeriesInstanceUID": f"1.{ord(series)}", "InstanceNumber": number}
        dicom(tmp_path / "ReMIND-001" / series / f"{number}.dcm", pixels, **tags)
    assert len(remind.read(REMIND, tmp_path, "ReMIND-001")) == 12, "a patient with fewer keeps them all"
    monkeypatch.setattr(remind, "SLICES", 5)
    images = remind.read(REMIND, tmp_path, "ReMIND-001")
    assert [image.facts["path"] for image in images] == [f"ReMIND-001/{i:03d}" for i in range(5)]


@pytest.mark.parametrize(
    ("clinical", "kind", "said"),
    [
        (b"no table", "xlsx", "no table with the columns Case Number and Histopathology"),
        (table(DIAGNOSES[:-1], "csv"), "csv", "no diagnosis of ReMIND-017"),
        (table([f"Rare {i}" for i in range(17)]), "xlsx", "no diagnosis has 7 patients"),
        (table([*DIAGNOSES, "Glioma"], cases=[*range(1, 18), 3]), "xlsx", "case 3 stands in the table twice"),
        (None, "xlsx", "the clinical table (.xlsx or .csv) is missing"),
    ],
)
def test_a_clinical_table_that_does_not_fit_is_refused_in_one_line(clinical, kind, said, root, tmp_path, capsys):
    assert bring("remind", archive(tmp_path, clinical, kind)) == 1
    error = capsys.readouterr().err
    assert said in error and "take" in error and error.count("\n") == 1

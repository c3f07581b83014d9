"""ReMIND: patients, diagnoses, slices, results of patients."""

import numpy as np
import pytest
from dicom_files import dicom
from remind_files import DIAGNOSES, archive, bring, table

from datasets import download
from datasets.catalog import DataError, get
from datasets.labels import classes_of
from datasets.sources import remind
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.evaluation.classification import by_patient, evaluate, run_table
from utils.run import Run
from utils.training.data import load_data


def test_remind_comes_in_without_rare_diagnoses_and_splits_by_patient(root, tmp_path, capsys):
    assert bring(archive(tmp_path)) == 0, capsys.readouterr().err
    found = read_manifest("remind")
    assert set(found.label) == {"astrocytoma", "glioblastoma"} == set(classes_of("remind")), "two ependymomas are rare"
    assert len(found) == 15 * 3 and found.patient.nunique() == 15, "three slices a patient; no ultrasound, no mask"
    assert found.path[0] == "ReMIND-001/000" and found.height.tolist()[:3] == [16, 16, 24], (
        "from the lowest position up"
    )
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
    for series, most in (("a", 399), ("b", 19)):
        for z, share in enumerate((1, 4)):
            pixels = (ramp * most // 399 // share).astype(np.int16)
            name = tmp_path / "ReMIND-001" / series / f"{z}.dcm"
            dicom(name, pixels, SeriesInstanceUID=f"1.{ord(series)}", InstanceNumber=z)
    bright, dim, other, _ = (image.image for image in remind.read(get("remind"), tmp_path, "ReMIND-001"))
    assert bright.min() == 0 and bright.max() == 255
    assert 55 < dim.max() < 75, "a quarter as bright as the other slice of its series, not stretched by itself"
    assert other.max() == 255, "another series has its own range"


def test_at_most_399_slices_evenly_over_all_series(tmp_path, monkeypatch):
    monkeypatch.setattr(remind, "SLICES", 5)
    for series in ("a", "b"):
        for z in range(6):
            pixels = np.full((8, 8), 0, np.int16)
            pixels[:, :4] = 100 * (z + 1)
            dicom(
                tmp_path / "ReMIND-001" / series / f"{z}.dcm",
                pixels,
                SeriesInstanceUID=f"1.{ord(series)}",
                InstanceNumber=z,
            )
    images = remind.read(get("remind"), tmp_path, "ReMIND-001")
    assert len(images) == 5 and [image.facts["path"] for image in images] == [f"ReMIND-001/{i:03d}" for i in range(5)]
    assert len(remind.read(get("remind"), tmp_path, "ReMIND-001/a")) == 5
    monkeypatch.setattr(remind, "SLICES", 399)
    assert len(remind.read(get("remind"), tmp_path, "ReMIND-001")) == 12, "a patient with fewer keeps them all"


@pytest.mark.parametrize(
    ("clinical", "said"),
    [
        (b"no table", "no table with the columns Case Number and Histopathology"),
        (table(DIAGNOSES[:-1]), "1 patients have no diagnosis in the table, ReMIND-017 first"),
        (table([f"Rare {i}" for i in range(17)]), "no diagnosis has 7 patients"),
    ],
)
def test_a_clinical_table_that_does_not_fit_is_refused_in_one_line(clinical, said, root, tmp_path, capsys):
    assert bring(archive(tmp_path, clinical=clinical)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_clinical_table_may_be_csv_but_names_a_case_once(tmp_path):
    path = tmp_path / "my clinical data.csv"
    path.write_bytes(table(DIAGNOSES, "csv"))
    assert remind._diagnoses(get("remind"), tmp_path)[9] == "astrocytoma"
    path.write_bytes(table(DIAGNOSES, "csv") + b"3,50,Glioma\n")
    with pytest.raises(DataError, match="case 3 stands in the table twice"):
        remind._diagnoses(get("remind"), tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"the table of diagnoses .* is missing"):
        remind._diagnoses(get("remind"), tmp_path)


def test_results_of_patients_are_means_of_their_slices(root, tmp_path):
    assert bring(archive(tmp_path)) == 0
    data = load_data(Run(dataset="remind", split="patient", fold=0, image_size=32))
    rng = np.random.default_rng(0)
    slices = run_table(data, rng.dirichlet([1, 1], len(data.test)))
    patients = by_patient(slices, data.classes)
    assert len(patients) == slices.group.nunique() < len(slices)
    for _, row in patients.iterrows():
        mine = slices[slices.group == row.group]
        assert row.p_glioblastoma == pytest.approx(mine.p_glioblastoma.mean())
        assert row.predicted == ("glioblastoma" if row.p_glioblastoma > 0.5 else "astrocytoma")
        assert row.label == mine.label.iloc[0]
    assert evaluate(patients, data.classes, resamples=10)["images"] == len(patients)

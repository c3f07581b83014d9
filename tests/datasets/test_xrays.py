"""ChestX-ray14: its archive as published, its tables, several findings an image, and memory."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from real_archives import real_archive
from xray_files import bring, bring_in, made_archive, published

from datasets import download
from datasets.catalog import REPO, DataError, get
from datasets.labels import classes_of
from datasets.splitting import make_split
from datasets.store.findings import strata
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest

FINDINGS = get("chest-xray14").findings


def test_the_whole_set_comes_in_by_patient_with_its_published_split(root, tmp_path, capsys):
    assert bring(published(tmp_path)) == 0
    table = read_manifest("chest-xray14")
    assert len(table) == 120 and table.patient.nunique() == 30
    assert {"follow_up", "age", "sex", "position"} <= set(table.columns) and set(table.position) == {"PA"}
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        tested = set(archive.read("test_list.txt").decode().split())
        assert len([m for m in archive.namelist() if m.startswith("images_012/images/")]) == 10
    assert set(table.path[table.published_split == "test"].str.rpartition("/")[2]) == tested
    split = make_split("chest-xray14", "published")
    assert not split.seen.any() and len(split.test) == len(tested), "the lists of the publisher share no patient"
    assert download.main(["chest-xray14", "--check"]) == 1
    assert "Hernia: " in capsys.readouterr().err, "fewer images than the whole set has"


def test_a_sample_has_no_published_split_and_no_counts_to_miss(root, tmp_path, capsys):
    with zipfile.ZipFile(published(tmp_path)) as archive, zipfile.ZipFile(tmp_path / "sample.zip", "w") as sample:
        table = archive.read("Data_Entry_2017.csv").decode().splitlines()
        few = [",".join(line.split(",")[:2] + line.split(",")[3:4]) for line in table]
        sample.writestr("sample_labels.csv", "\n".join(few))
        sample.writestr("sample/sample_labels.csv", "\n".join(few))
        for member in archive.namelist():
            if member.endswith(".png"):
                sample.writestr(f"sample/images/{Path(member).name}", archive.read(member))
    assert bring(tmp_path / "sample.zip") == 0
    assert download.main(["chest-xray14", "--check"]) == 0, capsys.readouterr().err
    assert set(read_manifest("chest-xray14").published_split) == {""} and set(read_manifest("chest-xray14").age) == {""}
    with pytest.raises(DataError, match="published without a test folder"):
        make_split("chest-xray14", "published")


TABLE = "Image Index,Finding Labels,Follow-up #,Patient ID\n"


FIRST = TABLE + "00000001_000.png,{},0,{}\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Data_Entry_2017_csv": None}, "neither Data_Entry_2017.csv nor"),
        ({"Data_Entry_2017_csv": "a,b\n1,2\n"}, "its columns should be Image Index, Finding Labels, Patient ID"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass", 1)}, "00000001_001.png has no row in the table of findings"),
        ({"Data_Entry_2017_csv": FIRST.format("Mas", 1)}, "'Mas' is not of the 14 findings"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass|No Finding", 1)}, "'Mass|No Finding' is not of the 14 findings"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass", "")}, "line 2: 00000001_000.png has no patient"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass", 1) + "00000001_000.png,Mass,0,1\n"}, "line 3: 00000001_000"),
        ({"test_list_txt": None}, "train_val_list.txt is there without the other list"),
        ({"test_list_txt": "00000009_000.png\n"}, "is in neither of train_val_list.txt and test_list.txt"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_in_one_line(changes, said, root, tmp_path, capsys):
    assert bring(published(tmp_path, **changes)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not [path for path in root.iterdir() if not path.name.endswith(".lock")]


def test_thousands_of_xrays_pack_in_little_memory(tmp_path):
    """With 3,000 images what is held may hardly depend on their number."""
    held = {}
    for images in (300, 3000):
        path = tmp_path / f"{images}.zip"
        made_archive(path, images, 64)
        _, held[images] = bring_in(path, tmp_path / str(images))
    per_image = (held[3000] - held[300]) / 2700
    assert held[3000] < 2 * 2**30
    assert held[300] + 112_120 * per_image < 2 * 2**30, f"{per_image:.0f} bytes for each further X-ray"


def test_what_the_whole_set_takes_is_what_the_benchmark_measured():
    found = json.loads((REPO / "saved_metrics/benchmarks/xrays.json").read_text())
    memory = found["GiB of memory at most"]
    assert found["images"] == 112_120 and memory < 2
    text = (REPO / "datasets/README.md").read_text()
    assert f"take {found['seconds']:.0f} seconds on two cores ({found['images a second']} a second)" in text
    assert f"at most {memory:.2f} GiB of memory" in text


def test_the_guide_says_which_images_the_committed_results_are_of():
    files = list((REPO / "saved_metrics/findings/chest-xray14").glob("*SqueezeNet*/predictions.csv.gz"))
    table = pd.concat([pd.read_csv(file, usecols=["path", "group"]) for file in files])
    names = sorted(path.rpartition("/")[2] for path in table.path)
    assert len(set(names)) == len(names) == 1000 and table.group.nunique() == 264
    numbers = {patient: [] for patient in range(1, 279)}
    for name in names:
        numbers[int(name[:8])].append(int(name[9:12]))
    assert all(numbers[patient] == list(range(len(numbers[patient]))) for patient in range(1, 211))
    first = sum(len(numbers[patient]) for patient in range(1, 211))
    rest = sum(bool(numbers[patient]) for patient in range(211, 279))
    text = (REPO / "datasets/README.md").read_text()
    assert f"from `{names[0]}` to `{names[-1]}`: {first} images of patients 1 to 210" in text
    assert f"and {1000 - first} of {rest} patients from 211 on" in text


def test_findings_are_read_from_labels_or_masks(root, tmp_path):
    assert bring(published(tmp_path)) == 0
    table = read_manifest("chest-xray14")
    data = ImageDataset("chest-xray14", np.arange(40), image_size=32, target="findings")
    assert data.classes == FINDINGS and data.labels.shape == (40, 14) and data.labels.dtype == torch.float32
    for row in range(40):
        named = {f for f, is_shown in zip(FINDINGS, data.labels[row], strict=True) if is_shown}
        assert named == set(table.label[row].split("|")) - {"No Finding"}
    assert data.batch([3, 5])["label"].equal(data.labels[[3, 5]])
    with pytest.raises(DataError, match="may show several findings; take target='findings'"):
        ImageDataset("chest-xray14", np.arange(3), image_size=32)
    with pytest.raises(DataError, match="'sartaj' has neither findings nor masks"):
        classes_of("sartaj", "findings")


def test_of_a_set_with_masks_a_finding_is_a_mask_that_is_not_empty(roots):
    rows = np.arange(30)
    data = ImageDataset("phantom", rows, image_size=32, target="findings")
    assert data.classes == ("NCR", "ED", "ET")
    assert (data.labels.numpy() == read_masks("phantom", rows).any(axis=(2, 3))).all() and data.labels.any()


def test_folds_are_stratified_by_the_rarest_finding(root, tmp_path):
    assert bring(published(tmp_path, images=400)) == 0
    table = read_manifest("chest-xray14")
    kinds, often = strata("chest-xray14", table), table.label.str.split("|").explode().value_counts()
    assert all(often[k] == min(often[f] for f in names.split("|")) for k, names in zip(kinds, table.label, strict=True))
    parts = [make_split("chest-xray14", "patient", fold) for fold in range(5)]
    assert sorted(np.concatenate([p.test for p in parts])) == list(range(400))
    assert not any(p.seen.any() for p in parts)


@pytest.mark.real
def test_the_real_sample(root, capsys):
    assert download.main(["chest-xray14", "--archive", str(real_archive("chest-xray14")), "--size", "64"]) == 0
    assert download.main(["chest-xray14", "--check"]) == 0
    table = read_manifest("chest-xray14")
    assert len(table) == 1000 and table.patient.nunique() == 264
    split = make_split("chest-xray14", "patient", 0)
    data = ImageDataset("chest-xray14", split.test, image_size=64, target="findings")
    assert not split.seen.any() and data.labels.sum() > 100

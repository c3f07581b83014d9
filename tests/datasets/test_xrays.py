"""ChestX-ray14: its archive as published, its tables, several findings an image, and memory."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from archives import bring, left, real_archive, saved
from xray_files import published

from datasets import download
from datasets.catalog import REPO, DataError, get
from datasets.labels import classes_of
from datasets.splitting import make_split
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest, strata

FINDINGS = get("chest-xray14").findings


def brought(folder: Path, files: dict[str, bytes]) -> int:
    return bring("chest-xray14", saved(folder, files), "--size", "32")


def test_the_whole_set_comes_in_by_patient_with_its_published_split_and_its_findings(root, tmp_path, capsys):
    assert brought(tmp_path, published()) == 0
    table = read_manifest("chest-xray14")
    assert len(table) == 120 and table.patient.nunique() == 30 and table.age[0] == "21"
    assert {"follow_up", "age", "sex", "position"} <= set(table.columns) and set(table.position) == {"PA"}
    tested = set(published()["test_list.txt"].decode().split())
    assert set(table.path[table.published_split == "test"].str.rpartition("/")[2]) == tested
    split = make_split("chest-xray14", "published")
    assert not split.seen.any() and len(split.test) == len(tested), "the lists of the publisher share no patient"
    assert download.main(["chest-xray14", "--check"]) == 1
    assert "Hernia: " in capsys.readouterr().err, "fewer images than the whole set has"
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
    kinds, often = strata("chest-xray14", table), table.label.str.split("|").explode().value_counts()
    assert all(often[k] == min(often[f] for f in names.split("|")) for k, names in zip(kinds, table.label, strict=True))
    parts = [make_split("chest-xray14", "patient", fold) for fold in range(5)]
    assert sorted(np.concatenate([p.test for p in parts])) == list(range(120)) and not any(p.seen.any() for p in parts)


def test_a_sample_has_no_published_split_and_no_counts_to_miss(root, tmp_path, capsys):
    lines = [line.split(",") for line in published().pop("Data_Entry_2017.csv").decode().splitlines()]
    few = "\n".join(",".join([*line[:2], line[3]]) for line in lines).encode()
    images = {f"sample/images/{Path(k).name}": v for k, v in published().items() if k.endswith(".png")}
    assert brought(tmp_path, images | {"sample_labels.csv": few, "sample/sample_labels.csv": few}) == 0
    assert download.main(["chest-xray14", "--check"]) == 0, capsys.readouterr().err
    table = read_manifest("chest-xray14")
    assert set(table.published_split) == {""} and set(table.age) == {""}
    with pytest.raises(DataError, match="published without a test folder"):
        make_split("chest-xray14", "published")


ROW = "Image Index,Finding Labels,Follow-up #,Patient ID\n00000001_000.png,{},0,{}\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("Data_Entry_2017.csv", None, "no table of findings (Data_Entry_2017.csv, "),
        ("Data_Entry_2017.csv", "a,b\n1,2\n", "its column 'Image Index' is missing"),
        ("Data_Entry_2017.csv", ROW.format("Mass", 1), "00000001_001.png has no row in the table of findings"),
        ("Data_Entry_2017.csv", ROW.format("Mas", 1), "'Mas' is not of the known findings"),
        ("Data_Entry_2017.csv", ROW.format("Mass|No Finding", 1), "'Mass|No Finding' is not of the known findings"),
        ("Data_Entry_2017.csv", ROW.format("Mass", ""), "line 2: 00000001_000.png has no patient"),
        ("Data_Entry_2017.csv", ROW.format("Mass", 1) + "00000001_000.png,Mass,0,1\n", "line 3: 00000001_000"),
        ("test_list.txt", None, "one list of the split is there without the other"),
        ("test_list.txt", "00000009_000.png\n", "is in neither of the lists of the split"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(name, content, said, root, tmp_path, capsys):
    files = {k: v for k, v in published().items() if k != name}
    assert brought(tmp_path, files | ({name: content.encode()} if content else {})) == 1
    error = capsys.readouterr().err
    assert said in error and "take data.zip from" in error and error.count("\n") == 1 and left(root) == []


def test_the_guide_says_what_was_measured_and_which_images_the_committed_results_are_of():
    text = (REPO / "datasets/README.md").read_text()
    found = json.loads((REPO / "saved_metrics/benchmarks/xrays.json").read_text())
    memory = found["GiB of memory at most"]
    assert found["images"] == 112_120 and memory < 2 and f"at most {memory:.2f} GiB of memory" in text
    assert f"take {found['seconds']:.0f} seconds on two cores ({found['images a second']} a second)" in text
    files = list((REPO / "saved_metrics/findings/chest-xray14").glob("*SqueezeNet*/predictions.csv.gz"))
    table = pd.concat([pd.read_csv(file, usecols=["path", "group"]) for file in files])
    names = sorted(path.rpartition("/")[2] for path in table.path)
    assert len(set(names)) == len(names) == 1000 and table.group.nunique() == 264
    numbers = {patient: [int(n[9:12]) for n in names if int(n[:8]) == patient] for patient in range(1, 279)}
    assert all(numbers[patient] == list(range(len(numbers[patient]))) for patient in range(1, 211))
    first = sum(len(numbers[patient]) for patient in range(1, 211))
    rest = sum(bool(numbers[patient]) for patient in range(211, 279))
    assert f"from `{names[0]}` to `{names[-1]}`: {first} images of patients 1 to 210" in text
    assert f"and {1000 - first} of {rest} patients from 211 on" in text


def test_of_a_set_with_masks_a_finding_is_a_mask_that_is_not_empty(roots):
    rows = np.arange(30)
    data = ImageDataset("phantom", rows, image_size=32, target="findings")
    assert data.classes == ("NCR", "ED", "ET")
    assert (data.labels.numpy() == read_masks("phantom", rows).any(axis=(2, 3))).all() and data.labels.any()


@pytest.mark.real
def test_the_real_sample(root):
    assert download.main(["chest-xray14", "--archive", str(real_archive("chest-xray14")), "--size", "64"]) == 0
    assert download.main(["chest-xray14", "--check"]) == 0
    table = read_manifest("chest-xray14")
    assert len(table) == 1000 and table.patient.nunique() == 264
    split = make_split("chest-xray14", "patient", 0)
    data = ImageDataset("chest-xray14", split.test, image_size=64, target="findings")
    assert not split.seen.any() and data.labels.sum() > 100

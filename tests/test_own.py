"""Bring your own: a folder of images and masks with patients, and all that can be wrong with it."""

import unicodedata

import h5py
import numpy as np
import pytest
from PIL import Image

from datasets import download
from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import read_masks
from datasets.store.index import read_manifest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten patients with two images each, and an empty data root."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    rng, lines = np.random.default_rng(0), ["image,mask,patient"]
    (tmp_path / "mine/images").mkdir(parents=True)
    (tmp_path / "mine/masks").mkdir()
    for i in range(20):
        image = np.zeros((90, 80), np.uint8)
        image[10:80, 10:70] = rng.integers(90, 250, (70, 60))
        mask = np.zeros((90, 80), np.uint8)
        mask[30:50, 20:40] = 255 if i % 2 else 1
        Image.fromarray(image).save(tmp_path / f"mine/images/{i:02}.png")
        Image.fromarray(mask).save(tmp_path / f"mine/masks/{i:02}.png")
        lines.append(f"images/{i:02}.png,masks/{i:02}.png,p{i // 2}")
    (tmp_path / "mine/samples.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "mine"


def bring(folder) -> int:
    return download.main(["own", "--folder", str(folder), "--size", "64", "--workers", "1"])


def test_a_folder_becomes_a_data_set_split_by_patient(folder, tmp_path, capsys):
    before = sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert bring(folder) == 0 and download.main(["own", "--check"]) == 0
    table = read_manifest("own")
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(20)]
    with h5py.File(tmp_path / "data/own/images.h5") as file:
        assert file["image"].shape == (20, 64, 64) and file["mask"].shape == (20, 64, 64, 1)
    masks = read_masks("own", np.arange(20))
    assert set(np.unique(masks)) == {0, 1} and set(masks.sum(axis=(1, 2, 3)) // 100) == {3}  # 0/1 and 0/255 alike
    for fold in range(5):
        parts = make_split("own", "patient", fold)
        owners = [set(table.patient.iloc[rows]) for rows in (parts.train, parts.val, parts.test)]
        assert all(not a & b for i, a in enumerate(owners) for b in owners[i + 1 :])
    assert sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file()) == before, "yours is left as it is"
    assert bring(folder) == 0 and "nothing to do" in capsys.readouterr().out


def test_a_changed_folder_is_brought_in_again(folder, capsys):
    assert bring(folder) == 0
    rewrite(folder, ",p0\n", ",anna\n")
    assert bring(folder) == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert read_manifest("own").patient.tolist()[:3] == ["anna", "p0", "p1"]


def test_too_few_patients_are_said(folder):
    lines = (folder / "samples.csv").read_text().splitlines()
    (folder / "samples.csv").write_text("\n".join(lines[:7]) + "\n")
    assert bring(folder) == 0
    with pytest.raises(DataError, match="3 patients or groups are too few for 5 parts"):
        make_split("own", "patient")


def test_one_person_spelt_in_several_ways_is_one_person(folder, capsys):
    lines = (folder / "samples.csv").read_text().splitlines()
    for line, patient in {1: "p0 ", 3: "P1", 4: "p1\u00a0", 5: " p2", 6: "p\u200b2"}.items():
        lines[line] = lines[line].rpartition(",")[0] + "," + patient
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    assert bring(folder) == 0
    assert read_manifest("own").patient.str.lower().tolist() == [f"p{i // 2}" for i in range(20)]
    assert read_manifest("own").patient[2] == "P1", "as the first row spells it"
    error = capsys.readouterr().err
    assert "note: 3 patients are spelt in several ways, each taken to be one person: 'p0 ' = 'p0', 'P1' = 'p1" in error
    assert error.count("\n") == 1


SPELT = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "sep=;": lambda text: ("sep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n")).encode(),
    "tabs in UTF-16": lambda text: text.replace(",", "\t").encode("utf-16"),
    "capitals and spaces": lambda text: text.replace("image,mask,patient", "Image, MASK ,Patient").encode(),
    "backslashes": lambda text: text.replace("/", "\\").encode(),
    "further columns": lambda text: text.replace("image,", "age,image,").replace("images/", "44,images/").encode(),
    "empty lines": lambda text: text.replace("\n", "\n\n").encode() + b",,\n",
}


@pytest.mark.parametrize("kind", SPELT)
def test_tables_are_understood_as_spreadsheets_write_them(folder, kind):
    text = (folder / "samples.csv").read_text()
    (folder / "samples.csv").write_bytes(SPELT[kind](text))
    assert bring(folder) == 0
    table = read_manifest("own")
    assert table.path.tolist() == [f"images/{i:02}.png" for i in range(20)]
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(20)]
    assert download.main(["own", "--check"]) == 0


def test_a_name_in_composed_letters_finds_its_file_in_decomposed_ones(folder):
    name = unicodedata.normalize("NFD", "images/é.png")
    (folder / "images/00.png").rename(folder / name)
    rewrite(folder, "images/00.png", unicodedata.normalize("NFC", name))
    assert bring(folder) == 0 and read_manifest("own").path[0] == name


def test_what_is_wrong_is_said_of_the_readers_own_files(folder, capsys):
    (folder / "images/03.png").write_text("no")
    assert bring(folder) == 1
    error = capsys.readouterr().err
    assert f"{folder}: 1 of 20 images are broken" in error and "images/03.png: not an image" in error
    assert "partial" not in error and "publisher" not in error
    save_mask(folder, np.zeros((80, 80)))
    Image.fromarray(np.zeros((90, 80), np.uint8)).save(folder / "images/03.png")
    (folder / "masks/05.png").write_text("no")
    assert bring(folder) == 1
    error = capsys.readouterr().err
    assert "images/05.png: mask masks/05.png: not an image" in error and ".own.partial" not in error


def rewrite(folder, old: str, new: str) -> None:
    table = folder / "samples.csv"
    table.write_text(table.read_text().replace(old, new, 1))


def save_mask(folder, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(folder / "masks/03.png")


BAD = {
    "no table": (lambda f: (f / "samples.csv").unlink(), "samples.csv: not there; write a row an image"),
    "no column": (
        lambda f: rewrite(f, "patient", "person"),
        "its first line should be image,mask,patient; patient is not in it, it names image, mask, person",
    ),
    "column twice": (lambda f: rewrite(f, "image,mask", "image,image,mask"), "its first line names image twice"),
    "a value too many": (lambda f: rewrite(f, ",p3\n", ",p3,x\n"), "line 8: 4 values, but the first line has 3"),
    "open quote": (lambda f: rewrite(f, ",p3\n", ',"p3\n'), "not a table"),
    "no rows": (lambda f: (f / "samples.csv").write_text("image,mask,patient\n"), "no image follows its first line"),
    "latin-1": (
        lambda f: (f / "samples.csv").write_bytes("image,mask,patient\na,b,zoé\n".encode("latin-1")),
        "not a text file in UTF-8",
    ),
    "other capitals": (lambda f: rewrite(f, "images/04.png", "images/04.PNG"), "did you mean 'images/04.png'?"),
    "a drive": (lambda f: rewrite(f, "images/05.png", "C:\\x\\05.png"), "should lie in the folder"),
    "no patient": (lambda f: rewrite(f, ",p3\n", ",\n"), "line 8: no patient"),
    "no file": (lambda f: (f / "masks/04.png").unlink(), "line 6:"),
    "twice": (lambda f: rewrite(f, "images/05.png", "images/04.png"), "'images/04.png' stands in the table twice"),
    "outside": (lambda f: rewrite(f, "images/05.png", "../05.png"), "should lie in the folder"),
    "grey mask": (lambda f: save_mask(f, np.arange(7200).reshape(90, 80) % 9), "holds [0, 1, 2, 3, 4]; 0 and 1, or"),
    "shape": (lambda f: save_mask(f, np.zeros((80, 80))), "image (90, 80) and mask masks/03.png (80, 80)"),
    "no image": (lambda f: (f / "images/03.png").write_text("no"), "images/03.png"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_fault_is_named_and_nothing_is_left(folder, tmp_path, capsys, fault):
    spoil, message = BAD[fault]
    spoil(folder)
    assert bring(folder) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "data/own").exists()


def test_the_folder_has_to_be_named_and_to_exist(folder, capsys):
    assert download.main(["own"]) == 1 and "name your folder with --folder" in capsys.readouterr().err
    assert bring(folder / "nowhere") == 1 and "no such folder" in capsys.readouterr().err

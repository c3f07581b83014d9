"""`download.py` without a name lists the sets; `--jpg DIR` writes what torchvision's `ImageFolder` reads."""

import json

import h5py
import numpy as np
import pytest
from archives import bring, cheng, folders, left, saved
from torchvision.datasets import ImageFolder

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.store import jpg


@pytest.fixture
def sartaj(root, tmp_path):
    assert bring("sartaj", saved(tmp_path, folders("sartaj")), "--size", "32") == 0
    return root / "sartaj"


def test_folders_hold_the_packed_images_by_split_and_class(sartaj, tmp_path):
    assert download.main(["sartaj", "--jpg", str(tmp_path / "jpg")]) == 0
    found = {split: ImageFolder(tmp_path / "jpg" / split) for split in ("train", "test")}
    with h5py.File(sartaj / "images.h5") as store:
        stored = store["image"][:]
    seen = []
    for images in found.values():
        assert images.classes == sorted(catalog.get("sartaj").classes)
        for path, _ in images.samples:
            seen.append(int(path.rpartition("/")[2].split("_")[0]))
            pixels = np.asarray(images.loader(path)).astype(int)
            assert pixels.shape == (32, 32, 3) and np.abs(pixels - stored[seen[-1], ..., None]).mean() < 8
    assert sorted(seen) == list(range(len(stored)))


def test_a_set_without_published_splits_has_classes_alone(root, tmp_path):
    assert bring("cheng", saved(tmp_path, cheng()), "--jpg", str(tmp_path / "jpg")) == 0
    assert len(ImageFolder(tmp_path / "jpg").samples) == 12


def occupied(folder):
    folder.mkdir()
    (folder / "mine.txt").touch()


WRONG = {
    "something is in it": (lambda folder, home: occupied(folder), "not an empty folder"),
    "a file": (lambda folder, home: folder.touch(), "not an empty folder"),
    "below a file": (lambda folder, home: folder.parent.touch(), "cannot be written"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(case, sartaj, tmp_path, capsys):
    spoil, text = WRONG[case]
    folder = tmp_path / "into" / "jpg"
    if case != "below a file":
        folder.parent.mkdir()
    spoil(folder, sartaj)
    before = sorted(tmp_path.rglob("*"))
    assert download.main(["sartaj", "--jpg", str(folder)]) == 1
    assert text in (error := capsys.readouterr().err) and error.startswith(f"error: --jpg {folder}: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["a/b", ".hidden", '" "', "a\x01b"])
def test_a_label_that_is_no_name_of_a_folder_is_named(text, sartaj, tmp_path):
    table = (sartaj / "manifest.csv").read_text().replace("glioma,train", f"{text},train")
    (sartaj / "manifest.csv").write_text(table)
    (sartaj / "log.json").unlink()  # it vouches for other bytes
    with pytest.raises(DataError, match="is no name for a folder"):
        jpg.write("sartaj", tmp_path / "jpg")
    assert not (tmp_path / "jpg").exists()


def test_without_a_name_it_lists_what_there_is_and_how_to_bring_it_in(sartaj, root, capsys):
    capsys.readouterr()
    log = json.loads((sartaj / "log.json").read_text())
    (root / "cheng").mkdir()
    (root / "cheng/log.json").write_text("[]")
    assert download.main([]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert set(catalog.CATALOG) <= set(lines) and left(root) == ["cheng", "sartaj"]
    assert f"3,264      {log['images']} of 32×32, 0 MB" in lines["sartaj"]
    assert lines["cheng"].split()[2] == "no" and lines["cheng"].endswith("download.py cheng --archive FILE")
    assert lines["br35h"].endswith("download.py br35h") and lines["own"].endswith("own --folder DIR")
    with pytest.raises(SystemExit, match="2"):
        download.main(["--check"])
    assert "name it" in capsys.readouterr().err

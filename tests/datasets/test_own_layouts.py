"""A reader's folders as they come: splits and classes, masks among the images, links, names that no table can hold."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from archives import SCRIPT
from dicom_files import dicom
from own_images import head
from PIL import Image

from datasets import download
from datasets.catalog import DataError
from datasets.curation import __main__ as curation
from datasets.sources import files_below
from datasets.sources.own import Given
from datasets.store.index import read_manifest

pytestmark = pytest.mark.usefixtures("data")


def fill(folder: Path, names: list[str]) -> Path:
    """Images under these names; what is neither PNG nor TIFF is an empty file."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".tif")):
            Image.fromarray(head(i)).save(folder / name)
        else:
            (folder / name).touch()
    return folder


def own(folder: Path, *options: str) -> int:
    return download.main(["own", "--folder", str(folder), "--size", "64", "--workers", "1", *options])


def found(folder: Path) -> set[tuple[str, str]]:
    """Split and label of every image of a folder."""
    return {(row.get("split", ""), row["label"]) for row in Given(folder).listing[0]}


# ---- splits are no classes -----------------------------------------------------------------------------


def test_an_unlabelled_test_folder_is_left_out_and_no_class(tmp_path, capsys):
    train = [f"train/{label}/{i}.png" for label in ("glioma", "notumor") for i in range(6)]
    folder = fill(tmp_path / "mine", [*train, "train/beside.png", *(f"test/{i}.png" for i in range(4))])
    assert own(folder) == 0
    assert set(read_manifest("own").path) == set(train) and set(read_manifest("own").label) == {"glioma", "notumor"}
    error = capsys.readouterr().err
    assert "note: left out test: no split with classes in it\n" in error
    assert "1 files are no images in a class and were left out, train/beside.png first" in error


def test_a_folder_beside_the_splits_is_left_out_and_turns_no_split_into_a_class(tmp_path):
    images = [f"{split}/{label}/1.png" for split in ("Training", "Testing") for label in ("yes", "no")]
    folder = fill(tmp_path, [*images, "pred/1.png", "__MACOSX/Training/yes/1.png"])
    assert found(folder) == {(split, label) for split in ("train", "test") for label in ("yes", "no")}
    assert Given(folder).listing[1][0] == "left out pred: no split with classes in it"


def test_a_split_folder_beside_classes_is_no_class(tmp_path):
    assert found(fill(tmp_path, ["a/1.png", "b/1.png", "Test/1.png"])) == {("", "a"), ("", "b")}
    assert Given(tmp_path).listing[1] == ["left out Test: no split with classes in it"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/1.png", "test/1.png"], r"folders of classes with images in them \(test, train: no split with classes"),
        (["train/train/1.png", "train/a/1.png"], r"train/train: a split, where a class should be; put its folders"),
    ],
)
def test_splits_without_classes_are_refused(names, said, tmp_path):
    with pytest.raises(DataError, match=said):
        _ = Given(fill(tmp_path, names)).listing


# ---- masks are no images -------------------------------------------------------------------------------

MASKS = {
    "beside its image": ["benign/b0.png", "benign/b0_mask.png"],
    "of a second lesion": ["benign/b (1).png", "benign/b (1)_mask_1.png"],
    "in capitals": ["benign/B0.png", "benign/b0_Mask.tif"],
    "of a volume": ["a/v1.nii.gz", "a/v1_seg.nii.gz"],
    "as BraTS names it": ["a/p/p_flair.nii.gz", "a/p/p_t1.nii.gz", "a/p/p_seg.nii.gz"],
    "in a folder in the class": ["malignant/m0.png", "malignant/masks/m0.png"],
    "in a split": ["train/a/x.png", "train/a/x_segmentation.png"],
    "beside splits": ["train/a/x.png", "masks/x.png"],
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_are_never_trained_on_as_images(kind, tmp_path, capsys):
    assert own(fill(tmp_path / "mine", MASKS[kind])) == 1
    error = capsys.readouterr().err
    assert "samples.csv: not there, and " in error and error.count("\n") == 1
    assert "write a row an image: image,mask,patient" in error
    assert MASKS[kind][-1] in error or "'masks' is no class" in error


def test_a_name_that_only_ends_like_a_mask_is_an_image(tmp_path):
    names = ["a/gas_mask.png", "a/2.png", "b/2_mask.png", "b/3.png"]
    assert {row["image"] for row in Given(fill(tmp_path, names)).listing[0]} == set(names)


@pytest.mark.parametrize("order", [1, -1])
def test_an_image_named_alone_and_in_its_series_is_refused(order, tmp_path):
    for i in range(2):
        dicom(tmp_path / f"s0/{i}.dcm")
    lines = ["s0,glioma,p0", "s0/1.dcm,notumor,p99"][::order]
    (tmp_path / "samples.csv").write_text("\n".join(["image,label,patient", *lines]))
    with pytest.raises(DataError, match=r"samples\.csv: 's0/1\.dcm' stands in the table twice, by itself and in"):
        _ = Given(tmp_path).listing


# ---- links ---------------------------------------------------------------------------------------------


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    fill(tmp_path / "far", ["day1/1.png", "day1/deep/2.png", "3.png"])
    folder = fill(tmp_path / "mine", ["a/0.png", "b/0.png"])
    (folder / "a/days").symlink_to(tmp_path / "far/day1")
    (folder / "a/3.png").symlink_to(tmp_path / "far/3.png")
    for place, target in (("a/self", "."), ("a/all", ".."), ("b/root", "/")):
        (folder / place).symlink_to(target)
    (tmp_path / "far/day1/back").symlink_to(folder)  # a circle through two links
    paths = [row["image"] for row in Given(folder).listing[0]]
    assert paths == ["a/0.png", "a/3.png", "a/days/1.png", "a/days/deep/2.png", "b/0.png"]


def test_two_folders_that_lead_to_each_other_end(tmp_path):
    fill(tmp_path, ["a/1.png", "x/b/2.png"])
    (tmp_path / "a/b").symlink_to(tmp_path / "x/b")
    (tmp_path / "x/b/a").symlink_to(tmp_path / "a")
    below = [path.relative_to(tmp_path / "a").as_posix() for path in files_below(tmp_path / "a")]
    assert below == ["1.png", "b/2.png"]


def test_a_link_that_leads_nowhere_is_named(tmp_path, capsys):
    folder = fill(tmp_path / "mine", ["a/0.png", "b/0.png"])
    (folder / "a/.lock").symlink_to("nobody@nowhere")  # as editors leave them
    assert found(folder) == {("", "a"), ("", "b")}
    (folder / "b/1.png").symlink_to(tmp_path / "gone.png")
    assert own(folder) == 1
    assert f"{folder / 'b/1.png'}: a link that leads nowhere; remove it" in capsys.readouterr().err


# ---- names and places that cannot be read --------------------------------------------------------------


def test_a_name_that_is_not_utf8_is_named(tmp_path, capsys):
    folder = fill(tmp_path / "mine", ["a/0.png", "b/0.png"])
    odd = os.fsdecode(b"sch\xe4del.png")
    shutil.copy(folder / "a/0.png", folder / "b" / odd)
    assert own(folder) == 1
    error = capsys.readouterr().err
    assert f"{folder}: holds 'b/sch\\udce4del.png', a name that is not UTF-8; rename it" in error
    assert error.count("\n") == 1
    dicom(tmp_path / "table/s0" / os.fsdecode(b"\xe4.dcm"))
    (tmp_path / "table/samples.csv").write_text("image,label\ns0,a\n")
    assert own(tmp_path / "table") == 1 and "'\\udce4.dcm', a name that is not UTF-8" in capsys.readouterr().err
    (folder / "b" / odd).unlink()
    folder.rename(tmp_path / odd)
    assert own(tmp_path / odd) == 1 and "sch\\udce4del.png', a name that is not UTF-8" in capsys.readouterr().err


def test_what_may_not_be_read_is_one_line(tmp_path):
    """In a process without root's right to read everything."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not here")
    fill(tmp_path / "theirs", ["mine/a/0.png", "archive.zip", "t.csv"])
    fill(tmp_path / "ours", ["a/0.png", "b/deep/0.png"])
    closed = [tmp_path / "theirs", tmp_path / "ours/b/deep"]
    for folder in closed:
        folder.chmod(0o000)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for words, path in (
        (["own", "--folder", "theirs/mine"], "theirs/mine"),
        (["own", "--labels", "theirs/t.csv"], "theirs"),
        (["own", "--folder", "ours", "--labels", "theirs/t.csv"], "theirs/t.csv"),
        (["own", "--folder", "ours"], "ours/b/deep"),
        (["sartaj", "--archive", "theirs/archive.zip"], "theirs/archive.zip"),
        (["sartaj", "--archive", "theirs/archive.zip", "--check"], "theirs/archive.zip"),
    ):
        done = subprocess.run(
            [*drop, sys.executable, str(SCRIPT), *words], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert f"{tmp_path / path}: cannot be read (Permission denied); give yourself the right" in done.stderr
    for folder in closed:
        folder.chmod(0o755)


@pytest.mark.parametrize("kind", ["too long", "nobody's home", "a circle"])
def test_a_place_that_is_none_is_one_line(kind, tmp_path, capsys):
    (tmp_path / "circle").symlink_to("circle")
    place = {"too long": "x" * 300, "nobody's home": "~nobody-of-this-name/x", "a circle": str(tmp_path / "circle")}[
        kind
    ]
    for words in (
        ["own", "--folder"],
        ["own", "--labels"],
        ["sartaj", "--archive"],
        ["sartaj", "--check", "--archive"],
    ):
        assert download.main([*words, place]) == 1
        error = capsys.readouterr().err
        assert "cannot be read (" in error and "name another file or folder" in error and error.count("\n") == 1


# ---- curation of a reader's own set --------------------------------------------------------------------


def test_curation_of_own_alone_says_what_it_holds(tmp_path, capsys):
    assert own(fill(tmp_path / "mine", [f"{label}/{i}.png" for label in "ab" for i in range(6)])) == 0
    holds = capsys.readouterr().out.splitlines()[-2:]
    assert curation.main(["own"]) == 0
    said = capsys.readouterr().out
    assert "own was curated when it was brought in: it holds 12 images" in said
    assert holds[0].removeprefix("own holds ") in said and holds[1] in said
    assert "python -m datasets.curation own brain-tumor-mri" in said

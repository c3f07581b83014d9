"""A reader's own images: tables as spreadsheets write them, folders of classes, and the faults of either."""

import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dicom
from own_images import filled, own, people, tabled, volume
from PIL import Image

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.sources import files_below
from datasets.sources.own import Given
from datasets.splitting import make_split
from datasets.store.images import read_masks
from datasets.store.index import read_manifest

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten patients with two images each; masks of 0 and 1 or of 0 and 255."""
    cases = [(f"p{i // 2}", image, mask // (1 if i % 2 else 255)) for i, (_, image, mask) in enumerate(people(20))]
    return tabled(tmp_path / "mine", cases)


def rewrite(folder: Path, old: str, new: str) -> None:
    table = folder / "samples.csv"
    table.write_text(table.read_text().replace(old, new, 1))


def test_a_folder_becomes_a_data_set_split_by_patient(folder, root, capsys):
    before = sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert own("--folder", folder) == 0 and download.main(["own", "--check"]) == 0
    table = read_manifest("own")
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(20)]
    masks = read_masks("own", np.arange(20))
    assert masks.shape == (20, 1, 64, 64) and set(np.unique(masks)) == {0, 1}
    assert set(masks.sum(axis=(1, 2, 3)) // 10) == {6, 7}, "0/1 and 0/255 alike"
    for fold in range(5):
        parts = make_split("own", "patient", fold)
        owners = [set(table.patient.iloc[rows]) for rows in (parts.train, parts.val, parts.test)]
        assert all(not a & b for i, a in enumerate(owners) for b in owners[i + 1 :])
    assert sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file()) == before, "yours is left as it is"
    assert own("--folder", folder) == 0 and "nothing to do" in capsys.readouterr().out
    rewrite(folder, ",p0\n", ",anna\n")
    assert own("--folder", folder) == 0 and "nothing to do" not in capsys.readouterr().out
    assert read_manifest("own").patient.tolist()[:3] == ["anna", "p0", "p1"]
    (folder / "samples.csv").write_text("\n".join((folder / "samples.csv").read_text().splitlines()[:7]))
    assert own("--folder", folder) == 0
    with pytest.raises(DataError, match="patients or groups are too few for 5 parts"):
        make_split("own", "patient")


# ---- tables --------------------------------------------------------------------------------------------

SPELT = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").replace("\n", "\r\n").encode(),
    "capitals and spaces": lambda text: text.replace("image,mask,patient", "Image, MASK ,Patient").encode(),
    "backslashes": lambda text: text.replace("/", "\\").encode(),
    "further columns": lambda text: text.replace("image,", "age,image,").replace("images/", "44,images/").encode(),
    "empty lines": lambda text: text.replace("\n", "\n\n").encode() + b",,\n",
    "quotes": lambda text: text.replace("images/03.png", '"images/03.png"').encode(),
}


@pytest.mark.parametrize("kind", SPELT)
def test_tables_are_understood_as_spreadsheets_write_them(folder, kind):
    text = (folder / "samples.csv").read_text()
    (folder / "samples.csv").write_bytes(SPELT[kind](text))
    rows, notes = Given(folder).listing
    assert rows == [
        {"image": f"images/{i:02}.png", "mask": f"masks/{i:02}.png", "patient": f"p{i // 2}"} for i in range(20)
    ]
    assert notes == (["columns of samples.csv that are not used: age"] if kind == "further columns" else [])


def test_a_column_of_images_alone_is_a_table_and_composed_letters_find_decomposed_ones(folder):
    name = unicodedata.normalize("NFD", "images/é.png")
    (folder / "images/00.png").rename(folder / name)
    (folder / "samples.csv").write_text(f"image\n{unicodedata.normalize('NFC', name)}\nimages/01.png\n")
    assert [row["image"] for row in Given(folder).listing[0]] == [name, "images/01.png"]


def test_one_person_number_or_class_spelt_in_several_ways_is_one(folder, tmp_path, capsys):
    lines = (folder / "samples.csv").read_text().splitlines()
    spelt = {1: "p0 ", 3: "P1", 4: "p1\u00a0", 5: " p2", 6: "p\u200b2", 7: "7", 8: "007", 9: "7.0", 10: "70"}
    for line, patient in spelt.items():
        lines[line] = lines[line].rpartition(",")[0] + "," + patient
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    assert own("--folder", folder) == 0
    people = [*["p0", "p0", "P1", "P1", "p2", "p2", "7", "7", "7", "70"], *[f"p{i // 2}" for i in range(10, 20)]]
    assert read_manifest("own").patient.tolist() == people, "as the first row spells it"
    error = capsys.readouterr().err
    assert "one person (4): 'p0 ' = 'p0', 'P1' = 'p1" in error and "'7' = '007' = '7.0'" in error
    rows, notes = Given(filled(tmp_path / "c", ["Glioma/1.png", "glioma /2.png", "no_tumor/3.png"])).listing
    assert {row["label"] for row in rows} == {"Glioma", "no_tumor"} and "'Glioma' = 'glioma '" in notes[0]


def save_mask(folder: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(folder / "masks/03.png")


BAD = {
    "no table": (lambda f: (f / "samples.csv").unlink(), "masks/00.png is a mask by its name; write a row an image"),
    "no column": (lambda f: rewrite(f, "patient", "person"), "'person': say --columns patient=person if it is that"),
    "a value too many": (lambda f: rewrite(f, ",p3\n", ",p3,x\n"), "in line 8, saw 4"),
    "many at once": (lambda f: rewrite(f, "image,mask,patient", "image,mask"), "more values than the first"),
    "a value too few": (lambda f: rewrite(f, ",p3\n", "\n"), "line 8: no patient"),
    "open quote": (lambda f: rewrite(f, ",p3\n", ',"p3\n'), "not a table"),
    "no rows": (lambda f: (f / "samples.csv").write_text("image,mask\n"), "no image follows its first line"),
    "empty": (lambda f: (f / "samples.csv").write_text(""), "not a table"),
    "latin-1": (lambda f: (f / "samples.csv").write_bytes("image\nzoé\n".encode("latin-1")), "save it as 'CSV UTF-8'"),
    "other capitals": (lambda f: rewrite(f, "images/04.png", "images/04.PNG"), "images/04.PNG does not exist"),
    "a drive": (lambda f: rewrite(f, "images/05.png", "C:\\x\\05.png"), "should lie in the folder"),
    "no patient": (lambda f: rewrite(f, ",p3\n", ",\n"), "line 8: no patient"),
    "no file": (lambda f: (f / "masks/04.png").unlink(), "line 6:"),
    "twice": (lambda f: rewrite(f, "images/05.png", "images/04.png"), "'images/04.png' stands in the table twice"),
    "outside": (lambda f: rewrite(f, "images/05.png", "../05.png"), "should lie in the folder"),
    "grey mask": (lambda f: save_mask(f, np.arange(4096).reshape(64, 64) % 9), "holds [0, 1, 2, 3, 4]; 0 and 1, or"),
    "shape": (lambda f: save_mask(f, np.zeros((60, 64))), "image (1, 64, 64) and mask masks/03.png (1, 60, 64)"),
    "no image": (lambda f: (f / "images/03.png").write_text("no"), "1 of 20 images are broken (images/03.png: not an"),
    "no mask": (lambda f: (f / "masks/05.png").write_text("no"), "images/05.png: mask masks/05.png: not an image"),
}


BAD |= {
    text: (lambda f, t=text: rewrite(f, ",p3\n", f",{t}\n"), f"line 8: '{text}' is no patient; write it out, remove")
    for text in ("nan", "Unknown", "NONE", "-", "1.23E+12")
}


@pytest.mark.parametrize("fault", BAD)
def test_a_fault_is_named_in_one_line_and_nothing_is_left(folder, root, capsys, fault):
    spoil, message = BAD[fault]
    spoil(folder)
    assert own("--folder", folder) == 1
    error = capsys.readouterr().err
    assert message in error and str(folder) in error and error.count("\n") == 1 and "publisher" not in error
    assert ".own.partial" not in error and not (root / "own").exists()


FAULTS = {
    "no such column": ("image=scan", "its first line has no 'scan', it names file, dx, patient_id"),
    "a column hidden": ("image=file,label=dx", "no 'patient', but 'patient_id': say --columns patient=patient_id"),
    "no image column": ("label=dx", "its first line has no 'image', it names file, dx, patient_id; say which"),
    "not a column of ours": ("image=file,labl=dx", "unknown column 'labl'; did you mean 'label'"),
    "image not used": ("image=,label=dx", "say which column it is: --columns image=NAME"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_columns_are_asked_about_rather_than_guessed(fault, tmp_path, capsys):
    filled(tmp_path, ["a.png"])
    (tmp_path / "t.csv").write_text("file,dx,patient_id\na.png,x,p\n")
    columns, said = FAULTS[fault]
    assert own("--labels", tmp_path / "t.csv", "--columns", columns) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_table_beside_its_images_or_elsewhere_and_a_column_left_aside(tmp_path, capsys):
    filled(tmp_path / "images", [f"{i}.png" for i in range(12)])
    lines = ["File Name;Diagnosis;patient_id"] + [f"{i}.png;{'ab'[i % 2]};p{i % 3}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    options = ("--columns", "image=file name,label=diagnosis,patient=")
    assert own("--labels", tmp_path / "labels.csv", "--folder", tmp_path / "images", *options) == 0
    table = read_manifest("own")
    assert table.label.tolist() == ["a", "b"] * 6 and table.path[3] == "3.png" and table.patient.eq("").all()
    assert "note: columns of labels.csv that are not used: patient_id" in capsys.readouterr().err
    assert catalog.get("own").classes == ("a", "b") and catalog.get("own").mask_channels == ()
    shutil.move(tmp_path / "labels.csv", tmp_path / "images/labels.csv")
    assert own("--labels", tmp_path / "images/labels.csv", *options) == 0, "images lie beside the table"
    assert read_manifest("own").equals(table)


# ---- folders of classes --------------------------------------------------------------------------------


def found(folder: Path) -> set[tuple[str, str]]:
    """Split and label of every image of a folder."""
    return {(row.get("split", ""), row["label"]) for row in Given(folder).listing[0]}


def test_folders_are_split_where_the_reader_split_them(tmp_path, capsys):
    numbers = {"Training": 8, "Valid": 2, "test": 4}
    names = [f"{split}/{label}/{i}.png" for split, n in numbers.items() for label in "ab" for i in range(n)]
    beside = ["Training/beside.png", "Training/a/notes.docx", "Training/a/Thumbs.db", "__MACOSX/a/x.png", "pred/1.png"]
    assert own("--folder", filled(tmp_path / "mine", names + beside)) == 0
    table = read_manifest("own")
    assert table.published_split.value_counts().to_dict() == {"train": 20, "test": 8} and set(table.label) == {"a", "b"}
    assert set(table.published_split.iloc[make_split("own", "published").test]) == {"test"}
    error = capsys.readouterr().err
    assert "3 files are no images in a class and were left out, Training/a/notes.docx, Training/beside.p" in error


def test_a_split_folder_is_no_class_and_a_name_that_only_ends_like_a_mask_an_image(tmp_path):
    names = ["a/gas_mask.png", "a/2.png", "b/2_mask.png", "b/3.png"]
    assert {row["image"] for row in Given(filled(tmp_path / "0", names)).listing[0]} == set(names)
    assert found(filled(tmp_path / "1", ["a/1.png", "b/1.png", "Test/1.png"])) == {("", "a"), ("", "b")}
    assert found(filled(tmp_path / "2", ["train/a/1.png", "test/1.png", "train/train/1.png"])) == {("train", "a")}
    with pytest.raises(DataError, match=r"neither a table samples\.csv nor folders of classes"):
        found(filled(tmp_path / "3", ["train/1.png", "test/1.png"]))


TOO_HIGH = {  # files → what is said, and whether that is an error
    "one level": (["data/yes/1.png", "data/no/2.png"], "all images lie in data, in its folders no, yes; name ", True),
    "two levels": (["a/b/yes/1.png", "a/b/no/2.png"], "all images lie in a/b, in its folders no, yes; name ", True),
    "around splits": (["d/Training/a/1.png", "d/Testing/a/2.png"], "in its folders Testing, Training; name ", True),
    "inside splits": (["train/d/a/1.png", "test/d/b/2.png"], "all images lie in d, in its folders a, b; name ", True),
    "beside its content": (["all/yes/1.png", "all/no/2.png", "yes/1.png", "no/2.png"], "the class all holds a f", True),
    "split below a class": (["a/train/1.png", "b/test/2.png"], "the class a holds a folder train, which is", True),
    "two sites": (
        [f"{s}/{c}/1.png" for s in ("s1", "s2") for c in ("no", "yes")],
        "the folders no, yes, read",
        False,
    ),
    "one class of patients": (["a/1.png", "a/p2/2.png"], "", False),
    "patients": (["a/p1/1.png", "a/p2/2.png", "b/p3/1.png", "b/p4/1.png"], "", False),
}


@pytest.mark.parametrize("case", TOO_HIGH)
def test_a_folder_one_level_too_high_is_not_taken_for_its_classes(case, tmp_path):
    names, said, refused = TOO_HIGH[case]
    given = Given(filled(tmp_path / "mine", names))
    if refused:
        with pytest.raises(DataError, match=re.escape(said)):
            _ = given.listing
    else:
        notes = given.listing[1]
        assert len(notes) == bool(said) and said in "".join(notes)


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
    assert own("--folder", filled(tmp_path / "mine", MASKS[kind])) == 1
    error = capsys.readouterr().err
    assert f"samples.csv: not there, and {MASKS[kind][-1]} is a mask" in error and error.count("\n") == 1


def test_links_to_folders_are_followed_and_circles_end(tmp_path, capsys):
    filled(tmp_path / "far", ["day1/1.png", "day1/deep/2.png", "3.png"])
    folder = filled(tmp_path / "mine", ["a/0.png", "b/0.png"])
    for place, target in (("a/days", tmp_path / "far/day1"), ("a/3.png", tmp_path / "far/3.png"), ("a/self", ".")):
        (folder / place).symlink_to(target)
    for place, target in (("a/all", ".."), ("b/root", "/"), ("a/.lock", "nobody@nowhere")):  # the last as editors do
        (folder / place).symlink_to(target)
    (tmp_path / "far/day1/back").symlink_to(folder)  # a circle through two links
    paths = [row["image"] for row in Given(folder).listing[0]]
    assert paths == ["a/0.png", "a/3.png", "a/days/1.png", "a/days/deep/2.png", "b/0.png"]
    filled(tmp_path / "two", ["a/1.png", "x/b/2.png"])  # two that lead to each other
    (tmp_path / "two/a/b").symlink_to(tmp_path / "two/x/b")
    (tmp_path / "two/x/b/a").symlink_to(tmp_path / "two/a")
    assert files_below(tmp_path / "two/a") == [tmp_path / "two/a/1.png", tmp_path / "two/a/b/2.png"]
    (folder / "b/1.png").symlink_to(tmp_path / "gone.png")
    assert own("--folder", folder) == 1
    assert f"{folder / 'b/1.png'}: a link that leads nowhere; remove it" in capsys.readouterr().err


@pytest.mark.parametrize("order", [1, -1])
def test_an_image_named_alone_and_in_its_series_is_refused(order, tmp_path):
    for i in range(2):
        dicom(tmp_path / f"s0/{i}.dcm")
    lines = ["s0,glioma,p0", "s0/1.dcm,notumor,p99"][::order]
    (tmp_path / "samples.csv").write_text("\n".join(["image,label,patient", *lines]))
    with pytest.raises(
        DataError, match=r"samples\.csv: 's0/1\.dcm' stands in the table twice, perhaps also in a folder"
    ):
        _ = Given(tmp_path).listing
    (tmp_path / "samples.csv").write_text("image,label\na,b\n")
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="the folder a holds no DICOM file"):
        _ = Given(tmp_path).listing


def test_the_sequences_of_one_patient_are_of_one_patient(tmp_path):
    """By their names, where nobody says whose they are; other volumes are each of a patient of their own."""
    for i, name in enumerate(["A_t1", "A_t1ce", "sub-1_T1w", "sub-1_FLAIR", "p/t1", "p/t2", "scan1", "scan2"]):
        volume(tmp_path / f"mine/{'ab'[i // 4]}/{name}.nii.gz", (20, 20, 3), seed=i)
    assert own("--folder", tmp_path / "mine") == 0
    patients = ["a/A", "a/sub-1", "b/p", "b/scan1.nii.gz", "b/scan2.nii.gz"]
    assert sorted(set(read_manifest("own").patient)) == patients


@pytest.mark.parametrize("text", ["nan", "N/A", "-", "#N/A", "NA"])
def test_what_stands_in_place_of_a_label_is_no_class(text, tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "samples.csv").write_text(f"image,label\na.png,none\na.png,{text}\n")
    with pytest.raises(DataError, match=f"line 3: '{text}' is no label; .* --columns label="):
        Given(tmp_path).listing  # noqa: B018

"""A reader's own labels: folders of classes and tables, from the door to a figure."""

import shutil

import numpy as np
import pytest
from own_classes import ODD, classes, own, run_the_chapter, save_image
from own_images import blob
from PIL import Image

from datasets import catalog, download
from datasets.splitting import make_split
from datasets.store.images import read_masks, with_masks
from datasets.store.index import read_manifest, read_splits
from utils.run import Run
from utils.training.data import load_data

pytestmark = pytest.mark.usefixtures("data")


def test_44_classes_of_odd_names_pass_from_a_folder_to_a_figure(tmp_path, capsys):
    assert own("--folder", classes(tmp_path / "mine", ODD)) == 0
    assert catalog.get("own").classes == tuple(sorted(ODD)) and catalog.get("own").mask_channels == ()
    assert "own" not in with_masks()
    table = read_manifest("own")
    assert len(table) == 352 and table.label.value_counts().eq(8).all() and table.patient.eq("").all()
    said = capsys.readouterr().out
    assert "352 images, whose patients nobody names, in" in said and "; 44 classes; " in said
    assert download.main(["own", "--check"]) == 0
    result = run_the_chapter()
    assert 0 <= result["metrics"]["accuracy"]["value"] <= 1 and len(result["per_class"]) == 44


def test_folders_are_split_where_the_reader_split_them(tmp_path):
    for split, number in (("Training", 8), ("Validation", 2), ("test", 4)):
        for k, name in enumerate(("a", "b")):
            for i in range(number):
                save_image(tmp_path / "mine" / split / name / f"{i}.png", 100 * k + 10 * len(split) + i)
    assert own("--folder", tmp_path / "mine") == 0
    table = read_manifest("own")
    assert table.groupby(["published_split", "label"]).size().to_dict() == {
        ("test", "a"): 4,
        ("test", "b"): 4,
        ("train", "a"): 10,
        ("train", "b"): 10,
    }
    assert set(table.published_split.iloc[make_split("own", "published").test]) == {"test"}
    run_the_chapter("published")


def test_copies_across_classes_stay_together_and_are_marked(tmp_path, capsys):
    folder = classes(tmp_path / "mine", ["a", "b"], each=10)
    shutil.copy(folder / "a/1.png", folder / "b/again.png")
    flipped = np.asarray(Image.open(folder / "a/3.png"))[:, ::-1]
    Image.fromarray(flipped).save(folder / "a/flipped.png")
    assert own("--folder", folder) == 0
    groups = read_splits("own", read_manifest("own")).set_index("path")
    assert groups.group["a/1.png"] == groups.group["b/again.png"]
    assert groups.group["a/3.png"] == groups.group["a/flipped.png"]
    assert groups.label_conflict[["a/1.png", "b/again.png"]].eq("1").all()
    assert groups.label_conflict["a/3.png"] == "0"
    assert "2 images have a copy with another label" in capsys.readouterr().out


def test_classes_spelt_alike_are_one_and_what_is_no_image_is_listed(tmp_path, capsys):
    folder = classes(tmp_path / "mine", ["Glioma", "glioma ", "no_tumor"], each=6)
    for extra in ("Glioma/notes.docx", "beside.png", "Glioma/.hidden.png", "Glioma/Thumbs.db", "__MACOSX/a/x.png"):
        (folder / extra).parent.mkdir(parents=True, exist_ok=True)
        (folder / extra).write_bytes(b"x")
    assert own("--folder", folder) == 0
    assert catalog.get("own").classes == ("Glioma", "no_tumor") and len(read_manifest("own")) == 18
    error = capsys.readouterr().err
    assert "'Glioma' = 'glioma '" in error
    assert "2 files are no images in a class and were left out, beside.png, Glioma/notes.docx first" in error
    assert "'no_tumor' is a class like any other here; other sets call images without a tumour 'notumor'" in error


# ---- tables --------------------------------------------------------------------------------------------


def test_a_table_with_labels_alone_beside_its_images_or_elsewhere(tmp_path):
    lines = ["File Name;Diagnosis;Age"]
    for i in range(24):
        save_image(tmp_path / f"images/{i}.jpg", i)
        lines.append(f"{i}.jpg;{'ab'[i % 2]};{40 + i}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    given = ("--labels", tmp_path / "labels.csv", "--columns", "image=file name,label=diagnosis")
    assert own(*given, "--folder", tmp_path / "images") == 0
    table = read_manifest("own")
    assert table.label.tolist() == ["a", "b"] * 12 and table.path[3] == "3.jpg"
    run_the_chapter()
    before = read_manifest("own").sha256.tolist()
    shutil.move(tmp_path / "labels.csv", tmp_path / "images/labels.csv")
    assert own("--labels", tmp_path / "images/labels.csv", *given[2:]) == 0, "images lie beside the table"
    assert read_manifest("own").sha256.tolist() == before


def test_a_table_with_labels_masks_and_patients_serves_both_chapters(tmp_path):
    lines = ["image,mask,patient,label"]
    for i in range(24):
        save_image(tmp_path / f"mine/{i}.png", i)
        Image.fromarray(blob(30, 30) * (i % 3 > 0)).save(tmp_path / f"mine/{i}m.png")
        lines.append(f"{i}.png,{i}m.png,p{i // 2},{'ab'[i // 2 % 2]}")
    (tmp_path / "mine/samples.csv").write_text("\n".join(lines))
    assert own("--folder", tmp_path / "mine") == 0
    assert catalog.get("own").classes == ("a", "b") and "own" in with_masks()
    run_the_chapter()
    size = {"image_size": 32, "n_filters": 4}
    segmented = load_data(Run(dataset="own", split="patient", model="AttentionUNet", recipe="ours", quick=True, **size))
    assert segmented.test.batch([0])["mask"].shape == (1, 1, 32, 32)
    assert read_masks("own", np.arange(24)).any(axis=(1, 2, 3)).sum() == 16


FAULTS = {
    "no such column": ("image=scan", "its first line has no 'scan', it names file, dx, patient_id"),
    "a column hidden": ("image=file,label=dx", "no 'patient', but 'patient_id': say --columns patient=patient_id"),
    "no image column": ("label=dx", "its first line has no 'image', it names file, dx, patient_id; say which"),
    "not a column of ours": ("image=file,labl=dx", "unknown column 'labl'; did you mean 'label'"),
    "image not used": ("image=,label=dx", "the column image is needed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_columns_are_asked_about_rather_than_guessed(fault, tmp_path, capsys):
    save_image(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text("file,dx,patient_id\na.png,x,p\n")
    columns, said = FAULTS[fault]
    assert own("--labels", tmp_path / "t.csv", "--columns", columns) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_column_that_is_not_wanted_is_left_aside(tmp_path, capsys):
    lines = ["file,dx,patient_id"] + [f"{i}.png,{'ab'[i % 2]},p{i % 3}" for i in range(12)]
    for i in range(12):
        save_image(tmp_path / f"{i}.png", i)
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert own("--labels", tmp_path / "t.csv", "--columns", "image=file,label=dx,patient=") == 0
    assert read_manifest("own").patient.eq("").all()
    assert "note: columns of t.csv that are not used: patient_id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sartaj", "--labels", "x.csv"], "--labels is for 'own' alone"),
        (["sartaj", "--columns", "image=a"], "--columns is for 'own' alone"),
        (["own", "--labels", "x.csv", "--columns", "image"], "takes image=NAME,label=NAME and the like"),
        (["own", "--columns", "image=a"], "--columns goes with --labels FILE or --folder DIR"),
    ],
)
def test_wrong_words_for_tables_are_usage_errors(words, message, capsys):
    with pytest.raises(SystemExit):
        download.main(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["nowhere", "empty", "no table"])
def test_nothing_to_read_is_said_in_one_line(kind, tmp_path, capsys):
    (tmp_path / "empty/class").mkdir(parents=True)
    given = {"nowhere": ("--folder", tmp_path / "x"), "empty": ("--folder", tmp_path / "empty")}
    assert own(*given.get(kind, ("--labels", tmp_path / "x.csv"))) == 1
    error = capsys.readouterr().err
    said = {"nowhere": "no such folder", "empty": "neither a table samples.csv nor folders of classes with images"}
    assert said.get(kind, "x.csv: not there") in error and error.count("\n") == 1


# ---- volumes -------------------------------------------------------------------------------------------

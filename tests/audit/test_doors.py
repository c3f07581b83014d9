"""Each way to a model answers in the classes of the data set, or refuses in one line."""

import sys

import numpy as np
import pandas as pd
import pytest
from saved_model import save_model

from datasets.catalog import CLASSES, DataError
from utils.audit.doors import Function, Kept, Onnx, Saved, Table
from utils.audit.images import Images
from utils.export import export
from utils.predict.model import SavedModel


def opened(path, known, size=None) -> Onnx:
    return Onnx(path, known, size, None, None)


SHAPES = [("N", 3, 64, 64), (1, 1, 64, 64), (16, 64, 64, 3), ("N", 64, 64, 1), ("N", 3, "H", "W"), (1, 3, "H", "W")]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_onnx_file_is_asked_as_its_shape_says(shape, build, known):
    door = opened(build(shape), known, 64 if "H" in shape else None)
    probs = door.ask(known.shown)
    assert (probs.argmax(1) == known.truth).mean() > 0.9 and probs.sum(1) == pytest.approx(1)
    assert door.logits and door.scale == "unit" and "chosen on known images" in door.notes[0]
    assert "% of 40 known training images are right in the order of classes assumed here." in door.notes[1]


def test_classes_in_another_order_are_caught_and_named(build, known):
    straight, order = opened(build(), known).ask(known.shown), [2, 0, 3, 1]
    for named in (None, CLASSES):  # nowhere, or wrongly in the file
        door = opened(build(order=order, classes=named), known)
        assert door.notes[1].startswith("THE CLASSES ARE IN ANOTHER ORDER")
        assert "as notumor, glioma, pituitary, meningioma, which is used" in door.notes[1]
        assert door.ask(known.shown) == pytest.approx(straight, abs=1e-5)
    rightly = opened(build(order=order, classes=["no_tumor", "Glioma", "pituitary", "meningioma_tumor"]), known)
    assert "in the order of classes that is named." in rightly.notes[1]
    assert rightly.ask(known.shown) == pytest.approx(straight, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "small"}, r"gives \(40, 1, 16, 16\) for 40 image\(s\), not a value for each of 4"),
        ({"order": (0, 1, 2)}, r"gives \(40, 3\) for 40 image\(s\), not a value for each of 4 classes"),
        ({"bias": np.nan}, "gives NaN or infinite values; mend the model"),
        ({"shape": ("N", 5, 64, 64)}, "not images of 1 or 3 channels: another task's model"),
        ({"shape": ("N", 3, "H", "W")}, "say the side of square ones by --size"),
        ({"classes": ["cat", "dog", "cow", "hen"]}, ": unknown class 'cat'"),
        ({"classes": ["yes", "no"]}, "its classes are yes, no, not glioma"),
    ],
)
def test_an_onnx_file_of_another_kind_is_refused_in_one_line(changes, message, build, known):
    with pytest.raises(DataError, match=rf"linear\.onnx.*{message}"):
        opened(build(**changes), known)


def test_a_saved_model_and_its_export_give_the_same_answers(here, known, tmp_path):
    model = SavedModel(save_model("phantom"))
    saved, exported = Saved(model, CLASSES, False), opened(export(model, tmp_path / "model.onnx"), known)
    probs = saved.ask(known.shown)
    assert exported.ask(known.shown) == pytest.approx(probs, abs=1e-3)
    assert (saved.decide(probs) == probs.argmax(1)).all()


chances = lambda t: t.drop(columns="class").join(pd.get_dummies(t["class"], prefix="p", dtype=float))  # noqa: E731
GOOD = {
    "path": lambda t: t[["path", "class"]],
    "sha256": lambda t: t[["sha256", "class"]].drop_duplicates("sha256"),
    "file": lambda t: t.assign(file=t.path.str.split("/").str[-1])[["file", "class"]],
    "probabilities": lambda t: chances(t[["path", "class"]]).rename(columns={"p_notumor": "no_tumor"}),
}
REFUSED = {
    "doubled": (lambda t: pd.concat([t, t.head(1)]), "stands there twice; leave one row an image"),
    "missing": (lambda t: t.iloc[2:], r"2 of \d+ test images are missing, test/glioma/.* first; add them"),
    "unknown": (lambda t: t.replace(t.path.iloc[3], "x.png"), "1 rows, x.png first, name no image of phantom"),
    "NaN": (lambda t: chances(t).replace({"p_glioma": {1.0: np.nan}}), "holds NaN or no number; predict it again"),
    "percent": (lambda t: chances(t).replace({"p_glioma": {1.0: 100}}), "values from 0 to 100, not probabilities"),
    "no class": (lambda t: t[["path"]], "has no column 'class', nor one for each of glioma"),
    "no image": (lambda t: t[["class"]], "no column names the images; add one of sha256, path, file"),
    "another class": (lambda t: t.replace("glioma", "gliom"), "'gliom'; did you mean 'glioma'"),
}


def table(path, change):
    images = Images("phantom")
    test = images.manifest.query("published_split == 'test'").rename(columns={"label": "class"})
    change(test[["path", "class", "sha256"]]).to_csv(path / "answers.csv", index=False)
    return Table(path / "answers.csv", CLASSES, [images], test.index.to_numpy()), images, test


@pytest.mark.parametrize("name", GOOD)
def test_a_table_names_images_by_path_digest_or_file(name, here, tmp_path):
    door, images, test = table(tmp_path, GOOD[name])
    found = np.array(CLASSES)[door.ask([images.show(row) for row in test.index]).argmax(1)]
    assert (found == test["class"]).mean() > 0.95, "but copies under two labels"
    assert door.probabilities == (name == "probabilities") and not door.changes


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_judged_is_refused_in_one_line(change, message, here, tmp_path):
    with pytest.raises(DataError, match=rf"answers\.csv.*{message}"):
        table(tmp_path, lambda t: change(t.drop(columns="sha256")))


def test_a_function_that_raises_on_one_image_is_asked_about_the_others(here, known):
    door, images = Function("cheats:raises", known, None, 60, sys.executable), Images("phantom")
    rows = np.flatnonzero(images.manifest.published_split == "test")
    probs = door.ask([images.show(row) for row in rows[:4]])
    assert np.isnan(probs[0]).all() and probs[1:].argmax(1).tolist() == [0, 0, 0]
    assert door.about["package"].startswith("onnx 1.") and "licence: Apache-2.0" in door.notes[0]
    assert [*door.skipped.values()] == ["ValueError: no <b>brain</b>"]


FAILING = {
    "never": r"fails on each of its first 2 images \(no answer within 3 seconds\)",
    "three": r"\(gives 3 values, not one for each of 4 classes\)",
    "nan": r"\(gives NaN or infinite values",
    "nothing": "cannot be imported .*has no attribute 'nothing'.*see --python and --seconds",
}


@pytest.mark.parametrize(("name", "message"), FAILING.items())
def test_a_function_that_gives_no_answers_is_ended_and_refused_in_one_line(name, message, here, known, monkeypatch):
    monkeypatch.setattr("utils.audit.doors.FAILURES", 2)
    with pytest.raises(DataError, match=message):
        Function(f"cheats:{name}", known, None, 3 if name == "never" else 60, sys.executable)


def test_no_image_is_asked_about_twice_even_after_a_kill_but_one_whose_answer_is_damaged(
    build, known, tmp_path, monkeypatch
):
    door, asked = opened(build(), known), []
    first = Kept(door, tmp_path).ask(known.shown[:10])
    path = Kept(door, tmp_path).path
    content = bytearray(path.read_bytes()[:-30])  # the last line is not whole
    content[content.index(b",") + 5] ^= 1  # another digit in the first
    path.write_bytes(content)
    monkeypatch.setattr(door, "ask", lambda shown: asked.extend(shown) or Onnx.ask(door, shown))
    assert Kept(door, tmp_path).ask(known.shown[:10]) == pytest.approx(first)
    assert [one.digest for one in asked] == [known.shown[0].digest, known.shown[9].digest]

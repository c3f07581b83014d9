"""Each way to a model answers in the classes of the data set, or refuses in one line."""

import numpy as np
import pandas as pd
import pytest
from saved_model import save_model

from datasets.catalog import CLASSES, DataError
from utils.audit.doors import Function, Kept, Onnx, Saved, Table
from utils.audit.images import Images
from utils.export import export
from utils.predict.model import SavedModel


def onnx_door(path, known, size=None, scale=None, names=None, logits=False):
    return Onnx(path, known, size, scale, names, logits)


SHAPES = {
    "any number": ("N", 3, 64, 64),
    "grey": ("N", 1, 64, 64),
    "channels last": ("N", 64, 64, 3),
    "one at a time": (1, 3, 64, 64),
    "eight at a time": (8, 64, 64, 1),
    "any size": ("N", 3, "H", "W"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_onnx_file_is_asked_as_its_shape_says(name, build, known, regression):
    door = onnx_door(build(SHAPES[name]), known, size=64 if "size" in name else None)
    probs = door.ask(known.shown)
    assert (probs.argmax(1) == known.truth).mean() > 0.9 and probs.sum(1) == pytest.approx(1)
    assert door.logits and door.scale == "unit" and "chosen on known images" in door.notes[0]
    assert "% of 40 known training images are right in the order of classes assumed here." in door.notes[1]


def test_classes_in_another_order_are_caught_and_named(build, known):
    straight = onnx_door(build(), known).ask(known.shown)
    order = [2, 0, 3, 1]
    for named in (None, list(CLASSES)):  # nowhere, or wrongly in the file
        door = onnx_door(build(order=order, classes=named), known)
        assert door.notes[1].startswith("THE CLASSES ARE IN ANOTHER ORDER")
        assert "as notumor, glioma, pituitary, meningioma, which is used" in door.notes[1]
        assert door.ask(known.shown) == pytest.approx(straight, abs=1e-5)
    rightly = onnx_door(build(order=order, classes=["no_tumor", "Glioma", "pituitary", "meningioma_tumor"]), known)
    assert "in the order of classes that is named." in rightly.notes[1]
    assert rightly.ask(known.shown) == pytest.approx(straight, abs=1e-5)


BAD = {
    "another task": ({"output": "small"}, r"gives \(40, 1, 16, 16\) for 40 image\(s\), not a value for each of 4"),
    "three classes": ({"order": (0, 1, 2)}, r"gives \(40, 3\) for 40 image\(s\), not a value for each of 4 classes"),
    "NaN": ({"bias": np.nan}, "gives NaN or infinite values; mend the model"),
    "five channels": ({"shape": ("N", 5, 64, 64)}, "not images of 1 or 3 channels: another task's model"),
    "no size": ({"shape": ("N", 3, "H", "W")}, "say the side of square ones by --size"),
    "other classes": ({"classes": ["cat", "dog", "bird", "fish"]}, "unknown class in .* 'cat'"),
    "few names": ({"classes": ["yes", "no"]}, "its classes are yes, no, not glioma"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_onnx_file_of_another_kind_is_refused_in_one_line(name, build, known):
    changes, message = BAD[name]
    with pytest.raises(DataError, match=message) as raised:
        onnx_door(build(**changes), known)
    assert "linear.onnx" in str(raised.value)


def test_a_file_that_is_no_onnx_is_refused(known, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(DataError, match=r"text\.onnx: not a readable ONNX model"):
        onnx_door(tmp_path / "text.onnx", known)


def test_a_saved_model_and_its_export_give_the_same_answers(here, known, tmp_path):
    model = SavedModel(save_model("phantom"))
    saved = Saved(model, CLASSES, files=False)
    exported = onnx_door(export(model, tmp_path / "model.onnx"), known)
    probs = saved.ask(known.shown)
    assert exported.ask(known.shown)[:, np.argsort(exported.order)] == pytest.approx(probs, abs=1e-3)
    assert (saved.decide(probs) == probs.argmax(1)).all()
    with pytest.raises(DataError, match=r"its classes are NCR, ED, ET, not glioma"):
        Saved(SavedModel(save_model("phantom", "AttentionUNet")), CLASSES, files=False)


# ---- tables --------------------------------------------------------------------------------------------


@pytest.fixture
def table(here, tmp_path):
    """Opens a table of right predictions of the test set, after some change of its rows."""
    images = Images("phantom")
    rows = np.flatnonzero(images.manifest.published_split == "test")
    tested = images.manifest.iloc[rows]
    right = pd.DataFrame({"path": tested.path, "class": tested.label})

    def read(change=lambda table: table):
        change(right.copy()).to_csv(tmp_path / "answers.csv", index=False)
        return Table(tmp_path / "answers.csv", CLASSES, [images], rows), [images.show(row) for row in rows]

    return read


@pytest.mark.parametrize("column", ["path", "sha256", "file"])
def test_a_table_names_images_by_path_digest_or_file(column, table):
    names = {"sha256": Images("phantom").manifest.set_index("path").sha256}

    def change(rows):
        by = {"path": rows.path, "sha256": rows.path.map(names["sha256"]), "file": rows.path.str.split("/").str[-1]}
        return rows.assign(**{column: by[column]})[[column, "class"]].drop_duplicates(column)

    door, shown = table(change)
    found = [CLASSES[k] for k in door.ask(shown).argmax(1)]
    assert np.mean([one.key[1].split("/")[1] == label for one, label in zip(shown, found, strict=True)]) > 0.95
    assert not door.probabilities and not door.changes


def chances(rows):
    return pd.concat([rows.path, pd.get_dummies(rows["class"], prefix="p", dtype=float)], axis=1)


def test_a_table_of_probabilities_may_name_its_columns_otherwise(table):
    door, shown = table(lambda rows: chances(rows).rename(columns={"p_notumor": "no_tumor", "p_glioma": "Glioma"}))
    assert door.probabilities and door.ask(shown).sum(1) == pytest.approx(1)


REFUSED = {
    "doubled": (lambda t: pd.concat([t, t.head(1)]), "p0.*png stands there twice; leave one row an image"),
    "missing": (lambda t: t.iloc[2:], r"2 of \d+ test images are missing, test/glioma/.* first; add them"),
    "unknown": (
        lambda t: pd.concat([t, t.tail(1).assign(path="x.png")]),
        "1 rows, x.png first, name no image of phantom",
    ),
    "NaN": (lambda t: chances(t).replace({"p_glioma": {1.0: np.nan}}), "holds NaN or no number; predict it again"),
    "percent": (
        lambda t: chances(t).replace({"p_glioma": {1.0: 100}}),
        "gives values from 0 to 100, not probabilities",
    ),
    "no class": (lambda t: t[["path"]], "has no column 'class', nor one for each of glioma"),
    "no image": (lambda t: t[["class"]], "no column names the images; add one of sha256, path, file"),
    "another class": (lambda t: t.replace("glioma", "gliom"), "unknown class in .*'gliom'; did you mean 'glioma'"),
    "three classes": (
        lambda t: chances(t).drop(columns="p_glioma"),
        "its classes are meningioma, notumor, pituitary, not",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_judged_is_refused_in_one_line(name, table):
    change, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as raised:
        table(change)
    assert "answers.csv" in str(raised.value)


# ---- functions -----------------------------------------------------------------------------------------


def function(name, known, python=None, seconds=60.0):
    import sys

    return Function(f"cheats:{name}", known, None, seconds, python or sys.executable)


def test_a_function_that_raises_on_one_image_is_asked_about_the_others(known):
    door, images = function("raises", known), Images("phantom")
    rows = np.flatnonzero(images.manifest.published_split == "test")
    probs = door.ask([images.show(row) for row in rows[:4]])
    door.close()
    assert np.isnan(probs[0]).all() and probs[1:].argmax(1).tolist() == [0, 0, 0]
    assert [*door.skipped.values()] == ["ValueError: no <b>brain</b>"]


def test_a_function_that_never_returns_is_ended(known, monkeypatch):
    monkeypatch.setattr("utils.audit.doors.FAILURES", 2)
    with pytest.raises(DataError, match=r"fails on each of its first 2 images \(no answer within 3 seconds\)"):
        function("never", known, seconds=3)


@pytest.mark.parametrize(
    ("name", "python", "message"),
    [
        ("three", None, r"\(gives 3 values, not one for each of 4 classes\)"),
        ("nan", None, r"\(gives NaN or infinite values"),
        ("nothing", None, "cannot be imported .*has no attribute 'nothing'.*see --python and --seconds"),
        ("nothing", "no-such-python", "no-such-python: cannot be started"),
    ],
)
def test_a_function_that_cannot_be_asked_is_refused_in_one_line(name, python, message, known):
    with pytest.raises(DataError, match=message):
        function(name, known, python)


def test_no_image_is_asked_about_twice_even_after_a_kill(build, known, tmp_path, monkeypatch):
    door = onnx_door(build(), known)
    first = Kept(door, tmp_path).ask(known.shown[:10])
    path = Kept(door, tmp_path).path
    path.write_text(path.read_text()[:-30])  # the last line is not whole
    asked = []
    monkeypatch.setattr(door, "ask", lambda shown: asked.extend(shown) or Onnx.ask(door, shown))
    assert Kept(door, tmp_path).ask(known.shown[:10]) == pytest.approx(first)
    assert [one.digest for one in asked] == [known.shown[9].digest]

"""Evidence is read once as a frame; what is damaged, orphaned or of other folds is left out and named."""

import gzip
import json
import shutil
import warnings

import pandas as pd
import pytest

from datasets.catalog import REPO, DataError
from datasets.store import index
from utils.report import readme
from utils.report.records import load_evidence, read_predictions, write_record
from utils.report.tables import all_runs

RUN = "sartaj.cleaned.CustomCNN.s2-64px.seed0"
OTHER = "sartaj.cleaned.1-NN.none.seed0"


@pytest.fixture
def saved(tmp_path):
    """A repository's `saved_metrics` with two committed runs and the findings of one set; returns the first run's
    folder."""
    root = tmp_path / "saved_metrics"
    for run in (RUN, OTHER):
        place = f"classification/sartaj/{run}"
        shutil.copytree(REPO / "saved_metrics" / place, root / place)
    (root / "curation").mkdir()
    shutil.copy(REPO / "saved_metrics/curation/sartaj.json", root / "curation")
    return root / "classification/sartaj" / RUN


def change(path, **values):
    """Other values in a record whose seal is that of these."""
    record = json.loads(path.read_text()) | values
    write_record(path, {name: value for name, value in record.items() if value != "gone"})


def change_accuracy(path, **values):
    metrics = json.loads(path.read_text())["metrics"]
    change(path, metrics=metrics | {"accuracy": metrics["accuracy"] | values})


def one_digit(path):
    """Another last digit of the last number of a text."""
    text, place = path.read_text(), max(path.read_text().rfind(digit) for digit in "0123456789")
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


DAMAGE = {
    "brackets": ("metrics.json", lambda path: path.write_text("[" * 50_000)),
    "no metrics": ("metrics.json", lambda path: change(path, metrics="gone")),
    "another type": ("metrics.json", lambda path: change(path, images="861")),
    "no folds": ("metrics.json", lambda path: change(path, data={})),
    "another run": ("metrics.json", lambda path: change(path, id=OTHER)),
    "an unknown model": (
        "metrics.json",
        lambda path: change(path, run=json.loads(path.read_text())["run"] | {"model": "Cust0mCNN"}),
    ),
    "text for a number": ("metrics.json", lambda path: change_accuracy(path, value="0.5")),
    "a value outside its interval": ("metrics.json", lambda path: change_accuracy(path, value=0.01)),
    "one wrong digit": ("metrics.json", one_digit),
    "a metric of its task is missing": ("metrics.json", lambda path: change(path, metrics={})),
    "NaN": ("metrics.json", lambda path: change_accuracy(path, low=float("nan"))),
    "endless": ("metrics.json", lambda path: change(path, training={"epochs": 3, "seconds": float("inf")})),
    "one wrong digit of a history": ("history.csv", one_digit),
    "half the predictions": ("predictions.csv.gz", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "no predictions": ("predictions.csv.gz", lambda path: path.unlink()),
}


def texts_with_tables(root):
    for folder in ("docs", "saved_models"):
        (root / folder).mkdir(exist_ok=True)
    for name, table in zip(readme.FILLED, ("projects", "audits", "models"), strict=True):
        (root / name).write_text(f"<!-- table {table} -->\n<!-- /table -->\n")


@pytest.mark.parametrize("what", DAMAGE)
def test_a_run_with_a_damaged_file_is_left_out_and_the_file_is_named(saved, what):
    name, damage = DAMAGE[what]
    damage(saved / name)
    root = saved.parents[2]
    with pytest.warns(UserWarning, match=rf"left out: .*{RUN}/{name}: ") as warned:
        found = load_evidence(root)
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    assert found.runs.index.tolist() == [OTHER]
    texts_with_tables(root.parent)
    before = sorted(path for path in root.parent.rglob("*"))
    with pytest.warns(UserWarning), pytest.raises(DataError, match=rf"{name}: .*"):
        readme.main([], root.parent)
    assert sorted(root.parent.rglob("*")) == before, "nothing is written"


def test_nothing_is_written_where_the_last_of_what_is_made_fails_or_help_is_asked_for(saved, monkeypatch, capsys):
    """Records that jobs left elsewhere are named."""

    def fails(rows):
        raise ValueError("a negative error bar")

    root = saved.parents[3]
    texts_with_tables(root)
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(REPO))
    monkeypatch.setattr(readme.figures, "leakage", fails)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="a negative error bar"):
        readme.main([], root)
    assert f"note: the records in {REPO}/saved_metrics are not read; copy" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        readme.main(["--help"], root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_files_without_their_record_are_named(saved):
    (saved / "metrics.json").unlink()
    with pytest.warns(UserWarning, match=rf"left out: .*{RUN}: has no metrics.json; ") as warned:
        assert load_evidence(saved.parents[2]).runs.index.tolist() == [OTHER]
    assert len(warned) == 1 and not load_evidence(REPO / "saved_metrics").damaged


def test_whole_evidence_is_all_there(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_evidence(saved.parents[2])
    assert load_evidence(saved.parents[2]) is found, "read once"
    runs = found.runs
    assert set(runs.id) == {RUN, OTHER} and len(found.curation) == 1 and not found.damaged
    record = json.loads((saved / "metrics.json").read_text())
    assert found.record(RUN) == record and found.path(RUN) == saved
    run, accuracy = runs.loc[RUN], record["metrics"]["accuracy"]
    assert [run.accuracy, run.accuracy_low, run.accuracy_high] == list(accuracy.values())
    assert (run.tested, run.epochs, run.baseline) == ("cleaned", record["training"]["epochs"], False)
    assert run["unseen.accuracy"] == record["unseen"]["accuracy"]["value"] and runs.loc[OTHER].baseline
    assert len(found.history(RUN)) == run.epochs and len(found.predictions(RUN)) == run.images
    assert found.validation(RUN).columns[0] == "path" and found.validation(OTHER) is None


@pytest.mark.parametrize(("damage", "said"), [
    (lambda path: path.write_text("{"), "not readable as JSON"), (one_digit, "not as it was written"),
])  # fmt: skip
def test_a_damaged_file_of_curation_is_left_out(saved, damage, said):
    damage(saved.parents[2] / "curation/sartaj.json")
    with pytest.warns(UserWarning, match=rf"left out: .*curation/sartaj\.json: {said}"):
        assert load_evidence(saved.parents[2]).curation == []


def test_a_pooled_run_is_left_out_with_one_of_its_folds(tmp_path):
    for fold in (REPO / "saved_metrics/classification/cheng").glob("cheng.patient*.majority.none.seed0"):
        shutil.copytree(fold, tmp_path / "classification/cheng" / fold.name)
    whole = load_evidence(tmp_path)
    pooled = whole.runs[whole.runs.pooled.notna()].index.item()
    assert len(whole.runs) == 6 and whole.runs.is_pooled.sum() == 5
    tested = whole.predictions(pooled)
    assert tested.path.is_unique and tested.fold.unique().tolist() == [0, 1, 2, 3, 4]
    path = tmp_path / "classification/cheng/cheng.patient-f2.majority.none.seed0/predictions.csv.gz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="patient-f2"):
        assert load_evidence(tmp_path).runs.fold.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(("split", "left"), [("cleaned", 1), ("published", 2)])
def test_a_run_on_other_folds_is_left_out_and_named(saved, split, left):
    """Of protocols that depend on the committed groups; it is not damaged, so tables are made without it."""
    path = saved / "metrics.json"
    record = json.loads(path.read_text())
    place = saved.with_name(RUN.replace("cleaned", split))
    saved.rename(place)
    change(place / "metrics.json", id=place.name, run=record["run"] | {"split": split}, data={"folds": "0" * 12})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = load_evidence(saved.parents[2])
    assert len(found.runs) == left and not found.damaged and len(warned) == 2 - left
    assert all(f"{place.name}/metrics.json: was split by other folds" in str(one.message) for one in warned)


def test_the_digest_of_folds_knows_groups_and_folds_and_nothing_else(monkeypatch, tmp_path):
    table = pd.DataFrame({"path": ["a", "b"], "group": ["1", "2"], "fold": ["0", "1"], "label": ["x", "y"]})
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    changes = {"one": {}, "two": {"label": "z"}, "three": {"fold": "0"}, "four": {"group": "1"}}
    for name, columns in changes.items():
        table.assign(**columns).sample(frac=1).to_csv(tmp_path / f"{name}.csv", index=False)
    one, two, three, four = map(index.folds_digest, changes)
    assert one == two and len({one, three, four}) == 3 and index.folds_digest("five") == ""


def test_another_folder_adds_to_what_is_committed_and_its_runs_count_first(saved, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(saved.parents[3]))
    change(saved / "metrics.json", images=1)
    found = load_evidence()
    assert found.runs.images[RUN] == 1 and found.path(RUN) == saved
    committed = load_evidence(REPO / "saved_metrics")
    assert set(found.runs.index) == set(committed.runs.index) and committed.runs.images[RUN] == 92


def test_without_a_run_the_frames_have_their_columns(tmp_path):
    empty = load_evidence(tmp_path)
    assert all_runs(empty).columns.tolist() == pd.read_csv(REPO / "saved_metrics/runs.csv", nrows=1).columns.tolist()


def test_a_class_may_be_called_none(tmp_path):
    text = "path,label,group,predicted\na,None,1,NA\nb,NA,2,\n"
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(text.encode()))
    read = read_predictions(tmp_path / "p.csv.gz")
    assert read.label.tolist() == ["None", "NA"] and read.predicted[0] == "NA" and pd.isna(read.predicted[1])

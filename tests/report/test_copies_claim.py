"""The sentence and the table on copies in two folds follow from the committed list and the predictions."""

import pandas as pd
import pytest

from datasets.catalog import REPO
from datasets.store.index import SPLITS
from utils.report import claims
from utils.report.records import load_evidence
from utils.report.tables import copies
from utils.run import Run

NAME = "brain-tumor-mri"
PATIENT = {"dataset": NAME, "split": "patient", "fold": None}
TABLE = pd.read_csv(SPLITS / f"{NAME}.csv", dtype=str)[["path", "label", "group"]]
PAIRS = pd.read_csv(SPLITS / f"copies/{NAME}.csv")
COPIED = TABLE.path.isin([*PAIRS.path, *PAIRS.copy_path])


@pytest.fixture
def put_copied(put):
    """Writes a run that answers all tumours rightly, and of the images without one only those that have a copy; or
    all of them, where it is `perfect`."""

    def write(perfect=False, **of):
        data = {"data": {"folds": of.pop("folds")}} if "folds" in of else {}
        right = TABLE.label.ne("notumor") | COPIED | perfect
        table = TABLE.assign(predicted=TABLE.label.where(right, "glioma"))
        shares = (right.mean(), right[TABLE.label.eq("notumor")].mean())
        accuracy, recall = ({"value": share, "low": None, "high": None} for share in shares)
        per_class = {"notumor": {"recall": recall}}
        return put(Run(**PATIENT | of), table, metrics={"accuracy": accuracy}, per_class=per_class, **data)

    return write


def test_what_copies_gave_is_taken_away(put_copied):
    put_copied(model="AlexNet", recipe="s2", perfect=True)
    said = claims.copies_across_folds(put_copied(model="1-NN", recipe="none"))
    assert said.startswith("Of 7,023 images of `brain-tumor-mri` at least 182, all without a tumour, have a copy")
    assert "; 4 of them lie in fold 0" in said
    before, after = (f"{100 * share:.1f}" for share in ((7023 - 2000 + 182) / 7023, (7023 - 2000) / (7023 - 182)))
    assert f"- 1-NN: accuracy {before} % becomes {after} (" in said
    assert "recall of `notumor` 9.1 % becomes 0.0 (0.0–1.2)" in said
    fall = 100 * ((7023 - 2000) / (7023 - 182) - (7023 - 2000 + 182) / 7023)
    assert f"Among all 2 results over five folds, accuracy changes by {fall:+.1f} points and" in said
    grouped = TABLE.group.isin(TABLE.group[COPIED])
    kept = TABLE.label[~grouped].ne("notumor").mean()
    assert f"without all {grouped.sum()} images of the groups" in said
    assert f"accuracy changes by {100 * (kept - (7023 - 2000 + 182) / 7023):+.1f} points" in said
    assert said.count("by -9.1") == 2


def test_earlier_folds_single_folds_and_the_commonest_class_are_left_out(put_copied):
    put_copied(model="CustomCNN", recipe="s2", folds="0" * 12)
    put_copied(model="majority", recipe="none")
    put_copied(model="AlexNet", recipe="s2", fold=0)
    evidence = put_copied(model="AlexNet", recipe="s2", target="tumour")
    assert claims.copies_across_folds(evidence) == "*All patient folds of `brain-tumor-mri`: not run yet.*"
    assert copies.results_without_copies(evidence).empty
    evidence = put_copied(model="1-NN", recipe="none")
    assert "CustomCNN" not in claims.copies_across_folds(evidence)
    assert copies.results_without_copies(evidence).model.tolist() == ["1-NN"]


def test_a_tumour_with_a_copy_would_be_named(put_copied, monkeypatch):
    for module in ("tables", "claims"):
        monkeypatch.setattr(f"utils.report.{module}.copies.copied", lambda dataset: set(TABLE.path[[0, 5000]]))
    assert set(TABLE.label[[0, 5000]]) == {"glioma", "notumor"}
    said = claims.copies_across_folds(put_copied(model="1-NN", recipe="none"))
    assert "at least 2 have a copy" in said and "all without a tumour" not in said


def test_a_drawing_of_folds_without_copies_has_no_table_of_them(put_copied, monkeypatch):
    evidence = put_copied(model="1-NN", recipe="none")
    monkeypatch.setattr("utils.report.tables.copies.copies_file", lambda name: "copies/none.csv")
    assert claims.copies_across_folds(evidence) == f"No image of `{NAME}` is known to have a copy in another fold."
    row = copies.results_without_copies(evidence).iloc[0]
    assert row["accuracy %"].split()[0] == row["accuracy, without copies %"].split()[0]


def test_intervals_are_those_of_the_records():
    evidence = load_evidence(REPO / "saved_metrics")
    record = next(r for r in evidence.classification if r["id"] == f"{NAME}.patient.CustomCNN.s2.seed0")
    found = copies.intervals(evidence.predictions(record))
    assert found == {"accuracy": record["metrics"]["accuracy"], "recall": record["per_class"]["notumor"]["recall"]}


def test_the_table_has_every_result_before_and_after(put_copied):
    (row,) = copies.results_without_copies(put_copied(model="1-NN", recipe="none")).to_dict("records")
    assert list(row) == [
        "model",
        "recipe",
        "pixels",
        "accuracy %",
        "accuracy, without copies %",
        "recall of `notumor` %",
        "recall of `notumor`, without copies %",
    ]
    assert row["accuracy %"] == "74.1" and row["accuracy, without copies %"].startswith("73.4 (")
    assert row["recall of `notumor`, without copies %"].startswith("0.0 (0.0–1.2)") and row["recipe"] == "baseline"

"""Damaged evidence: the run is left out and its file named, the others are shown; no table is made of it."""

import gzip
import json
import shutil
import warnings

import pytest

from datasets.catalog import REPO, DataError
from utils.report import readme
from utils.report.records import load_evidence
from utils.report.tables import all_runs

RUN = "sartaj.cleaned.CustomCNN.s2-64px.seed0"
OTHER = "sartaj.cleaned.1-NN.none.seed0"


@pytest.fixture
def evidence(tmp_path):
    """A repository's `saved_metrics` with two committed runs and the findings of one set; returns the first run's
    folder."""
    root = tmp_path / "saved_metrics"
    for run in (RUN, OTHER):
        place = f"classification/sartaj/{run}"
        shutil.copytree(REPO / "saved_metrics" / place, root / place)
    (root / "curation").mkdir()
    shutil.copy(REPO / "saved_metrics/curation/sartaj.json", root / "curation")
    return root / "classification/sartaj" / RUN


def without(name):
    def change(path):
        record = json.loads(path.read_text())
        del record[name]
        path.write_text(json.dumps(record))

    return change


def with_value(name, value):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))

    return change


def in_metrics(value):
    return lambda path: path.write_text(path.read_text().replace('"value": 0.', f'"value": {value}, "was": 0.', 1))


DAMAGE = {
    "half a record": ("metrics.json", lambda path: path.write_text(path.read_text()[:500])),
    "an empty record": ("metrics.json", lambda path: path.write_text("")),
    "a list": ("metrics.json", lambda path: path.write_text("[]")),
    "brackets": ("metrics.json", lambda path: path.write_text("[" * 50_000)),
    "no text": ("metrics.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "no metrics": ("metrics.json", without("metrics")),
    "another run": ("metrics.json", with_value("id", OTHER)),
    "an unknown model": (
        "metrics.json",
        lambda p: p.write_text(p.read_text().replace('"model": "CustomCNN"', '"model": "Cust0mCNN"')),
    ),
    "text for a number": ("metrics.json", in_metrics('"high"')),
    "NaN": ("metrics.json", in_metrics("NaN")),
    "half a history": ("history.csv", lambda path: path.write_text(path.read_text()[:-60].replace(",", "\n", 1))),
    "a history with text": ("history.csv", lambda path: path.write_text(path.read_text().replace("0.", "O.", 1))),
    "half the predictions": ("predictions.csv.gz", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "a flipped bit": (
        "predictions.csv.gz",
        lambda p: p.write_bytes(p.read_bytes()[:200] + bytes([p.read_bytes()[200] ^ 1]) + p.read_bytes()[201:]),
    ),
    "other columns": ("predictions.csv.gz", lambda path: path.write_bytes(gzip.compress(b"a,b\n1,2\n"))),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_run_with_a_damaged_file_is_left_out_and_the_file_is_named(evidence, what):
    name, change = DAMAGE[what]
    change(evidence / name)
    root = evidence.parents[2]
    with pytest.warns(UserWarning, match=rf"left out: .*{RUN}/{name}: ") as warned:
        found = load_evidence(root)
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    assert [record["id"] for record in found.records] == [OTHER] and len(found.damaged) == 1
    assert all_runs(found).id.tolist() == [OTHER]
    (root.parent / "README.md").write_text("<!-- table projects -->\n<!-- /table -->\n")
    before = sorted(path for path in root.parent.rglob("*"))
    with pytest.warns(UserWarning), pytest.raises(DataError, match=rf"{name}: .*"):
        readme.main(root.parent)
    assert sorted(root.parent.rglob("*")) == before, "nothing is written"


def test_whole_evidence_is_all_there(evidence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_evidence(evidence.parents[2])
    assert len(found.records) == 2 and len(found.findings) == 1 and not found.damaged


def test_damaged_findings_of_curation_are_left_out(evidence):
    (evidence.parents[2] / "curation/sartaj.json").write_text("{")
    with pytest.warns(UserWarning, match=r"left out: .*curation/sartaj\.json: not readable as JSON"):
        assert load_evidence(evidence.parents[2]).findings == []


def test_a_pooled_run_is_left_out_with_one_of_its_folds(tmp_path):
    folds = sorted((REPO / "saved_metrics/classification/cheng").glob("cheng.patient*.majority.none.seed0"))
    for fold in folds:
        shutil.copytree(fold, tmp_path / "classification/cheng" / fold.name)
    assert len(load_evidence(tmp_path).records) == 6
    path = tmp_path / "classification/cheng/cheng.patient-f2.majority.none.seed0/predictions.csv.gz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="patient-f2"):
        assert [r["run"]["fold"] for r in load_evidence(tmp_path).records] == [0, 1, 3, 4]

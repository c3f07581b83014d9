"""Runs on folds that have been made anew since are marked wherever they are shown, and never pooled with newer ones."""

import copy
import json

import pytest

from datasets.catalog import REPO
from datasets.store.index import folds_digest
from utils.evaluation.ablation import budgets
from utils.report import claims
from utils.report.pooling import pool_folds
from utils.report.records import load_evidence, on_old_folds, run_folder, write_predictions, write_record
from utils.report.tables import common
from utils.report.tables.common import OLD_FOLDS, cell
from utils.report.tables.run_list import all_runs

NOW = folds_digest("cheng")


@pytest.fixture(scope="module")
def one_fold():
    """A committed record of a patient fold of `cheng`, with its predictions."""
    evidence = load_evidence(REPO / "saved_metrics")
    wanted = {"dataset": "cheng", "split": "patient", "fold": 0, "model": "1-NN"}
    record = next(r for r in evidence.records if wanted.items() <= r["run"].items())
    return record, evidence.predictions(record)


def of_fold(record, fold, digest):
    made = copy.deepcopy(record) | {"id": record["id"].replace("patient-f0", f"patient-f{fold}")}
    made["run"]["fold"], made["data"]["folds"] = fold, digest
    return made


@pytest.mark.parametrize(
    ("split", "digest", "old"),
    [
        ("patient", NOW, False),
        ("patient", "0" * 12, True),
        ("patient", None, True),
        ("cleaned", None, True),
        ("external", None, True),
        ("published", None, False),
        ("slices", None, False),
    ],
)
def test_what_counts_as_old(one_fold, split, digest, old):
    record = copy.deepcopy(one_fold[0])
    record["run"]["split"] = split
    record["data"].pop("folds", None)
    if digest:
        record["data"]["folds"] = digest
    assert on_old_folds(record) is old
    record["old_folds"] = old
    assert cell(record).endswith(OLD_FOLDS) is old and common.tested(record).endswith(OLD_FOLDS) is old


def test_a_table_of_other_groups_has_another_digest(monkeypatch, tmp_path):
    text = (REPO / "datasets/splits/cheng.csv").read_text()
    monkeypatch.setattr("datasets.store.index.SPLITS", tmp_path)
    digest = folds_digest.__wrapped__
    assert digest("cheng") == ""
    (tmp_path / "cheng.csv").write_text(text)
    assert digest("cheng") == NOW and len(NOW) == 12
    header, first, *rest = text.splitlines()
    (tmp_path / "cheng.csv").write_text("\n".join([header, *rest, first]) + "\n")
    assert digest("cheng") == NOW, "the order of the rows is no other split"
    (tmp_path / "cheng.csv").write_text("\n".join([header, first[:-1] + str((int(first[-1]) + 1) % 5), *rest]) + "\n")
    assert digest("cheng") != NOW


def test_folds_made_anew_in_part_are_not_pooled(one_fold, tmp_path):
    record, predictions = one_fold

    def write(fold, digest):
        made = of_fold(record, fold, digest)
        write_record(run_folder(tmp_path, made) / "metrics.json", made)
        write_predictions(run_folder(tmp_path, made) / "predictions.csv.gz", predictions)

    for fold in range(5):
        write(fold, "0" * 12)
    (path,) = pool_folds(tmp_path, resamples=20)
    evidence = load_evidence(tmp_path)
    assert all(r["old_folds"] for r in evidence.records) and set(all_runs(evidence).old_folds) == {"yes"}
    write(3, NOW)
    assert pool_folds(tmp_path, resamples=20) == [] and not path.exists(), "the pooled record was of other runs"
    for fold in range(5):
        write(fold, NOW)
    assert pool_folds(tmp_path, resamples=20) == [path]
    assert json.loads(path.read_text())["data"]["folds"] == NOW and not load_evidence(tmp_path).records[0]["old_folds"]


# These say nothing about trained networks by split, but of the images themselves.
OF_IMAGES = {"glioma_gap", "patients_on_both_sides", "sources", "untested_networks"}


def test_no_sentence_about_a_run_on_earlier_folds_is_without_the_mark():
    evidence = load_evidence(REPO / "saved_metrics")
    for record in evidence.records + evidence.pointing:
        record["old_folds"] = True
    said = {name: getattr(claims, name)(evidence) for name in claims.__all__ if name not in OF_IMAGES}
    unmarked = [name for name, text in said.items() if OLD_FOLDS not in text and "not run yet" not in text]
    assert unmarked == [] and sum(OLD_FOLDS in text for text in said.values()) > 15
    assert all("with earlier groups of images: its folds" in text for text in said.values() if OLD_FOLDS in text)


def test_runs_on_other_folds_are_no_part_of_an_ablation():
    def record(recipe, digest):
        run = {"dataset": "cheng", "split": "patient", "test_on": "", "fold": 0, "image_size": 64, "n_filters": 8}
        run |= {"pretrained": None, "recipe": recipe, "seed": 0}
        return {"run": run, "data": {"folds": digest}, "training": {"epochs": 3}}

    assert budgets([record("s0", NOW), record("s0-flat", "0" * 12)]) == []
    assert len(budgets([record("s0", NOW), record("s0-flat", NOW), record("s0", "0" * 12)])) == 1

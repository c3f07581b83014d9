"""Committed records are computed again from their predictions: the same values, and the same intervals."""

import json

import numpy as np
import pandas as pd
import pytest

from datasets.catalog import REPO, get
from utils.evaluation.classification import by_patient, evaluate
from utils.evaluation.findings import evaluate_findings
from utils.evaluation.outlining import evaluate_outlines
from utils.evaluation.reconstruction import anomaly
from utils.evaluation.saliency import summarise
from utils.evaluation.segmentation import evaluate_masks
from utils.evaluation.thresholds import screening, threshold_for, tumour_or_none, tumour_scores

RECORDS = (
    "classification/brain-tumor-44c/brain-tumor-44c.patient-f0.1-NN.none.seed0",  # classes that no test image shows
    "classification/cheng/cheng.patient.majority.none.seed0",  # folds joined: an area of .5
    "findings/chest-xray14/chest-xray14.patient.SqueezeNet.chexnet-pretrained-64px-findings.seed0",
    "localisation/cheng/cheng.patient-f2.OutlineClassifier.from-outline-pretrained.seed0",
    "multitask/sartaj/sartaj.published.MultiTaskUNet.s0-n8.seed0",
    "segmentation/cheng/cheng.slices.AttentionUNet.ours-n16-64px.seed0",
    "segmentation/brats-mini/brats-mini.patient.AttentionUNet.ours-n16-96px-middle.seed0",  # regions
    "transfer/brain-tumor-mri/brain-tumor-mri.external-sartaj.ResNet50-v2.probe-first-pretrained-224px.seed0",
    "transfer/brain-tumor-mri/brain-tumor-mri.published.ResNet50-v2.probe-pretrained-224px.seed0",
)


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_what_its_predictions_say(record):
    folder = REPO / "saved_metrics" / record
    wanted = json.loads((folder / "metrics.json").read_text())
    names = wanted.get("pooled") or [folder.name]
    parts = [pd.read_csv(folder.with_name(name) / "predictions.csv.gz", dtype={"group": str}) for name in names]
    table, classes = pd.concat(parts, ignore_index=True), list(wanted["per_class"])
    fold = np.repeat(range(len(parts)), [len(part) for part in parts]) if "pooled" in wanted else None
    if wanted["task"] == "segmentation":
        facts = get(wanted["run"]["dataset"])
        found = evaluate_masks(table, facts.mask_channels, list(facts.regions))
    elif wanted["task"] == "findings":
        found = {"per_class": evaluate_findings(table, classes[:2], fold=fold)["per_class"]}  # all 14 take a minute
        wanted["per_class"] = {name: wanted["per_class"][name] for name in classes[:2]}
    else:
        found = evaluate(table, classes, fold=fold)
    if "screening" in wanted:
        found["screening"] = screening(table)
    if wanted.get("anomaly"):
        found["anomaly"] = anomaly(table, classes, fold=fold)
    if wanted.get("outline"):
        found["outline"] = evaluate_outlines(table)
    if "tumour_or_none" in wanted:
        validated = pd.read_csv(folder / "validation.csv.gz", dtype={"group": str})
        found["tumour_or_none"] = tumour_or_none(table, threshold_for(*tumour_scores(validated)))
    if "by_patient" in wanted:
        patients = by_patient(table, classes)
        found["by_patient"] = evaluate(patients, classes)["metrics"] | {"patients": len(patients)}
    assert found.keys() - wanted.keys() == set()
    for part, entries in found.items():  # numbers are rounded, and processors differ in the last digit
        assert flat(wanted[part]) == pytest.approx(flat(entries), abs=1.5e-6), part


def test_where_a_network_looked_is_what_its_table_says():
    folder = REPO / "saved_metrics/transfer/brain-tumor-mri/brain-tumor-mri.patient-f0.SqueezeNet.ours-pretrained.seed0"
    found = summarise(pd.read_csv(folder / "pointing.csv.gz", dtype={"patient": str}))
    wanted = json.loads((folder / "pointing.json").read_text())["groups"]
    assert list(found) == list(wanted) and flat(found) == pytest.approx(flat(wanted), abs=1.5e-6)


def flat(entries: object, name: str = "") -> dict:
    """Every number of nested entries, by its path."""
    if not isinstance(entries, dict | list):
        return {name: entries}
    items = entries.items() if isinstance(entries, dict) else enumerate(entries)
    return {path: value for key, inner in items for path, value in flat(inner, f"{name}/{key}").items()}

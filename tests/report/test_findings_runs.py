"""Runs of findings: evidence that pools and loads, tables and figures."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from findings_scores import predictions

from datasets.store.index import read_manifest
from models import build_backbone
from utils.evaluation.findings import evaluate_findings, findings_table, thresholds_for
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.report import claims, figures, tables
from utils.report.pooling import pool_folds
from utils.report.records import load_evidence, save_run
from utils.report.weights import find_weights, load_weights
from utils.run import NEAREST_FINDINGS, Run
from utils.training.data import load_data
from utils.training.loop import Fit, fit
from utils.training.tasks import MultiLabel


@pytest.fixture
def finished(roots):
    """All five folds of a small network, one epoch each, on the phantom's findings; the last network."""
    for fold in range(5):
        how = {"recipe": "chexnet", "image_size": 64, "pretrained": False, "target": "findings"}
        run = Run(dataset="phantom", split="patient", fold=fold, model="SqueezeNet", **how)
        recipe = get_recipe("chexnet", "SqueezeNet", epochs=1)
        data = load_data(run)
        net = build_backbone("SqueezeNet", num_classes=3, in_channels=3, image_size=64, head="linear")
        task = MultiLabel(3, data.train.labels.sum(0), len(data.train), 3, recipe.loss, recipe.augmentation)
        if fold == 0:
            done = fit(net, task, data.train, data.val, recipe, folder=run.folder)
            assert {"val_auc", "val_loss", "train_auc"} <= set(done.history)
        else:
            done = Fit(pd.DataFrame({"epoch": [1], "seconds": [1.0], "val_auc": [0.5]}), 1)
        thresholds = thresholds_for(predict(net, task, data.val), data.val.labels.numpy())
        table = findings_table(data, predict(net, task, data.test), thresholds)
        result = evaluate_findings(table, data.classes, resamples=10)
        save_run(run, result, table, model=net, recipe=recipe, fit=done, sizes=data.sizes)
    return run, net


def within_folds(runs, *findings):
    """The share of pairs of an image that shows a finding and one that does not, both of one fold, that are ranked
    right; the mean over the findings. Pairs of two folds were ranked by two networks."""
    records, means = {r["id"]: r for r in load_evidence().records}, []
    for finding in findings:
        right = []
        for run in runs:
            table = load_evidence().predictions(records[run])
            positive, negative = (table[table[f"y_{finding}"] == shown][f"p_{finding}"].to_numpy() for shown in (1, 0))
            larger, equal = (f(positive[:, None], negative) for f in (np.greater, np.equal))
            right += [(larger + equal / 2).ravel()]
        means.append(np.concatenate(right).mean())
    return np.mean(means).round(6)


def test_a_run_of_findings_leaves_evidence_that_pools_and_loads(finished, roots):
    run, net = finished
    assert run.id == "phantom.patient-f4.SqueezeNet.chexnet-scratch-64px-findings.seed0" and run.task == "findings"
    record = next(r for r in load_evidence().of("findings") if r["id"] == run.id)
    again = evaluate_findings(load_evidence().predictions(record), ("NCR", "ED", "ET"), resamples=10)
    assert {key: record[key] for key in again} == again, "the predictions alone give the metrics"
    (path,) = pool_folds(roots / "saved_metrics", resamples=10)
    pooled = json.loads(path.read_text())
    assert pooled["images"] == len(read_manifest("phantom")) and len(pooled["folds"]) == 5
    assert pooled["metrics"]["macro_auc"]["value"] == pytest.approx(within_folds(pooled["pooled"], "NCR", "ED", "ET"))
    assert pooled["training"]["epochs"] == 1 and "epochs_by_fold" not in pooled["training"], "they do not differ"
    shown = tables.findings_runs(load_evidence())
    assert shown[["split", "network"]].to_numpy().tolist() == [["patient, all folds", "SqueezeNet"]]
    loaded = load_weights(find_weights(run.id))
    image = torch.rand(2, 3, 64, 64)
    assert torch.allclose(loaded(image), net.eval()(image))


def test_figures_of_findings():
    found = evaluate_findings(predictions(), ("a", "b", "c"), resamples=10)
    drawn = figures.finding_bars(found["per_class"], found["images"])
    assert drawn.axes[0].get_yticklabels()[0].get_text() == "c (0)"
    shown = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    numbers = [t.get_text() for t in figures.together(shown, "abc").axes[0].texts]
    assert numbers == ["2", "1", "0", "1", "1", "0", "0", "0", "0"]
    assert tables.by_finding(found["per_class"]).loc["c", "AUC"] == "–"


def test_a_finding_is_ranked_better_only_where_its_interval_says_so(put, tmp_path):
    run = Run(
        dataset="chest-xray14", split="published", model="SqueezeNet", recipe="chexnet", seed=0, target="findings",
        image_size=64, pretrained=False,
    )  # fmt: skip
    limits = {"Good_One": (0.6, 0.8), "Poor": (0.1, 0.4), "Unclear": (0.45, 0.7), "Absent": (None, None)}
    per_class = {
        name: {"auc": {"value": low, "low": low, "high": high}, "images": 10} for name, (low, high) in limits.items()
    }
    area = {"value": 0.6, "low": 0.5, "high": 0.7}
    of = {"per_class": per_class, "groups": 7, "metrics": {"macro_auc": area, "macro_average_precision": area}}
    nobody = pd.DataFrame({"path": ["a"], "group": ["p"]})
    evidence = put(run, nobody, images=100, **of)
    said = claims.findings_ranked(evidence)
    assert "better than a random order for good one, worse for poor; for 2 of 4 findings no difference" in said
    assert "100 images of 7 patients" in said and "random order reaches 0.100" in said
    nearest = run.baseline(NEAREST_FINDINGS)
    assert nearest.task == "findings" and nearest.id == "chest-xray14.published.25-NN.none-findings.seed0"
    evidence = put(nearest, nobody, images=9, recipe=None, **of)
    assert "- 25-NN on `chest-xray14`" in (said := claims.findings_ranked(evidence))
    assert said.count("that of 25-NN overlap") == 1, "of the network alone"
    assert (
        claims.findings_ranked(load_evidence(tmp_path / "empty"))
        == "*Several findings an image on real data: not run yet.*"
    )

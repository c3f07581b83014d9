"""What a run leaves can be read back, computed again, and is written whole or not at all."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from datasets import catalog
from datasets.catalog import DataError, UnknownName
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN
from utils.evaluation.baselines import BASELINES, baseline
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.reporting import records
from utils.reporting.records import load_evidence, save_run
from utils.reporting.runs import Run
from utils.reporting.tables.classification import results_table
from utils.reporting.tables.common import format_ci
from utils.reporting.weights import find_weights, load_weights
from utils.training.loop import Fit
from utils.training.tasks import Classification

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@pytest.fixture
def finished(roots):
    """A saved run of an untrained CustomCNN on the small phantom: (run, model, data, result, path)."""
    run, split = Run("phantom", image_size=64), make_split("phantom")
    model, data = CustomCNN(image_size=64), ImageDataset("phantom", split.test, image_size=64)
    table = prediction_table("phantom", split.test, split.test_groups, CLASSES, predict(model, Classification(4), data))
    result = evaluate(table, CLASSES, resamples=20)
    fit = Fit(pd.DataFrame({"epoch": [1], "seconds": [2.5]}), 1)
    path = save_run(run, result, table, model=model, recipe=get_recipe("s2", "CustomCNN"), fit=fit)
    return run, model, data, result, path


def test_ids_say_it_all():
    assert Run("brain-tumor-mri", "patient", 3, "ViT", seed=7).id == "brain-tumor-mri.patient-f3.ViT.s2.seed7"
    assert Run("sartaj").id == "sartaj.published.CustomCNN.s2.seed0"
    assert Run("sartaj").baseline("1-NN").id == "sartaj.published.1-NN.none.seed0"
    assert Run("sartaj", "patient", None).id == "sartaj.patient.CustomCNN.s2.seed0"
    assert (
        Run("sartaj", "external", test_on="cheng", image_size=64).id == "sartaj.external-cheng.CustomCNN.s2-64px.seed0"
    )
    assert Run("sartaj", view="upright", quick=True).id == "sartaj.published.CustomCNN.s2-upright-quick.seed0"
    with pytest.raises(UnknownName, match="did you mean 'CustomCNN'"):
        Run("phantom", model="CustomCN")


def test_metrics_can_be_computed_again_from_the_predictions(finished):
    *_, result, path = finished
    again = evaluate(pd.read_csv(path.with_name("predictions.csv.gz")), CLASSES, resamples=20)
    assert json.dumps(again) == json.dumps(result)


def test_the_record_says_what_was_run(finished):
    run, model, *_, path = finished
    record = json.loads(path.read_text())
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert record["recipe"]["lr"] == 1e-4
    assert record["training"] == {"epochs": 1, "epoch_kept": 1, "seconds": 2.5}
    assert {"torch", "python"} <= record["versions"].keys()
    assert len(record["data"]["images.h5"]) == 64
    assert record["hardware"]["cores"] >= 1
    assert record["published"] is None, "S2's number is for brain-tumor-mri, not for the phantom"
    assert record["id"] == run.id == path.parent.name and path.name == "metrics.json"


@pytest.mark.parametrize(
    ("size", "split", "reported"), [(128, "published", 0.99), (64, "published", None), (128, "patient", None)]
)
def test_the_published_number_stands_beside_a_full_run_on_its_own_images_only(
    finished, size, split, reported, monkeypatch
):
    _, model, _, result, path = finished
    table = pd.read_csv(path.with_name("predictions.csv.gz"))
    recipe = get_recipe("s2", "CustomCNN")
    found = {("s2", "CustomCNN", "phantom", "published"): {"accuracy": 0.99}}
    monkeypatch.setattr(records, "published", lambda *place: found.get(place))
    fit = Fit(pd.DataFrame({"epoch": [1], "seconds": [2.5]}), 1)
    path = save_run(Run("phantom", split, image_size=size), result, table, model=model, recipe=recipe, fit=fit)
    published = json.loads(path.read_text())["published"]
    assert (published and published["accuracy"]) == reported


def test_weights_come_back_with_their_card(finished, roots):
    run, model, *_ = finished
    path = find_weights(run.id)
    assert path == run.weights_folder / "model.safetensors"
    loaded = load_weights(path)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )
    for place in (run.id, str(path), path.parent):
        again = load_weights(place)
        assert torch.equal(next(iter(again.state_dict().values())), next(iter(model.state_dict().values())))
    with pytest.raises(UnknownName, match=f"unknown model '.*'; did you mean '{re.escape(run.id)}'"):
        load_weights(run.id.replace("seed0", "seed1"))
    with pytest.raises(DataError, match=r"nowhere/model.safetensors: not there"):
        load_weights(path.parent / "nowhere" / "model.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="SHA-256 is not that of the card beside it"):
        load_weights(path)
    assert not list(roots.rglob("*.tmp"))


def test_quick_runs_are_no_evidence():
    assert Run("phantom", quick=True).metrics_folder == Run("phantom", quick=True).folder
    assert Run("phantom").metrics_folder.parts[-4:] == ("saved_metrics", "classification", "phantom", Run("phantom").id)


def test_only_the_first_process_writes(finished, monkeypatch):
    *_, result, path = finished
    before = path.read_bytes()
    monkeypatch.setenv("RANK", "1")
    path.unlink()
    save_run(Run("phantom", image_size=64), result, pd.DataFrame())
    assert not path.exists()
    path.write_bytes(before)


def test_the_table_is_made_of_the_files(finished):
    row = results_table(load_evidence().classification).iloc[0]
    *_, result, _ = finished
    assert row["accuracy %"] == format_ci(result["metrics"]["accuracy"])
    assert row["reported accuracy %"] == "–"
    assert row["epochs"] == 1


def test_the_committed_evidence_agrees_with_its_own_predictions():
    """Every number of saved_metrics/ follows from the predictions beside it."""
    folder = catalog.REPO / "saved_metrics"
    evidence = load_evidence(folder)
    for record in evidence.classification + evidence.transfer:
        table = evidence.predictions(record)
        assert record["metrics"]["accuracy"]["value"] == pytest.approx(
            (table.label == table.predicted).mean(), abs=1e-6
        )
        assert np.sum(record["confusion"]) == len(table) == record["images"]
        assert record["metrics"]["accuracy"]["low"] <= record["metrics"]["accuracy"]["value"]


def test_the_committed_screening_agrees_with_the_decisions_in_the_predictions():
    """Sensitivity and specificity, at S0's threshold and at validation's, counted again."""
    folder = catalog.REPO / "saved_metrics"
    evidence = load_evidence(folder)
    assert evidence.multitask, "no multi-task run is committed"
    for record in evidence.multitask:
        table = evidence.predictions(record)
        assert record["metrics"]["accuracy"]["value"] == pytest.approx(
            (table.label == table.predicted).mean(), abs=1e-6
        )
        sick = table.label != "notumor"
        for rule, column in (("S0", "predicted"), ("validation", "screened")):
            called, found = table[column] != "notumor", record["screening"][rule]
            counted = {"sensitivity": called[sick].mean(), "specificity": (~called[~sick]).mean()}
            for metric, value in counted.items():  # the cleaned test set of sartaj shows nobody healthy: NaN
                entry = found[metric]["value"]
                assert np.isnan(value) if entry is None else entry == pytest.approx(value, abs=1e-6)
        assert len(table) == record["images"]


def test_the_committed_masks_agree_with_their_own_counts():
    """The same for segmentation: pixel counts by slice, added by patient."""
    folder = catalog.REPO / "saved_metrics"
    evidence = load_evidence(folder)
    assert evidence.segmentation, "no segmentation is committed"
    for record in evidence.segmentation:
        table = evidence.predictions(record)
        by_patient = table.drop(columns=["path", "group"]).groupby("patient").sum()
        for name, entry in record["per_class"].items():
            tp, fp, fn = (by_patient[f"{name}.{count}"] for count in ("tp", "fp", "fn"))
            dice = (2 * tp / (2 * tp + fp + fn)).fillna(1)  # empty in both
            assert entry["dice"]["value"] == pytest.approx(dice.mean(), abs=1e-6)
        assert len(by_patient) == record["patients"] and len(table) == record["images"]


@pytest.mark.parametrize(("kind", "least"), [("majority", 0.15), ("1-NN", 0.99)])
def test_baselines_on_their_own_training_part(roots, kind, least):
    split = make_split("phantom")
    data = ImageDataset("phantom", split.train, image_size=64)
    table = prediction_table("phantom", split.train, split.groups[split.train], CLASSES, baseline(kind, data, data))
    assert kind in BASELINES
    assert (table.label == table.predicted).mean() > least
    assert (kind != "majority") or table.predicted.nunique() == 1

"""The evidence of a run can be read back and computed again, and is written completely or not at all."""

import hashlib
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from small_training import same
from whole_records import whole as whole_record

from datasets import catalog
from datasets.catalog import DataError, UnknownName
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN, build_backbone
from models.gluon import SIGNS, build_gluon
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.report import records
from utils.report.records import load_evidence, save_run
from utils.report.weights import (
    CARD,
    LIMIT,
    PATIENT_LIMIT,
    WEIGHTS,
    find_weights,
    limits_of,
    load_weights,
    save_weights,
)
from utils.run import NEAREST_MASK, TASKS, Run
from utils.saved_models import SPLIT_LIMIT
from utils.training.loop import Fit
from utils.training.tasks import Classification

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@pytest.fixture
def finished(roots):
    """A saved run of an untrained CustomCNN on the small phantom: (run, model, data, result, path)."""
    run, split = Run(dataset="phantom", image_size=64), make_split("phantom")
    model, data = CustomCNN(image_size=64), ImageDataset("phantom", split.test, image_size=64)
    table = prediction_table("phantom", split.test, split.test_groups, CLASSES, predict(model, Classification(4), data))
    result = evaluate(table, CLASSES, resamples=20)
    fit = Fit(pd.DataFrame({"epoch": [1], "seconds": [2.5]}), 1)
    path = save_run(run, result, table, model=model, recipe=get_recipe("s2", "CustomCNN"), fit=fit)
    return run, model, data, result, path


@pytest.mark.parametrize(("of", "name"), [
    ({}, "sartaj.published.CustomCNN.s2.seed0"),
    ({"split": "patient", "fold": 3, "model": "ViT", "seed": 7}, "sartaj.patient-f3.ViT.s2.seed7"),
    ({"split": "patient", "fold": None}, "sartaj.patient.CustomCNN.s2.seed0"),
    ({"split": "external", "test_on": "cheng", "image_size": 64}, "sartaj.external-cheng.CustomCNN.s2-64px.seed0"),
    ({"view": "upright", "quick": True}, "sartaj.published.CustomCNN.s2-upright-quick.seed0"),
    ({"target": "tumour", "quick": True}, "sartaj.published.CustomCNN.s2-tumour-quick.seed0"),
])  # fmt: skip
def test_ids_say_it_all(of, name):
    assert Run(dataset="sartaj", **of).id == name
    assert Run(dataset="sartaj").baseline("1-NN").id == "sartaj.published.1-NN.none.seed0"


def test_an_unknown_name_is_answered_with_the_nearest():
    for of, name in (
        ({"target": "tumor"}, "tumour"),
        ({"model": "CustomCN"}, "CustomCNN"),
        ({"task": "multi-task"}, "multitask"),
        ({"split": "external", "test_on": "satraj"}, "sartaj"),
    ):
        with pytest.raises(UnknownName, match=f"did you mean '{name}'"):
            Run(dataset="phantom", **of)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_none_is_refused_in_one_line(seed):
    with pytest.raises(DataError, match=rf"seed {seed}: a whole number from 0 to 4294967295 is wanted"):
        Run(dataset="phantom", seed=seed)


TASK_OF = {
    "classification": {"model": "ViT"},
    "transfer": {"model": "ResNet50", "pretrained": False},
    "multitask": {"model": "MultiTaskUNet"},
    "segmentation": {"model": "AttentionUNet"},
    "findings": {"model": "DenseNet121", "pretrained": False, "target": "findings"},
    "localisation": {"model": "OutlineClassifier", "pretrained": True},
}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_stores_its_task_and_its_folders_follow(task):
    run = Run(dataset="phantom", **TASK_OF[task])
    assert asdict(run)["task"] == task and replace(run, fold=3).task == task
    assert run.metrics_folder.parts[-3] == run.weights_folder.parts[-3] == task
    usual = ("findings", "findings") if task == "findings" else ("classification", "segmentation")
    assert (run.baseline("1-NN").task, run.baseline(NEAREST_MASK).task) == usual


def test_a_task_that_is_given_counts():
    run = Run(dataset="phantom", model="ResNet50", pretrained=True, task="segmentation")
    assert run.task == "segmentation" and run.metrics_folder.parts[-3] == "segmentation"
    assert replace(run, seed=1).task == "segmentation"


def test_the_record_says_what_was_run(finished):
    run, model, *_, path = finished
    record = json.loads(path.read_text())
    assert "task" not in record["run"] and Run(**record["run"], task=record["task"]) == run
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert record["recipe"]["lr"] == 1e-4
    assert record["training"] == {"epochs": 1, "epoch_kept": 1, "seconds": 2.5}
    assert {"torch", "python"} <= record["versions"].keys()
    assert len(record["data"]["images.h5"]) == 64
    assert record["hardware"]["cores"] >= 1
    assert record["published"] is None, "S2's number is for brain-tumor-mri, not for the phantom"
    assert record["id"] == run.id == path.parent.name and path.name == "metrics.json"


def test_the_published_number_stands_beside_a_full_run_on_its_own_images_only(finished, monkeypatch):
    _, model, _, result, path = finished
    table, recipe = pd.read_csv(path.with_name("predictions.csv.gz")), get_recipe("s2", "CustomCNN")
    found = {("s2", "CustomCNN", "phantom", "published"): {"accuracy": 0.99}}
    monkeypatch.setattr(records, "published", lambda *place: found.get(place))
    fit = Fit(pd.DataFrame({"epoch": [1], "seconds": [2.5]}), 1)
    for size, split, reported in ((128, "published", 0.99), (64, "published", None), (128, "patient", None)):
        run = Run(dataset="phantom", split=split, image_size=size)
        saved = json.loads(save_run(run, result, table, model=model, recipe=recipe, fit=fit).read_text())
        assert (saved["published"] and saved["published"]["accuracy"]) == reported, run.id


def test_weights_come_back_with_their_card(finished, roots):
    run, model, *_ = finished
    path = find_weights(run.id)
    assert path == run.weights_folder / "model.safetensors"
    for place in (path, run.id, str(path), path.parent):
        assert same(load_weights(place).state_dict(), model.state_dict())
    with pytest.raises(UnknownName, match=f"unknown model '.*'; did you mean '{re.escape(run.id)}'"):
        load_weights(run.id.replace("seed0", "seed1"))
    with pytest.raises(DataError, match=r"nowhere/model.safetensors: not there"):
        load_weights(path.parent / "nowhere" / "model.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="SHA-256 is not that of the card beside it"):
        load_weights(path)
    assert not list(roots.rglob("*.tmp"))


def test_only_the_first_process_writes(finished, monkeypatch):
    *_, result, path = finished
    monkeypatch.setenv("RANK", "1")
    path.unlink()
    save_run(Run(dataset="phantom", image_size=64), result, pd.DataFrame())
    assert not path.exists()


def test_the_committed_evidence_agrees_with_its_own_predictions():
    """Every accuracy and Dice of saved_metrics/ follows from the predictions beside it."""
    evidence = load_evidence(catalog.REPO / "saved_metrics")
    assert {"multitask", "segmentation"} < set(evidence.runs.task)
    for run in evidence.runs[evidence.runs.task != "findings"].itertuples():
        table, record = evidence.predictions(run.id), evidence.record(run.id)
        if run.task == "segmentation":
            counts = table.groupby("patient").sum(numeric_only=True)
            for name, entry in record["per_class"].items():
                tp, fp, fn = (counts[f"{name}.{count}"] for count in ("tp", "fp", "fn"))
                dice = (2 * tp / (2 * tp + fp + fn)).fillna(1)  # empty in both
                assert entry["dice"]["value"] == pytest.approx(dice.mean(), abs=1e-6)
            masks = [record["per_class"][name] for name in catalog.get(run.dataset).mask_channels]
            assert run.dice == pytest.approx(np.mean([entry["dice"]["value"] for entry in masks]), abs=1e-6)
            assert len(counts) == run.patients
        else:
            assert run.accuracy == pytest.approx((table.label == table.predicted).mean(), abs=1e-6)
            assert np.sum(record["confusion"]) == len(table)
        assert len(table) == run.images
        if not run.baseline and run.pooled is None:
            history, training = evidence.history(run.id), record["training"]
            kept = history[history.epoch == run.epoch_kept].iloc[0]
            assert len(history) == run.epochs
            assert all(kept[name] == pytest.approx(training[name]) for name in training if name.startswith("val_"))
        for rule in record.get("screening", ()):  # by S0's threshold and, where one is known, by that of validation
            called = table[{"S0": "predicted", "validation": "screened"}[rule]] != "notumor"
            sick = table.label != "notumor"
            for metric, rows, right in (("sensitivity", sick, called), ("specificity", ~sick, ~called)):
                entry = record["screening"][rule][metric]["value"]  # None where the test set shows nobody of these
                assert entry is None or entry == pytest.approx(right[rows].mean(), abs=1e-6)


def test_the_committed_weights_are_those_of_their_cards():
    paths = sorted((catalog.REPO / "saved_models").glob(f"*/*/*/{WEIGHTS}"))
    assert paths, "no weights are committed"
    for path in paths:
        wanted = json.loads(path.with_name(CARD).read_text())["sha256"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted, path


@pytest.mark.parametrize("name", SIGNS)
def test_a_backbone_that_began_with_weights_in_gluons_layout(name, roots):
    """As ResNet50-v2 and MobileNetV2 from the ONNX model zoo: timm's networks of these names have other layers."""
    torch.manual_seed(0)
    file = roots / "imagenet.safetensors"
    save_file(build_gluon(name).state_dict(), file)
    recipe = get_recipe("probe-first", name)
    net = build_backbone(name, pretrained=file, image_size=64, **recipe.model_args).eval()
    run = Run(dataset="phantom", split="published", model=name, recipe="probe-first", image_size=64, pretrained=True)
    names = ("name", "source", "epochs", "lr", "batch_size", "augmentation", "model_args")
    record = whole_record(run, recipe={key: getattr(recipe, key) for key in names}, data={})
    again = load_weights(save_weights(net, run, record))
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


@pytest.mark.parametrize(("how", "groups", "limits"), [
    ({"split": "published"}, 40, [SPLIT_LIMIT]),
    ({"split": "cleaned"}, 1, [PATIENT_LIMIT, SPLIT_LIMIT]),
    ({"split": "patient"}, 40, []),
    ({"split": "external", "test_on": "navoneel"}, 40, []),
    ({"split": "published", "target": "findings", "dataset": "chest-xray14"}, 40, []),
])  # fmt: skip
def test_a_card_says_of_which_split_the_patients_are_on_both_sides(how, groups, limits):
    run = Run(**{"dataset": "brain-tumor-mri"} | how)
    assert limits_of(run, ["glioma"], groups) == [LIMIT, *limits]
    assert len(limits_of(run, ["glioma", "notumor"], groups)) == 2 + len(limits), "sources of the healthy"

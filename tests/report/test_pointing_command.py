"""The command that measures where committed classifiers look, and outlines in figures."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.splitting import make_split
from models import CustomCNN
from utils.evaluation.classification import evaluate, prediction_table
from utils.recipes import get_recipe
from utils.report import figures, pointing
from utils.report.records import METRICS, POINTING, load_evidence, save_run
from utils.run import Run
from utils.training.data import load_data
from utils.training.loop import Fit


def test_the_command_measures_the_test_images_of_the_record(roots, capsys):
    run = Run(dataset="phantom", split="patient", image_size=64)
    torch.manual_seed(0)
    net, split = CustomCNN(image_size=64).eval(), make_split("phantom", "patient")
    data, recipe = load_data(run), replace(get_recipe("s2", "CustomCNN"), epochs=1)
    with torch.no_grad():
        x = (data.test.batch(range(len(data.test)))["image"].float() / 255).expand(-1, 3, -1, -1)
        probabilities = net(x).softmax(1).numpy()
    table = prediction_table("phantom", split.test, split.test_groups, data.facts.classes, probabilities)
    fit = Fit(pd.DataFrame([{"epoch": 1, "val_accuracy": 0.5, "seconds": 1.0}]), 1)
    save_run(run, evaluate(table, data.facts.classes, 20), table, model=net, recipe=recipe, fit=fit)
    assert pointing.main([]) == 0
    said = capsys.readouterr().out
    assert run.id in said and "the maximum lies in the tumour" in said
    found = json.loads((run.metrics_folder / POINTING).read_text())
    tumours = table.label.ne("notumor")
    assert found["tested"] == len(table) and found["tumours"] == tumours.sum() and found["agreement"] == 1
    images = pd.read_csv(run.metrics_folder / "pointing.csv.gz")
    assert set(images.path) <= set(table.path[tumours]) and len(images) == found["groups"]["all"]["images"]
    assert found["groups"]["all"]["pointing"]["value"] == pytest.approx(images.pointing.mean(), abs=1e-4)
    (again,) = load_evidence(roots / "saved_metrics").pointing
    assert again["id"] == run.id
    before = (run.metrics_folder / POINTING).stat().st_mtime_ns
    assert pointing.main([run.id]) == 0 and "measured before" in capsys.readouterr().out
    assert (run.metrics_folder / POINTING).stat().st_mtime_ns == before
    card = run.weights_folder / "card.json"
    facts = json.loads(card.read_text())
    card.write_text(json.dumps(facts | {"arguments": facts["arguments"] | {"named_from": "outline"}}))
    assert pointing.main([]) == 0 and run.id not in capsys.readouterr().out, "its outline shows where it reads"
    assert pointing.main([run.id, "--anew"]) == 1 and "named from its outline" in capsys.readouterr().err
    card.write_text(json.dumps(facts))
    (run.metrics_folder / METRICS).unlink()
    assert pointing.main([run.id, "--anew"]) == 1 and "has no record" in capsys.readouterr().err


def test_outlines_are_drawn_for_every_image(tmp_path):
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 32, 32))
    masks[:, 8:16, 8:16] = 1
    grey = rng.integers(0, 255, (3, 32, 32), dtype=np.uint8)
    figure = figures.outlines(grey, masks, {"Grad-CAM": rng.random((3, 32, 32))}, ["a", "b", "c"], found=masks)
    assert len(figure.axes) == 6
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["true outline", "outline of the network"]

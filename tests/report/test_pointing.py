"""The command that measures where committed classifiers look, on the test images of their records."""

import json

import pandas as pd
import pytest
import torch

from models import CustomCNN
from utils.evaluation.classification import evaluate, run_table
from utils.files import write_sealed
from utils.recipes import get_recipe
from utils.report import pointing
from utils.report.pointing import main
from utils.report.records import METRICS, POINTING, load_evidence, save_run
from utils.report.weights import WEIGHTS
from utils.run import Run
from utils.training.data import load_data
from utils.training.loop import Fit


def test_the_command_measures_the_test_images_of_the_record(roots, monkeypatch, capsys):
    run = Run(dataset="phantom", split="patient", image_size=64)
    alone = {run.id: run.weights_folder / WEIGHTS}  # what is committed does not count
    monkeypatch.setattr(pointing, "saved_weights", lambda: alone)
    torch.manual_seed(0)
    net, data = CustomCNN(image_size=64).eval(), load_data(run)
    with torch.no_grad():
        x = (data.test.batch(range(len(data.test)))["image"].float() / 255).expand(-1, 3, -1, -1)
        table = run_table(data, net(x).softmax(1).numpy())
    fit = Fit(pd.DataFrame([{"epoch": 1, "val_accuracy": 0.5, "seconds": 1.0}]), 1)
    save_run(run, evaluate(table, data.classes, 20), table, model=net, recipe=get_recipe("s2", "CustomCNN"), fit=fit)
    assert main([]) == 0
    said = capsys.readouterr().out
    assert run.id in said and "the maximum lies in the tumour" in said
    found = json.loads((run.metrics_folder / POINTING).read_text())
    tumours = table.label.ne("notumor")
    assert found["tested"] == len(table) and found["tumours"] == tumours.sum() and found["agreement"] == 1
    images = pd.read_csv(run.metrics_folder / "pointing.csv.gz")
    assert set(images.path) <= set(table.path[tumours]) and len(images) == found["groups"]["all"]["images"]
    assert found["groups"]["all"]["pointing"]["value"] == pytest.approx(images.pointing.mean(), abs=1e-4)
    assert [one["id"] for one in load_evidence(roots / "saved_metrics").pointing] == [run.id]
    before = (run.metrics_folder / POINTING).stat().st_mtime_ns
    assert main([]) == 0 and "measured before" in capsys.readouterr().out
    assert (run.metrics_folder / POINTING).stat().st_mtime_ns == before
    assert main([run.id]) == 0 and "the maximum" in capsys.readouterr().out, "whoever is named is measured anew"

    card = run.weights_folder / "card.json"
    facts = json.loads(card.read_text())
    write_sealed(card, facts | {"arguments": facts["arguments"] | {"named_from": "outline"}})
    assert main([]) == 0 and run.id not in capsys.readouterr().out, "its outline shows where it reads"
    assert main([run.id]) == 1 and "named from its outline" in capsys.readouterr().err
    write_sealed(card, facts | {"input": facts["input"] | {"view": "levelled"}})
    assert main([run.id]) == 1 and "trained on 'levelled' images" in capsys.readouterr().err
    write_sealed(card, facts)
    (run.metrics_folder / METRICS).unlink()
    assert main([run.id]) == 1 and "has no record" in capsys.readouterr().err
    assert main(["nobody"]) == 1

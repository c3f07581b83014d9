"""How sure a saved classifier is of its training images: the table names none of them."""

import numpy as np
import pandas as pd
import pytest

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.index import read_manifest
from models import CustomCNN
from utils.evaluation.classification import evaluate, prediction_table
from utils.recipes import get_recipe
from utils.report import on_training
from utils.report.records import load_evidence, save_run
from utils.run import Run
from utils.training.loop import Fit

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@pytest.fixture
def saved(roots):
    """Weights of an untrained CustomCNN by patient on the small phantom, and its record in the evidence."""
    run, split = Run(dataset="phantom", split="patient", image_size=64), make_split("phantom", "patient")
    probabilities = np.full((len(split.test), 4), 0.25)
    table = prediction_table("phantom", split.test, split.test_groups, CLASSES, probabilities)
    fit, result = Fit(pd.DataFrame({"epoch": [1], "seconds": [1.0]}), 1), evaluate(table, CLASSES, 10)
    save_run(run, result, table, model=CustomCNN(image_size=64), recipe=get_recipe("s2", "CustomCNN"), fit=fit)
    return run.weights_folder / "model.safetensors"


def test_the_training_images_are_asked_and_none_is_named(saved):
    assert on_training.main([saved.parent.name]) == 0
    evidence = load_evidence()
    table = on_training.read_training(evidence, saved.parent.name)
    rows = make_split("phantom", "patient", 0, val_fraction=get_recipe("s2", "CustomCNN").val_fraction, seed=0).train
    assert sorted(table.label) == sorted(read_manifest("phantom").label.iloc[rows])
    assert not set(table) - {"label", "predicted"} - {f"p_{c}" for c in set(table.label)}, "no name of an image"
    probabilities = table.filter(like="p_")
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert (probabilities.idxmax(axis=1).str.removeprefix("p_") == table.predicted).mean() > 0.99  # but for rounding
    assert table.equals(table.sort_values(list(table), ignore_index=True))


def test_without_a_record_on_the_present_folds_nobody_is_asked(saved):
    path = load_evidence().path(saved.parent.name) / "metrics.json"
    assert on_training.read_training(load_evidence(), saved.parent.name) is None
    path.unlink()
    with pytest.raises(DataError, match="has no record of"):
        on_training.measure(load_evidence(), saved)

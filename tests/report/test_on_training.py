"""How sure a saved classifier is of its training images: the table names none of them."""

import numpy as np
import pytest
from saved_model import save_model
from whole_records import whole

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.index import folds_digest, read_manifest
from utils.report import on_training
from utils.report.records import load_evidence, run_folder, write_record
from utils.run import Run


@pytest.fixture
def saved(roots):
    """Weights of an untrained CustomCNN by patient on the small phantom, and its record in the evidence."""
    weights = save_model("phantom")
    run = Run(dataset="phantom", split="patient", model="CustomCNN", image_size=64)
    record = whole(run, data={"folds": folds_digest("phantom")})
    write_record(run_folder(roots / "saved_metrics", record) / "metrics.json", record)
    return weights


def test_the_training_images_are_asked_and_none_is_named(saved):
    assert on_training.main([saved.parent.name]) == 0
    evidence = load_evidence()
    table = on_training.read_training(evidence, evidence.records[0])
    rows = make_split("phantom", "patient", 0, val_fraction=0.1, seed=0).train
    assert sorted(table.label) == sorted(read_manifest("phantom").label.iloc[rows])
    assert not set(table) - {"label", "predicted"} - {f"p_{c}" for c in set(table.label)}, "no name of an image"
    probabilities = table.filter(like="p_")
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert (probabilities.idxmax(axis=1).str.removeprefix("p_") == table.predicted).mean() > 0.99  # but for rounding
    assert table.equals(table.sort_values(list(table), ignore_index=True))


def test_folds_that_are_no_longer_known_are_refused(saved):
    evidence = load_evidence()
    with pytest.raises(DataError, match="trained on earlier folds"):
        on_training.measure(evidence.records[0] | {"old_folds": True}, saved, evidence.folder)
    assert on_training.read_training(evidence, evidence.records[0]) is None

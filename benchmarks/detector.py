"""Compares the detector with what was asked by default before it: `python benchmarks/detector.py`.

Both are asked about the detector's validation images, which are of the three collections that it was trained on. The
other model was trained on some of those of `brain-tumor-mri`, which favours it. Writes
`saved_metrics/benchmarks/detector.json`, which chapter 9 cites.
"""

import argparse
import json

import numpy as np
import pandas as pd

from datasets.catalog import HEALTHY, REPO
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.evaluation.classification import area_under_roc
from utils.evaluation.intervals import grouped_ci
from utils.files import write_atomically
from utils.predict.model import BATCH, open_model
from utils.report.records import VALIDATION, read_predictions
from utils.saved_models import best
from utils.training.environment import git_revision

BEFORE = "brain-tumor-mri.patient-f0.OutlineClassifier.name-only-pretrained.seed0"


def main() -> None:
    """Ask both and write the AUC of tumour against none, of all images and of those of each collection."""
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    detector, before = open_model(best().name), open_model(BEFORE)
    data = detector.card["trained_on"]["dataset"]
    table = read_predictions(REPO / "saved_metrics/transfer" / data / detector.name / VALIDATION)
    manifest = read_manifest(data)
    rows = pd.Index(manifest.path).get_indexer(table.path)
    data_of = manifest.source.iloc[rows].reset_index(drop=True)
    scores = []
    for model in (detector, before):
        images = ImageDataset(data, rows, image_size=model.preparation.size)
        batches = np.split(np.arange(len(rows)), range(BATCH, len(rows), BATCH))
        probabilities = [model.predict(images.batch(part)["image"]).probabilities for part in batches]
        scores.append(1 - np.concatenate(probabilities)[:, model.healthy])
    sick, scores = np.stack(2 * [table.label.ne(HEALTHY)], 1), np.stack(scores, 1)
    found = {}
    for name in ("all", *data_of.unique()):
        part = np.flatnonzero(data_of.eq(name) | (name == "all"))

        def areas(drawn: np.ndarray, part: np.ndarray = part) -> dict[str, float]:
            both = area_under_roc(sick[part[drawn]], scores[part[drawn]])
            return dict(zip(("detector", "before"), both.tolist(), strict=True))

        found[name] = {"images": len(part), "tumours": int(sick[part, 0].sum())}
        found[name] |= grouped_ci(table.group.iloc[part], areas, trials=dict.fromkeys(("detector", "before")))
    path = REPO / "saved_metrics/benchmarks/detector.json"
    write_atomically(path, json.dumps({"git": git_revision(), "AUC": found}, indent=1) + "\n")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""A saved model is asked, as by a reader, about images of every kind, and what it answers is counted."""

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from datasets import catalog
from datasets.catalog import HEALTHY, DataError
from datasets.labels import viewed
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest, require
from utils.evaluation.classification import FEWEST
from utils.predict import out_of_distribution
from utils.predict.calibration import share
from utils.predict.model import SavedModel
from utils.predict.out_of_distribution import X_RAYS
from utils.predict.prepare import find
from utils.predict.verdict import LIKELY, NONE, UNDECIDED, ask
from utils.report.records import load_evidence, write_record
from utils.report.tables.common import matching
from utils.run import output_root
from utils.saved_models import CARD, read_card, write_card
from utils.training.environment import git_revision

PHANTOM = "phantom"
SHOWN = {"tumours": True, "healthy": False}  # which images of a set are asked about → whether they show a tumour
NEW = (("navoneel", "tumours"), ("navoneel", "healthy"), ("brain-tumor-44c", "healthy"))  # whose tumours are others


def kinds(home: str, folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """What is asked about, and the files of it: images that the data set `home` has no relative of, and what no model
    for brains should answer about; those that are no files of a publisher are written to `folder`."""
    for name, which in NEW:
        if name in catalog.get(home).joins:
            continue
        table = read_manifest(name).iloc[make_split(home, "external", test_on=name).test]
        paths = table.path[viewed(table.label, "tumour").ne(HEALTHY) == SHOWN[which]]
        yield f"new {which} of {name}", [require(name) / "raw" / path for path in paths]
    manifest = read_manifest(PHANTOM)
    for which, tumour in SHOWN.items():
        rows = np.flatnonzero(manifest.published_split.eq("test") & (manifest.label.ne(HEALTHY) == tumour))
        read = ImageDataset(PHANTOM, rows, image_size=catalog.get(PHANTOM).size)
        yield f"{PHANTOM}, {which}", _written(folder / which, read.batch(range(len(rows)))["image"][:, 0].numpy())
    yield X_RAYS, out_of_distribution.files(out_of_distribution.FILES[X_RAYS])
    for name, make in out_of_distribution.GENERATED.items():
        yield name, _written(folder / name, [raw.image for raw in make()])


def _written(folder: Path, images: np.ndarray | list[np.ndarray]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{i:03d}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    return paths


def note(folder: Path, asked: Mapping[str, Mapping[str, Any]]) -> None:
    """Put on the card of the model in `folder` its verdicts on new images, where enough were asked about; and of a
    joined set the AUC of models made the same way in the source that each was trained without."""
    card, kept = read_card(folder / CARD), {}
    kept["survey"] = {kind: one for kind, one in asked.items() if kind.startswith("new ") and one["images"] >= FEWEST}
    same = {name: card["trained_on"][name] for name in ("dataset", "model", "recipe", "image_size")}
    if catalog.get(same["dataset"]).joins:
        runs = matching(load_evidence().runs, split="source", **same)
        ends = {"tumour_auc": "value", "tumour_auc_low": "low", "tumour_auc_high": "high"}
        scores = runs.set_index(runs.tested.str.removeprefix("without "))[[*ends]].rename(columns=ends).astype(float)
        kept["left_out"] = scores.to_dict("index")
    write_card(folder, card | kept)


def survey(model: SavedModel) -> Path:
    """Ask a `model` of single images; returns the path of the record: of each of the `kinds` the share of each verdict,
    and of images that are flagged as unlike the training images or refused; `note` puts some on its card. `DataError`
    where a data set is missing."""
    facts = {"model": model.name, "sha256": model.card["sha256"], "threshold": model.threshold, "git": git_revision()}
    asked = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, paths in kinds(model.card["trained_on"]["dataset"], Path(folder)):
            verdicts, flags = [], []
            for scan in tqdm(find(paths, model.preparation.channels)[0], kind, disable=None, leave=False):
                try:
                    answer = ask(model, scan).answer
                    verdicts.append(answer.verdict)
                    flags.append(bool(answer.unlike and answer.unlike["found"]))
                except DataError:
                    verdicts.append("refused")
                    flags.append(True)
            counted = {name: share([one == name for one in verdicts]) for name in (LIKELY, NONE, UNDECIDED)}
            asked[kind] = {"images": len(flags), **counted, "flagged or refused": share(flags)}
    note(model.folder, asked)
    path = output_root() / "saved_metrics/survey" / f"{model.name}.json"
    write_record(path, facts | {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "asked": asked})
    return path

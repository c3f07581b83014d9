"""`python -m utils.report.dose DATASET …`: accuracy by how many images of a test patient were trained on.

Writes `saved_metrics/dose/NAME.csv`, a row a method, dose and group, and `NAME.json` beside it: what was run on what.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from datasets import catalog
from datasets.reading import read_table
from datasets.splitting import groups_of, make_split
from datasets.store.images import ImageDataset
from datasets.store.index import fingerprint, folds_digest, read_manifest
from models import build_backbone
from models.weights import WeightsError
from utils.commands import errors_in_one_line
from utils.evaluation.baselines import frozen_features
from utils.evaluation.dose import DOSES, FOLDS, arms, response
from utils.files import write_atomically
from utils.report.records import Evidence, write_record
from utils.report.tables.common import format_ci
from utils.run import PIXELS, output_root
from utils.training.environment import git_revision
from utils.training.loop import make_accelerator

STRENGTH = 1e-3  # scikit-learn's C of the probe in every arm; committed probes mostly chose .01 by validation
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]  # training rows, test rows → predicted labels


def methods(name: str, labels: np.ndarray, args: argparse.Namespace) -> dict[str, Predict]:
    """What is trained at every dose: 1-NN on pixels, and with a backbone a linear probe of its features."""
    rows = np.arange(len(labels))
    pixels = ImageDataset(name, rows, image_size=PIXELS).batch(rows)["image"].flatten(1).numpy().astype(np.float32)

    def fitted(features: np.ndarray, make: Callable[[], object]) -> Predict:
        return lambda train, test: make().fit(features[train], labels[train]).predict(features[test])

    found = {"1-NN": fitted(pixels, lambda: KNeighborsClassifier(n_neighbors=1, algorithm="brute"))}
    if args.backbone:
        network = build_backbone(args.backbone, pretrained=args.weights, image_size=args.image_size)
        features = frozen_features(
            network.to(make_accelerator().device), ImageDataset(name, rows, image_size=args.image_size)
        )
        probe = lambda: make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=300))  # noqa: E731
        found[f"probe of {args.backbone}"] = fitted(features, probe)
    return found


def measure(name: str, predictors: dict[str, Predict], draws: int) -> pd.DataFrame:
    """A row a method, dose and group: images tested over all folds and draws, and how many were right. Beside the doses
    `FOLDS`: whole patient folds, and as many folds drawn image by image, each of which tests every image once."""
    labels, groups = read_manifest(name).label.to_numpy(), groups_of(name, read_manifest(name))
    splits = [make_split(name, "patient", fold) for fold in range(catalog.get(name).folds)]
    by_image = StratifiedKFold(len(splits), shuffle=True, random_state=0).split(groups, labels)
    tried = [(FOLDS[0], split.train_val, split.test) for split in splits] + [(FOLDS[1], *rows) for rows in by_image]
    for split in splits:
        for draw in range(draws):
            test, trained_on = arms(split, labels, np.random.default_rng(draw))
            tried += [(dose, train, test) for dose, train in trained_on.items()]
    rows = []
    for dose, train, test in tqdm(tried, desc=name, disable=None):
        for method, predict in predictors.items():
            right = predict(train, test) == labels[test]
            rows.append(pd.DataFrame({"method": method, "dose": dose, "group": groups[test], "right": right}))
    table = pd.concat(rows).assign(images=1)
    return table.groupby(["method", "dose", "group"], sort=False)[["images", "right"]].sum().reset_index()


def read_doses(evidence: Evidence, doses: Sequence[str] = tuple(DOSES)) -> dict[str, pd.DataFrame]:
    """Data set → `response` to the doses, or to `FOLDS`, that were measured on it, real ones alone."""
    paths = {path.stem: path for folder in reversed(evidence.folders) for path in sorted(folder.glob("dose/*.csv"))}
    numbers = {"images": int, "right": int}
    tables = {name: read_table(path, needs=["method", "dose", "group"], dtype=numbers) for name, path in paths.items()}
    return {name: response(table, doses) for name, table in tables.items() if name != "phantom"}


@errors_in_one_line(WeightsError, ValueError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: measure how accuracy grows with the number of images of a test patient that were trained on."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.dose", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="cheng, brain-tumor-mri, phantom")
    parser.add_argument("--backbone", default="", help="also a linear probe of it, a name in models/backbones.py")
    parser.add_argument("--weights", default="imagenet", help="a weight file, or 'imagenet' for the hub (imagenet)")
    parser.add_argument("--image-size", type=int, default=224, metavar="N", help="side of its input in pixels (224)")
    parser.add_argument("--draws", type=int, default=10, metavar="N", help="draws of the test images a fold (10)")
    args = parser.parse_args(argv)
    for name in args.datasets:
        labels = read_manifest(name).label.to_numpy()
        counts = measure(name, methods(name, labels, args), args.draws)
        folder = output_root() / "saved_metrics/dose"
        write_atomically(folder / f"{name}.csv", counts.to_csv(index=False))
        record = {"dataset": name, "data": fingerprint(name) | {"folds": folds_digest(name)}, "draws": args.draws}
        record |= {"backbone": args.backbone, "image_size": args.image_size, "C": STRENGTH, "git": git_revision()}
        write_record(folder / f"{name}.json", record | {"finished": datetime.now(UTC).isoformat(timespec="seconds")})
        for row in pd.concat([response(counts), response(counts, FOLDS)]).itertuples():
            gain = f", {row.gain.points()}" if row.gain else ""
            print(f"{name}, {row.method}, dose {row.dose}: {format_ci(row.accuracy)} %{gain}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m utils.report.dose DATASET --method METHOD`: accuracy by how many images of a test patient were trained on.

Writes `saved_metrics/dose/NAME.METHOD.csv`, a row a dose and group, and a `.json` beside it: what was run on what.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from accelerate.utils import set_seed
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from datasets import catalog
from datasets.commands import errors_in_one_line
from datasets.reading import read_table
from datasets.splitting import groups_of, make_split
from datasets.store.images import ImageDataset
from datasets.store.index import fingerprint, folds_digest, read_manifest
from models import CustomCNN
from models.weights import WeightsError
from utils.evaluation.baselines import pretrained_features
from utils.evaluation.dose import DOSES, FOLDS, arms, response
from utils.evaluation.predict import predict
from utils.files import write_atomically
from utils.recipes import get_recipe
from utils.report.records import Evidence, read_whole, write_record
from utils.report.tables.common import format_ci
from utils.run import PIXELS, output_root
from utils.training.environment import git_revision
from utils.training.loop import fit
from utils.training.tasks import Classification

STRENGTH = 1e-3  # scikit-learn's C of the probe in every arm; committed probes mostly chose .01 by validation
Predict = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # training rows, test rows, seed → predicted labels


def nearest(name: str, labels: np.ndarray, args: argparse.Namespace) -> Predict:
    """The label of the most similar training image, on pixels."""
    rows = np.arange(len(labels))
    pixels = ImageDataset(name, rows, image_size=PIXELS).batch(rows)["image"].flatten(1).numpy().astype(np.float32)
    model = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
    return lambda train, test, seed: model.fit(pixels[train], labels[train]).predict(pixels[test])


def probe(name: str, labels: np.ndarray, args: argparse.Namespace) -> Predict:
    """Logistic regression on the features of a frozen pretrained backbone."""
    features = pretrained_features(name, args.backbone, args.weights, args.image_size)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=300))
    return lambda train, test, seed: model.fit(features[train], labels[train]).predict(features[test])


def custom_cnn(name: str, labels: np.ndarray, args: argparse.Namespace) -> Predict:
    """S2's network from random weights, by its recipe without a validation set; every draw has a seed of its own."""
    recipe, classes = get_recipe("s2-own-cut", "CustomCNN", epochs=args.epochs), np.array(catalog.get(name).classes)

    def trained(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        set_seed(seed)
        net = CustomCNN(num_classes=len(classes), image_size=PIXELS)
        task = Classification(len(classes), 3, recipe.augmentation)
        data, none, asked = (ImageDataset(name, rows, image_size=PIXELS) for rows in (train, train[:0], test))
        with tempfile.TemporaryDirectory() as folder:
            fit(net, task, data, none, recipe, folder=folder, seed=seed)
        return classes[predict(net, task, asked).argmax(1)]

    return trained


METHODS = {"1-NN": nearest, "probe": probe, "CustomCNN": custom_cnn}
OPTIONS = {"1-NN": (), "probe": ("backbone", "image_size"), "CustomCNN": ("epochs",)}  # of each, as a record has them


def measure(name: str, predicted: Predict, draws: int, folds: int | None = None) -> pd.DataFrame:
    """A row a dose and group: images tested over all draws and the first `folds` folds (all), and how many were right.
    With all folds, beside the doses, `FOLDS`: whole patient folds, and as many folds drawn image by image, each of
    which tests every image once."""
    labels, groups = read_manifest(name).label.to_numpy(), groups_of(name, read_manifest(name))
    splits, tried = [make_split(name, "patient", fold) for fold in range(folds or catalog.get(name).folds)], []
    if not folds:
        by_image = StratifiedKFold(len(splits), shuffle=True, random_state=0).split(groups, labels)
        tried += [(FOLDS[0], split.train_val, split.test, 0) for split in splits]
        tried += [(FOLDS[1], *rows, 0) for rows in by_image]
    for split in splits:
        for draw in range(draws):
            test, trained_on = arms(split, labels, np.random.default_rng(draw))
            tried += [(dose, train, test, draw) for dose, train in trained_on.items()]
    rows = []
    for dose, train, test, seed in tqdm(tried, desc=name, disable=None):
        right = predicted(train, test, seed) == labels[test]
        rows.append(pd.DataFrame({"dose": dose, "group": groups[test], "right": right, "images": 1}))
    return pd.concat(rows).groupby(["dose", "group"], sort=False)[["images", "right"]].sum().reset_index()


def read_doses(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Data set → `response` of all methods to the doses that were measured on it, real ones alone."""
    paths = {path.stem: path for folder in reversed(evidence.folders) for path in sorted(folder.glob("dose/*.csv"))}
    numbers, found = {"images": int, "right": int}, {}
    for stem, path in sorted(paths.items()):
        name, method = stem.split(".")
        read_whole(path.with_suffix(".json"))  # with which the table is sealed
        table = read_table(path, needs=["dose", "group", *numbers], dtype=numbers)
        if name != "phantom" and set(DOSES) <= set(table.dose):
            found.setdefault(name, []).append(response(table, method))
    return {name: pd.concat(each, ignore_index=True) for name, each in found.items()}


@errors_in_one_line(WeightsError, ValueError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: measure how accuracy grows with the number of images of a test patient that were trained on."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.dose", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="cheng, brain-tumor-mri, phantom")
    parser.add_argument("--method", choices=METHODS, default="1-NN", help="what is trained in every arm (1-NN)")
    parser.add_argument("--draws", type=int, default=10, metavar="N", help="draws of the test images a fold (10)")
    parser.add_argument("--folds", type=int, metavar="N", help="the first N patient folds alone, without whole folds")
    parser.add_argument("--backbone", default="ResNet50-v2", help="of the probe, see models/backbones.py (ResNet50-v2)")
    parser.add_argument("--weights", default="imagenet", help="of it: a file, or 'imagenet' for the hub (imagenet)")
    parser.add_argument("--image-size", type=int, default=224, metavar="N", help="side of its input in pixels (224)")
    parser.add_argument("--epochs", type=int, default=50, metavar="N", help="of CustomCNN (50)")
    args = parser.parse_args(argv)
    for name in args.datasets:
        predicted = METHODS[args.method](name, read_manifest(name).label.to_numpy(), args)
        counts = measure(name, predicted, args.draws, args.folds)
        path = output_root() / f"saved_metrics/dose/{name}.{args.method}.csv"
        write_atomically(path, counts.to_csv(index=False))
        record = {"dataset": name, "data": fingerprint(name) | {"folds": folds_digest(name)}}
        record |= {key: getattr(args, key) for key in ("method", "draws", "folds", *OPTIONS[args.method])}
        record |= {"git": git_revision(), "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        write_record(path.with_suffix(".json"), record)
        found = [response(counts, args.method, doses) for doses in (tuple(DOSES), FOLDS) if {*doses} <= {*counts.dose}]
        for row in pd.concat(found).itertuples():
            gain = f", {row.gain.points()}" if row.gain else ""
            print(f"{name}, {row.method}, dose {row.dose}: {format_ci(row.accuracy)} %{gain}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

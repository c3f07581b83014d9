"""`python -m utils.report.maps [DATASET …]`: S0's map of validation and test images, before and after a new split.

Coordinates and labels alone are written, `saved_metrics/curation/NAME.map.csv.gz`: they lead to no image. The map is
of grey values: the features of a network would know the patients that it was trained on, of one split or the other.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from datasets import catalog
from datasets.catalog import DataError
from datasets.reading import read_table
from utils.commands import errors_in_one_line
from utils.evaluation.embeddings import outliers, pixel_features, umap_of
from utils.report.records import REMEDY, write_predictions
from utils.run import Run, output_root
from utils.training.data import load_data

DATASETS = ("brain-tumor-mri", "sartaj")  # those with a published split to compare with
SPLITS = {"published": "published split", "patient": "by patient, fold 0"}
SIDE, OUTLIERS, KIND = 64, 10, "glioma"
COLUMNS = ("split", "set", "label", "x", "y", "outlier")


def map_of(dataset: str, split: str) -> pd.DataFrame:
    """Where UMAP, fitted on the validation images of a split, puts these and the test images; a row an image, sorted.

    `COLUMNS`: `outlier` is the rank of the `OUTLIERS` test images of `KIND` that lie farthest from its training images,
    farthest 1, else 0. Raises `DataError` for a data set without `KIND`, or without one of the splits.
    """
    if KIND not in catalog.get(dataset).classes:
        raise DataError(f"'{dataset}' has no class '{KIND}', whose outliers the map numbers")
    data = load_data(Run(dataset=dataset, split=split, image_size=SIDE))
    features = {name: pixel_features(getattr(data, name)) for name in ("train", "val", "test")}
    labels = {name: values.to_numpy() for name, values in data.labels.items()}
    far = outliers(features["train"], labels["train"], features["test"], labels["test"], KIND, OUTLIERS)
    val, test = (
        pd.DataFrame(xy, columns=["x", "y"]).assign(split=split, set=name, label=labels[name], outlier=0)
        for name, xy in zip(("val", "test"), umap_of(features["val"], features["test"]), strict=True)
    )
    test.loc[far.test, "outlier"] = np.arange(1, len(far) + 1)
    return pd.concat([val, test])[list(COLUMNS)].round(3).sort_values(["set", "label", "x", "y"], ignore_index=True)


def map_path(folder: Path, dataset: str) -> Path:
    """Where the map of a data set lies in a folder of evidence."""
    return folder / "curation" / f"{dataset}.map.csv.gz"


def read_map(folder: Path, dataset: str) -> pd.DataFrame | None:
    """The committed map of a data set, None where there is none; raises `DataError` for a damaged file."""
    path = map_path(folder, dataset)
    return read_table(path, REMEDY, COLUMNS, keep_default_na=False) if path.is_file() else None


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: map real data sets as S0 did, and write the coordinates into saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.maps", description=main.__doc__)
    parser.add_argument("datasets", nargs="*", default=DATASETS, metavar="DATASET", help=", ".join(DATASETS))
    for name in tqdm(parser.parse_args(argv).datasets, unit="data set"):
        table = pd.concat([map_of(name, split) for split in SPLITS], ignore_index=True)
        path = map_path(output_root() / "saved_metrics", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, table)
        tqdm.write(f"{path.relative_to(output_root())}: {len(table)} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())

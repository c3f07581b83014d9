"""How accuracy grows with the share of a patient that was trained on: the experiment that isolates data leakage.

Half of each test patient's images are the test set. Training sets of one size and one mix of classes differ in how many
of the other half they hold; for each that comes in, an image of the same class and of another patient goes out. So the
test images, the number of training images and the classes are the same in all arms, and what differs is the dose.
`docs/leakage.md` gives the protocol.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from datasets.splitting import Split
from utils.evaluation.compare import Difference
from utils.evaluation.intervals import mean_interval

DOSES = {"0": 0, "1": 1, "2": 2, "4": 4, "all": None}  # images of each test patient that are trained on
FOLDS = ("folds by patient", "folds by image")  # beside the doses: the usual way to split, which tests every image once


def arms(split: Split, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The test rows, and the training rows of each dose, drawn from a patient fold.

    Args:
        split: of a patient fold; a group with one test image cannot be on both sides, and is left out.
        labels: of all rows of the manifest.

    Returns:
        Rows that are tested under every dose; dose → rows that are trained on, as many of each class under every dose.
    """
    tested, spare = [], []
    of_group = pd.Series(split.test).groupby(split.test_groups)
    for _, rows in of_group:
        shuffled = rng.permutation(rows.to_numpy())
        half = len(shuffled) // 2
        if half:
            tested.append(shuffled[half:])
            spare.append(shuffled[:half])
    others = rng.permutation(split.train_val)
    drawn = {}
    for dose, most in DOSES.items():
        added = np.concatenate([rows[:most] for rows in spare])
        removed = [others[labels[others] == c][: (labels[added] == c).sum()] for c in np.unique(labels[added])]
        drawn[dose] = np.concatenate([np.setdiff1d(others, np.concatenate([*removed, []])), added]).astype(int)
        counts = [np.unique(labels[rows], return_counts=True)[1].tolist() for rows in (drawn["0"], drawn[dose])]
        if counts[0] != counts[1]:
            raise ValueError(f"dose {dose}: too few images of other patients to take out")
    return np.concatenate(tested), drawn


def response(counts: pd.DataFrame, method: str, doses: Sequence[str] = tuple(DOSES)) -> pd.DataFrame:
    """Accuracy of a method by dose and its difference to the first of `doses`, or of `FOLDS`.

    Args:
        counts: a row a dose and group: `images` that were tested, over all draws, and how many were `right`.

    Returns:
        A row a dose: `method`, `accuracy` {value, low, high} and `gain`, a `Difference` (None of the first), both with
        intervals over groups.
    """
    of = counts[counts.dose.isin(doses)]
    right, images = (of.pivot(index="group", columns="dose", values=name) for name in ("right", "images"))
    if images.nunique(axis=1, dropna=False).gt(1).any():
        raise ValueError(f"{method}: its doses were tested on different images")
    shares, weights, rows = right / images, images[doses[0]], []  # groups count by their images
    for dose in doses:
        accuracy = mean_interval(shares[dose], right.index, share=True, weights=weights)
        gain = mean_interval(shares[dose] - shares[doses[0]], right.index, weights=weights)
        gain = None if dose == doses[0] else Difference(**gain)
        rows.append({"method": method, "dose": dose, "accuracy": accuracy, "gain": gain})
    return pd.DataFrame(rows)

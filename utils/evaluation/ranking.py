"""The area under the ROC curve, of one network or of the networks of several folds."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from utils.evaluation.intervals import groups_with


def area_under_roc(positive: np.ndarray, scores: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
    """Share of the pairs of a positive and a negative row that `scores` rank right, a tie counted half (Mann-Whitney).

    Networks of different folds put their scores on different scales. So where folds are joined, only pairs of one fold
    are counted (Forman and Scholz 2010, doi:10.1145/1882471.1882479): the mean of the folds, weighted by their pairs.

    Args:
        positive: N×K truth values; scores: N×K; fold: of each row, one for all where nothing is said.

    Returns:
        K areas; NaN in a column without a pair.
    """
    fold = np.zeros(len(scores)) if fold is None else fold
    right = pairs = np.zeros(scores.shape[1])
    for one in np.unique(fold):
        yes, ranks = positive[fold == one], rankdata(scores[fold == one], axis=0)
        count = yes.sum(0)
        # A positive's rank counts the positives below it as well: 1 to `count`, whatever their order.
        right = right + (ranks * yes).sum(0) - count * (count + 1) / 2
        pairs = pairs + count * (len(yes) - count)
    return np.divide(right, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def groups_ranked(groups: Sequence, positive: np.ndarray, fold: np.ndarray) -> int:
    """In how many groups an area is counted, for `intervals.of_share`: as many as there are pairs of one fold that
    share no group.

    Args:
        positive: N truth values.
    """
    sides = [[groups_with(groups, (fold == one) & side) for side in (positive, ~positive)] for one in np.unique(fold)]
    return sum(map(min, sides))

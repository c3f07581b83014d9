"""The area under the ROC curve is scikit-learn's within a fold, and never compares two networks."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from utils.evaluation.classification import area_under_roc, evaluate, groups_ranked


def drawn(rows=60, columns=3, seed=0):
    """Truth values and scores of few digits, so that some are equal."""
    rng = np.random.default_rng(seed)
    positive = rng.random((rows, columns)) < 0.4
    return positive, (rng.random((rows, columns)) + 0.3 * positive).round(1)


def test_as_scikit_learn_ties_and_all():
    positive, scores = drawn()
    wanted = [roc_auc_score(positive[:, k], scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(area_under_roc(positive, scores), wanted)


def test_without_a_pair_there_is_none():
    positive, scores = drawn()
    positive[:, 0], positive[:, 1] = True, False
    assert np.isnan(area_under_roc(positive, scores)).tolist() == [True, True, False]


def test_a_fold_counts_by_its_pairs_and_its_scale_not_at_all():
    positive, scores = drawn()
    fold = np.arange(len(scores)) // 20
    parts, pairs = [], []
    for one in range(3):
        rows = fold == one
        parts.append([roc_auc_score(positive[rows, k], scores[rows, k]) for k in range(3)])
        pairs.append(positive[rows].sum(0) * (~positive[rows]).sum(0))
    wanted = np.average(parts, axis=0, weights=pairs)
    for offset in (0, 10):
        moved = scores + offset * fold[:, None]
        np.testing.assert_allclose(area_under_roc(positive, moved, fold), wanted)
    assert not np.allclose(area_under_roc(positive, moved), wanted), "joined, the offset ranks"


def test_groups_of_both_kinds_within_a_fold():
    groups = np.array(list("aabbccdd"))
    positive = np.array([1, 0, 1, 1, 0, 0, 0, 0], bool)
    assert groups_ranked(groups, positive, np.zeros(8)) == 2  # a and b are positive; a, c and d negative
    assert groups_ranked(groups, positive, np.repeat([0, 1], 4)) == 1  # in the first fold a alone, in the second none


def test_a_classifier_that_says_the_shares_of_its_training_set_has_half():
    """Each fold's majority baseline says another share; joined, that looked like worse than chance."""
    label = np.array(list("ab" * 30))
    fold = np.repeat([0, 1, 2], 20)
    share = np.array([0.4, 0.5, 0.6])[fold]
    label[:6] = "a"  # where the test set has more of a class, training has fewer
    table = pd.DataFrame({"label": label, "group": range(60), "predicted": "a", "p_a": share, "p_b": 1 - share})
    joined, within = (evaluate(table, ("a", "b"), 20, fold=f)["metrics"]["macro_auc"]["value"] for f in (None, fold))
    assert joined < 0.5 and within == 0.5

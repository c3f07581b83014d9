"""Duplicates, links and splits: what is planted is found and nothing else, odd sets are handled."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from utils import curation, thumbnails
from utils.curation import close_hashes, curate, duplicate_pairs, facts, identical_pairs, link, near_pairs, s0_cleaning
from utils.thumbnails import TRANSFORMS, collect, look, traits


def picture(seed, shape=(90, 110)):
    """A smooth random picture: unlike any other, and unlike itself when turned."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 9)
    return np.uint8(255 * (noise - noise.min()) / np.ptp(noise))


def pictures(images, labels=None, **columns):
    """`Pictures` of arrays, with a manifest of made-up paths."""
    names = [f"{i}.png" for i in range(len(images))]
    known = {"published_split": "train", "patient": "", "sha256": names, "label": labels or "glioma"} | columns
    return collect(pd.DataFrame({"path": names} | known, index=range(len(images))), [traits(i) for i in images])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_found_and_named(name):
    original = picture(0)
    turned = np.ascontiguousarray(TRANSFORMS[name](original))
    found = near_pairs(pictures([turned, original, picture(1)]))
    assert found[["i", "j", "transform"]].to_numpy().tolist() == [[0, 1, name]]
    linked = link(pictures([turned]), pictures([picture(1), original]))
    assert linked.loc[0, ["reference", "transform"]].tolist() == [1, name]


def test_no_transform_is_another():
    corner = np.arange(12).reshape(3, 4)
    assert len({TRANSFORMS[n](corner).tobytes() + bytes(TRANSFORMS[n](corner).shape) for n in TRANSFORMS}) == 8


def test_hashes_within_a_distance_equal_brute_force():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2**63, n, dtype=np.uint64) for n in (300, 400))
    flips = np.uint64(1) << rng.integers(0, 64, (200, 5), dtype=np.uint64)
    b[:200] = a[:200] ^ np.bitwise_or.reduce(flips, axis=1)  # 1 to 5 bits away
    for bits in (0, 4, 5):
        wanted = {(i, j) for i, j in product(range(300), range(400)) if int(a[i] ^ b[j]).bit_count() <= bits}
        assert set(zip(*close_hashes(a, b, bits), strict=True)) == wanted
    assert len(wanted) >= 200


def test_planted_duplicates_are_found_and_nothing_else(roots):
    found = look("phantom")
    table = found.table
    original = table.duplicate_of.where(table.duplicate_of != "", table.path)
    wanted = {(i, j) for rows in table.groupby(original).groups.values() for i, j in product(rows, rows) if i < j}
    pairs = near_pairs(found)
    assert wanted, "the phantom has planted copies"
    assert set(zip(pairs.i, pairs.j, strict=True)) == wanted


def test_wrong_labels_of_copies_and_patients_across_the_split_are_found(roots):
    found = look("phantom")
    table = curate(found)
    original = found.table.duplicate_of.where(found.table.duplicate_of != "", found.table.path)
    wanted = found.table.label.groupby(original).transform("nunique") > 1
    assert (table.label_conflict == 1).tolist() == wanted.tolist()
    for _, members in found.table.groupby("patient").groups.items():
        assert table.group[members].nunique() == 1
    crossing = found.table.groupby("patient").published_split.nunique() > 1
    assert crossing.any(), "patients of the phantom cross its published split"
    assert table.groupby("group").fold.nunique().max() == 1, "no group crosses folds"


def test_odd_pictures_are_handled():
    odd = [np.zeros((50, 40), np.uint8), np.full((9, 9), 200, np.uint8), np.array([[7]], np.uint8), picture(0)]
    found = pictures(odd)
    assert near_pairs(found).empty, "pictures of one grey value look like nothing, not like each other"
    assert (link(found, pictures([picture(0)])).reference == [-1, -1, -1, 0]).all()
    twins = pictures([odd[0], odd[0]])
    assert duplicate_pairs(twins).kind.tolist() == ["pixels"], "identical they still are"


def test_an_empty_set_and_a_set_without_labels():
    empty = pictures([])
    assert near_pairs(empty).empty and len(s0_cleaning(empty)) == 0
    assert (link(pictures([picture(0)]), empty).reference == -1).all()
    unlabelled = curate(pictures([picture(i) for i in range(12)], labels=[""] * 12))
    assert sorted(unlabelled.fold.unique()) == [0, 1, 2, 3, 4]
    assert not unlabelled.label_conflict.any()


def test_identical_keys_make_one_group():
    assert identical_pairs(["a", "b", "a", "c", "a"]).to_numpy().tolist() == [[0, 2], [0, 4]]
    assert curation.components(5, np.array([0, 0]), np.array([2, 4])).tolist() == [0, 1, 0, 2, 0]


def test_s0_keeps_one_picture_a_hash_train_before_test():
    found = pictures([picture(0), picture(1), picture(0)], published_split=["test", "train", "train"])
    assert s0_cleaning(found).tolist() == [1, 2]


def test_a_link_to_another_label_is_a_conflict_and_brings_the_patient():
    reference = pictures([picture(i) for i in range(10)], patient=[f"p{i // 2}" for i in range(10)])
    found = pictures([picture(i) for i in range(11)], labels=["glioma"] * 3 + ["pituitary"] + ["glioma"] * 7)
    table = curate(found, reference)
    assert table.label_conflict.tolist() == [0, 0, 0, 1] + [0] * 7
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(10)] + [""]
    assert table.groupby("patient").group.nunique().drop("").eq(1).all()
    assert facts(found, table)["linked images"] == 10


def test_the_same_seed_gives_the_same_table(roots):
    found = look("phantom")
    assert curate(found).to_csv() == curate(look("phantom")).to_csv()


def test_thumbnails_do_not_depend_on_size():
    big, small = traits(picture(3, (256, 256)))[0], traits(picture(3, (256, 256))[::2, ::2])[0]
    assert (big * small).sum() > 0.99
    assert thumbnails.SIDE == 64

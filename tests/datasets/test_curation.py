"""Duplicates, links and groups: what is planted is found and nothing else."""

from itertools import product

import imagehash
import numpy as np
import pytest
from PIL import Image
from smooth_images import image, thumbnails_of

from datasets.curation import duplicates, likeness, links, split_table, thumbnails
from datasets.curation.duplicates import close_hashes, duplicate_pairs, identical_pairs, near_pairs, s0_cleaning
from datasets.curation.links import link
from datasets.curation.split_table import curate, facts
from datasets.curation.thumbnails import look, phashes, traits
from datasets.splitting import make_split
from datasets.store.index import read_manifest
from datasets.transforms import TRANSFORMS
from utils.evaluation.baselines import nearest_thumbnails


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_found_and_named(name):
    original = image(0)
    turned = np.ascontiguousarray(TRANSFORMS[name](original))
    found = near_pairs(thumbnails_of([turned, original, image(1)]))
    assert found[["i", "j", "transform"]].to_numpy().tolist() == [[0, 1, name]]
    linked = link(thumbnails_of([turned]), thumbnails_of([image(1), original]))
    assert linked.loc[0, ["reference", "transform"]].tolist() == [1, name]


@pytest.mark.parametrize("shape", [(90, 110), (32, 32), (1, 1), (400, 7)])
def test_hashes_are_those_of_imagehash(shape):
    grey = image(4, shape) if min(shape) > 1 else np.array([[9]], np.uint8)
    tiny = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS))
    wanted = [
        int(str(imagehash.phash(Image.fromarray(np.ascontiguousarray(t(tiny))))), 16) for t in TRANSFORMS.values()
    ]
    assert phashes(grey).tolist() == wanted
    assert phashes(grey)[0] == int(str(imagehash.phash(Image.fromarray(grey))), 16)


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


def test_a_near_pair_needs_both_hash_and_correlation():
    found = thumbnails_of([image(0), image(1), image(0)])
    found.hashes[1] = found.hashes[0]  # another image under the same hash
    found.hashes[2, :] = ~found.hashes[0]  # the same image under another hash
    assert near_pairs(found).empty
    assert near_pairs(found, correlation=-1).iloc[0][["i", "j"]].tolist() == [0, 1]


def test_images_alike_are_found_under_every_transform_and_joined():
    original = image(0)
    turned = [np.ascontiguousarray(turn(original)) for turn in TRANSFORMS.values()]
    found = thumbnails_of([*turned, image(1), image(2), image(3), image(4)])
    i, j = duplicates.alike_pairs(found)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == {(a, b) for a in range(8) for b in range(a + 1, 8)}
    table = curate(found)
    assert table.group.nunique() == 5 and table.group[:8].nunique() == 1
    assert not len(split_table.alike_across_folds(found, table))
    assert split_table.alike_across_folds(found, table.assign(fold=[0] * 7 + [1] * 5)).tolist() == list(range(8))


def test_alike_is_what_correlates_at_the_threshold(monkeypatch):
    monkeypatch.setattr(likeness, "BLOCK", 3)  # several blocks, the last one not full
    found = thumbnails_of([image(i // 2) if i % 2 else np.uint8(image(i // 2) * 0.6 + 40) for i in range(8)])
    small = found.packed.reshape(8, -1)
    wanted = {
        (i, j)
        for i, j in product(range(8), range(8))
        if i < j
        and max((np.ascontiguousarray(t(found.packed[[j]])).reshape(-1) @ small[i]) for t in TRANSFORMS.values())
        >= 0.93
    }
    i, j = duplicates.alike_pairs(found)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == wanted >= {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert not len(duplicates.alike_pairs(found, 1.1)[0])


def test_a_group_keeps_its_name_when_another_changes():
    images = [image(i) for i in range(12)]
    before = curate(thumbnails_of(images))
    after = curate(thumbnails_of([*images[:-1], images[0]]))
    assert (before.group[:-1] == after.group[:-1]).all() and after.group[0] == after.group[11]


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
    assert table.groupby("group").fold.nunique().max() == 1


def test_planted_wrong_labels_are_found_and_no_other(roots):
    table = read_manifest("phantom")
    planted = np.flatnonzero(table.true_label != table.label)
    assert len(planted) and links.wrong_labels(table).tolist() == planted.tolist()
    assert not len(links.wrong_labels(table.assign(patient="")))


def test_copies_that_were_turned_are_named_so_and_no_other(roots):
    found = look("phantom")
    pairs, manifest = near_pairs(found), found.table
    copy = np.where(manifest.duplicate_of[pairs.j].to_numpy() == manifest.path[pairs.i].to_numpy(), pairs.j, pairs.i)
    other = np.where(copy == pairs.j, pairs.i, pairs.j)
    direct = manifest.duplicate_of[copy].to_numpy() == manifest.path[other].to_numpy()  # not a copy with a copy
    planted = manifest.kind[copy].eq("transposed-copy").to_numpy()
    assert planted[direct].sum() >= 4, "at least four were planted"
    assert (pairs["transform"].ne("upright").to_numpy() == planted)[direct].all()


def test_odd_images_are_handled():
    odd = [np.zeros((50, 40), np.uint8), np.full((9, 9), 200, np.uint8), np.array([[7]], np.uint8), image(0)]
    found = thumbnails_of(odd)
    assert near_pairs(found).empty, "images of one grey value look like nothing, not like each other"
    assert (link(found, thumbnails_of([image(0)])).reference == [-1, -1, -1, 0]).all()
    twins = thumbnails_of([odd[0], odd[0]])
    assert duplicate_pairs(twins).kind.tolist() == ["pixels"], "identical they still are"


def test_an_empty_set_and_a_set_without_labels():
    empty = thumbnails_of([])
    assert near_pairs(empty).empty and len(s0_cleaning(empty)) == 0
    assert (link(thumbnails_of([image(0)]), empty).reference == -1).all()
    unlabelled = curate(thumbnails_of([image(i) for i in range(12)], labels=[""] * 12))
    assert sorted(unlabelled.fold.unique()) == [0, 1, 2, 3, 4]
    assert not unlabelled.label_conflict.any()


def test_identical_keys_make_one_group():
    assert identical_pairs(["a", "b", "a", "c", "a"]).to_numpy().tolist() == [[0, 2], [0, 4]]
    assert duplicates.components(5, np.array([0, 0]), np.array([2, 4])).tolist() == [0, 1, 0, 2, 0]


def test_s0_keeps_one_image_a_hash_train_before_test():
    found = thumbnails_of([image(0), image(1), image(0)], published_split=["test", "train", "train"])
    assert s0_cleaning(found).tolist() == [1, 2]


def test_a_link_to_another_label_is_a_conflict_and_brings_the_patient():
    reference = thumbnails_of([image(i) for i in range(10)], patient=[f"p{i // 2}" for i in range(10)])
    found = thumbnails_of([image(i) for i in range(11)], labels=["glioma"] * 3 + ["pituitary"] + ["glioma"] * 7)
    table = curate(found, reference)
    assert table.label_conflict.tolist() == [0, 0, 0, 1] + [0] * 7
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(10)] + [""]
    assert table.groupby("patient").group.nunique().drop("").eq(1).all()
    assert facts(found, table)["linked images"] == 10


def test_the_same_seed_gives_the_same_table(roots):
    found = look("phantom")
    assert curate(found).to_csv() == curate(look("phantom")).to_csv()


def test_thumbnails_do_not_depend_on_size():
    big, small = traits(image(3, (256, 256)))[0], traits(image(3, (256, 256))[::2, ::2])[0]
    assert (big * small).sum() > 0.99
    assert thumbnails.SIDE == 64


def test_the_nearest_neighbour_finds_twins(roots):
    found = look("phantom")
    table, seen = nearest_thumbnails(found, "published")
    right = (table.label == table.predicted).to_numpy()
    assert len(table) == len(make_split("phantom").test) and right[seen].mean() > right[~seen].mean()
    table, seen = nearest_thumbnails(found, "patient")
    assert sorted(table.path) == sorted(found.table.path) and not seen.any()


def test_relations_count_what_was_planted(roots):
    found = look("phantom")
    counted = duplicates.relations(found)
    assert list(counted.index) == ["bytes", "pixels", "near"]
    assert (counted["within a class"] + counted["between classes"] == counted.pairs).all()
    assert counted["between training and test set"].sum() > 0

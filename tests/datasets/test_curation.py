"""Duplicates, links and groups: what is planted is found and nothing else; pairs alike are those of brute force."""

from dataclasses import replace
from itertools import product

import cv2
import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from datasets.curation import duplicates, links, split_table, thumbnails
from datasets.curation.duplicates import close_hashes, duplicate_pairs, identical_pairs, near_pairs, pairs_alike
from datasets.curation.duplicates import s0_cleaning as kept_by_s0
from datasets.curation.links import link
from datasets.curation.split_table import curate, facts
from datasets.curation.thumbnails import collect, head, look, phashes, thumbnail, traits
from datasets.splitting import make_split
from datasets.transforms import TRANSFORMS
from utils.evaluation.baselines import nearest_thumbnails


def image(seed, shape=(90, 110)):
    """A smooth random image: unlike any other, and unlike itself when turned."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 9)
    return np.uint8(255 * (noise - noise.min()) / np.ptp(noise))


def thumbnails_of(images, labels=None, **columns):
    """`Thumbnails` of arrays, with a manifest of made-up paths."""
    names = [f"{i}.png" for i in range(len(images))]
    known = {"dataset": "made-up", "published_split": "train", "patient": "", "sha256": names} | columns
    table = pd.DataFrame({"path": names, "label": labels or "glioma"} | known, index=range(len(images)))
    return collect(table, [traits(i, i) for i in images])


def ends(pairs: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_found_and_named(name):
    original = image(0)
    turned = np.ascontiguousarray(TRANSFORMS[name](original))
    found = near_pairs(thumbnails_of([turned, original, image(1)]))
    assert found[["i", "j", "transform"]].to_numpy().tolist() == [[0, 1, name]]
    linked = link(thumbnails_of([turned]), thumbnails_of([image(1), original]))
    assert linked.loc[0, ["reference", "transform"]].tolist() == [1, name]
    corner = np.arange(12).reshape(3, 4)
    assert len({t(corner).tobytes() + bytes(t(corner).shape) for t in TRANSFORMS.values()}) == 8, "none is another"


@pytest.mark.parametrize("shape", [(90, 110), (32, 32), (1, 1), (400, 7)])
def test_hashes_are_those_of_imagehash(shape):
    grey = image(4, shape) if min(shape) > 1 else np.array([[9]], np.uint8)
    tiny = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS))
    turned = (Image.fromarray(np.ascontiguousarray(turn(tiny))) for turn in TRANSFORMS.values())
    assert phashes(grey).tolist() == [int(str(imagehash.phash(one)), 16) for one in turned]
    assert phashes(grey)[0] == int(str(imagehash.phash(Image.fromarray(grey))), 16)


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


def noisy(roughness: float, number: int) -> np.ndarray:
    """Thumbnails of pairs that show the same, one turned and darker, under noise of `roughness`."""
    rng, turns, out = np.random.default_rng(7), list(TRANSFORMS.values()), []
    for i in range(number):
        shown = image(i // 2, (48, 48)) * (0.5 if i % 2 else 1.0)
        rough = shown + rng.normal(size=shown.shape) * roughness * shown.std()
        out.append(thumbnail(np.ascontiguousarray(turns[i % 8](rough)).astype(np.float32), 48))
    return np.stack(out)


@pytest.mark.parametrize("correlation", [0.2, 0.6, 0.93])
@pytest.mark.parametrize("roughness", [0, 0.3, 1])
def test_pairs_alike_are_those_of_brute_force(monkeypatch, roughness, correlation):
    monkeypatch.setattr(duplicates, "BLOCK", 7)  # several blocks, the last one not full
    monkeypatch.setattr(duplicates, "CHUNK", 5)
    a, b = np.split(noisy(roughness, 40), [23])
    for second, within in ((a, True), (b, False)):
        wanted = {}
        for name, turn in TRANSFORMS.items():
            products = np.einsum("aij,bij->ab", a.astype(np.float64), turn(second))
            for i, j in zip(*np.nonzero(products >= correlation), strict=True):
                if i < j or not within:
                    wanted[i, j, name] = products[i, j]
        found = pairs_alike(a, None if within else b, correlation).set_index(["i", "j", "transform"]).correlation
        assert set(found.index) == set(wanted)
        assert np.allclose(found, list(map(wanted.get, found.index)), atol=1e-5)
    assert correlation > 0.2 or wanted, "some are alike"


def test_the_bound_holds_for_rough_images_and_for_none():
    """Copies under the same noise: their low frequencies alone do not reach the threshold."""
    rough = np.random.default_rng(0).normal(size=(6, 48, 48)).astype(np.float32)
    copies = np.stack([thumbnail(one, 48) for one in [*rough, *rough]])
    low = duplicates._sketch(copies)[:, :-1]
    assert (np.einsum("nd,nd->n", low[:6], low[6:]) < 0.5).all()
    assert ends(pairs_alike(copies, None, 0.99)) == [(i, i + 6) for i in range(6)]
    some = np.concatenate([noisy(0, 2), np.zeros((2, 48, 48), np.float32)])
    assert not pairs_alike(some, None, 0.1)[["i", "j"]].isin([2, 3]).any(axis=None), "one grey value is like nothing"
    for a, b in ((some[:0], None), (some[:0], some), (some, some[:0])):
        assert pairs_alike(a, b, 0.1).empty


def test_images_alike_are_joined_by_the_rule_of_the_set():
    original = image(0)
    turned = [np.ascontiguousarray(turn(original)) for turn in TRANSFORMS.values()]
    found = thumbnails_of([*turned, image(1), image(2), image(3), image(4)])
    assert ends(duplicates.alike_pairs(found)) == [(a, b) for a in range(8) for b in range(a + 1, 8)]
    table = curate(found)
    assert table.group.nunique() == 5 and table.group[:8].nunique() == 1
    assert not len(split_table.alike_across_folds(found, table))
    assert split_table.alike_across_folds(found, table.assign(fold=[0] * 7 + [1] * 5)).tolist() == list(range(8))
    found.packed[:] = 0
    assert ends(duplicates.alike_pairs(found, ("whole", 0.9))) and duplicates.alike_pairs(found, ("whole", 1.1)).empty
    assert duplicates.alike_pairs(found, ("packed", 0.5)).empty


def test_a_group_keeps_name_and_fold_when_another_changes():
    images = [image(i) for i in range(20)]
    before = curate(thumbnails_of(images))
    after = curate(thumbnails_of([*images[:-1], images[0]]), before=before)
    assert (before.group[:-1] == after.group[:-1]).all() and after.group[0] == after.group[19]
    assert (after.fold[:-1] == before.fold[:-1]).all() and after.fold[19] == before.fold[0]


def test_what_is_planted_in_the_phantom_is_found_and_nothing_else(roots, monkeypatch):
    found = look("phantom")
    table, planted = found.table, found.table
    original = planted.duplicate_of.where(planted.duplicate_of != "", planted.path)
    families = planted.groupby(original).groups.values()
    pairs = near_pairs(found)
    assert set(ends(pairs)) == {(i, j) for rows in families for i, j in product(rows, rows) if i < j} != set()
    is_copy = planted.duplicate_of[pairs.j].to_numpy() == planted.path[pairs.i].to_numpy()
    copy, other = np.where(is_copy, pairs.j, pairs.i), np.where(is_copy, pairs.i, pairs.j)
    direct = planted.duplicate_of[copy].to_numpy() == planted.path[other].to_numpy()  # not a copy with a copy
    turned = planted.kind[copy].eq("transposed-copy").to_numpy()
    assert turned[direct].sum() >= 4 and (pairs["transform"].ne("upright").to_numpy() == turned)[direct].all()
    table = curate(found)
    monkeypatch.setattr(thumbnails, "FEW", 0)  # so that processes look, a block each
    monkeypatch.setattr(thumbnails, "BLOCK", 20)
    assert table.to_csv() == curate(look("phantom")).to_csv(), "the same images, the same table"
    wrong = planted.label.groupby(original).transform("nunique") > 1
    assert (table.label_conflict == 1).tolist() == wrong.tolist()
    assert (planted.groupby("patient").published_split.nunique() > 1).any()
    assert table.groupby("patient").group.nunique().eq(1).all() and table.groupby("group").fold.nunique().max() == 1
    mislabelled = np.flatnonzero(planted.true_label != planted.label)
    assert len(mislabelled) and links.wrong_labels(planted).tolist() == mislabelled.tolist()
    assert not len(links.wrong_labels(planted.assign(patient="")))
    counted = duplicates.relations(found)
    assert list(counted.index) == ["bytes", "pixels", "near"]
    assert (counted["within a class"] + counted["between classes"] == counted.pairs).all()
    assert counted["between training and test set"].sum() > 0


def test_odd_images_and_empty_sets_are_handled():
    odd = [np.zeros((50, 40), np.uint8), np.full((9, 9), 200, np.uint8), np.array([[7]], np.uint8), image(0)]
    found, empty = thumbnails_of(odd), thumbnails_of([])
    assert near_pairs(found).empty, "images of one grey value look like nothing, not like each other"
    assert (link(found, thumbnails_of([image(0)])).reference == [-1, -1, -1, 0]).all()
    assert duplicate_pairs(thumbnails_of([odd[0], odd[0]])).kind.tolist() == ["pixels"], "identical they still are"
    assert near_pairs(empty).empty and len(kept_by_s0(empty)) == 0
    assert (link(thumbnails_of([image(0)]), empty).reference == -1).all()
    assert curate(thumbnails_of([odd[0], odd[0], *map(image, range(5))])).group.nunique() == 7, "but nobody's"
    unlabelled = curate(thumbnails_of([image(i) for i in range(12)], labels=[""] * 12), empty)
    assert sorted(unlabelled.fold.unique()) == [0, 1, 2, 3, 4] and not unlabelled.label_conflict.any()
    big, small = thumbnails_of([image(3, (256, 256)), image(3, (256, 256))[::2, ::2]]).thumbnails
    assert (big * small).sum() > 0.99, "thumbnails do not depend on size"


def test_identical_keys_make_one_group_and_s0_keeps_one_image_a_hash():
    pairs = identical_pairs(["a", "", "a", "", "a"])
    assert ends(pairs) == [(0, 2), (0, 4)], "nothing is known of ''"
    assert duplicates.components(5, pairs).tolist() == [0, 1, 0, 2, 0]
    found = thumbnails_of([image(0), image(1), image(0)], published_split=["test", "train", "train"])
    assert kept_by_s0(found).tolist() == [1, 2], "train before test"


def test_a_link_to_another_label_is_a_conflict_and_brings_the_patient():
    reference = thumbnails_of([image(i) for i in range(10)], patient=[f"p{i // 2}" for i in range(10)])
    found = thumbnails_of([image(i) for i in range(11)], labels=["glioma"] * 3 + ["pituitary"] + ["glioma"] * 7)
    table = curate(found, reference)
    assert table.label_conflict.tolist() == [0, 0, 0, 1] + [0] * 7
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(10)] + [""]
    assert table.groupby("patient").group.nunique().drop("").eq(1).all()
    assert facts(found, table)["linked images"] == 10


def test_the_nearest_neighbour_finds_twins(roots):
    found = look("phantom")
    table, seen = nearest_thumbnails(found, "published")
    right = (table.label == table.predicted).to_numpy()
    assert len(table) == len(make_split("phantom").test) and right[seen].mean() > right[~seen].mean()
    table, seen = nearest_thumbnails(found, "patient")
    assert sorted(table.path) == sorted(found.table.path) and not seen.any()


def changed_copy(*others):
    """An image, a copy of it that correlates by .93 to .97, and other images; of different crops, as it were."""
    original, noise = (image(seed).astype(float) for seed in (0, 7))
    found = thumbnails_of([image(0), np.uint8(0.7 * original + 0.3 * noise), *map(image, others)])
    found.hashes[1] = found.hashes[0]
    assert duplicates.COPY_CORRELATION < (found.thumbnails[0] * found.thumbnails[1]).sum() < duplicates.NEAR_CORRELATION
    return found


def test_a_changed_copy_is_listed_where_folds_or_sets_separate_it():
    images = changed_copy(1)
    assert duplicate_pairs(images).empty
    table = images.table[["path"]].assign(patient="")
    found = links.copy_pairs(images, table.assign(fold=[3, 1, 3]))
    assert found.to_numpy().tolist() == [["0.png", 3, "1.png", 1]]
    assert links.copy_facts(found) == {links.COPIED: 2, links.COPIED_PAIRS: 1}
    assert links.copy_pairs(images, table.assign(fold=[3, 3, 1])).empty
    ours, theirs = images.rows(np.array([0])), images.rows(np.array([1, 2, 2]))
    theirs.table["dataset"] = "theirs"
    for path, left in (("2.png", 1), ("1.png", 0)):  # in an external test, unless it is shared
        shared = pd.DataFrame({"dataset": ["theirs"], "path": [path]})
        wanted = {f"made-up: {links.LEFT}": 1, f"theirs: {links.LEFT}": left}
        assert links.copies_left(ours, theirs, shared) == wanted


def test_heads_show_a_copy_that_is_framed_and_sharpened_otherwise_unless_patients_are_named():
    grey = np.zeros((200, 200), np.uint8)
    grey[20:180, 30:170] = 60 + image(5, (160, 140)) // 2
    sharp = cv2.addWeighted(grey, 1.5, cv2.GaussianBlur(grey, (0, 0), 4), -0.5, 0)
    images = thumbnails_of([grey, np.pad(sharp, ((0, 90), (60, 0))), image(6)])
    assert duplicates.near_pairs(images, duplicates.COPY_CORRELATION).empty
    table = pd.DataFrame({"path": images.table.path, "patient": "", "fold": [0, 1, 2]})
    assert links.copy_pairs(images, table)[["path", "copy_path"]].to_numpy().tolist() == [["0.png", "1.png"]]
    assert links.copy_pairs(images, table.assign(patient=["a", "b", ""])).empty
    assert not head(np.zeros((5, 6), np.uint8)).any() and head(np.zeros((5, 6), np.uint8)).shape == (5, 6)


def test_the_next_folds_keep_a_changed_copy_with_its_original(monkeypatch):
    images = replace(changed_copy(1, 20, 21, 22, 23), alike=("packed", 1.1))  # crops differ
    assert curate(images).group.nunique() == 7
    monkeypatch.setattr(duplicates, "GROUPED_CORRELATION", duplicates.COPY_CORRELATION)
    groups = curate(images).group
    assert groups.nunique() == 6 and groups[0] == groups[1]

"""The 44 classes: archive, targets, random split, groups by likeness."""

import json

import numpy as np
import pandas as pd
import pytest
from collections_made import FOLDERS, bring, many, saved
from real_archives import real_archive

from datasets import download
from datasets.catalog import REPO, DataError, get
from datasets.curation.duplicates import alike_pairs
from datasets.curation.thumbnails import Thumbnails
from datasets.labels import classes_of, external_target, viewed
from datasets.splitting import make_split, overlap_file
from datasets.store import manifest
from datasets.store.index import SPLITS, read_manifest
from utils.report import probes

DATA = (REPO / "datasets/README.md").read_text()


def test_the_44_folders_come_in_and_are_asked_in_four_ways(root, tmp_path):
    assert len(FOLDERS) == len(classes_of("brain-tumor-44c")) == 44 and get("brain-tumor-44c").images == 4478
    assert bring("brain-tumor-44c", saved(tmp_path, many())) == 0
    table = read_manifest("brain-tumor-44c")
    assert len(table) == 89 and set(table.label) == set(classes_of("brain-tumor-44c"))
    assert table.label[table.path.str.startswith("_NORMAL T2/")].eq("notumor T2").all()
    assert {t: len(classes_of("brain-tumor-44c", t)) for t in ("tumour", "type", "sequence")} == {
        "tumour": 2,
        "type": 15,
        "sequence": 3,
    }
    with pytest.raises(DataError, match=r"it is of the whole set, and 89 of 4478 images"):
        make_split("brain-tumor-44c", "patient")


def test_baselines_and_probes_are_made_at_random_where_nobody_is_named(monkeypatch):
    table = pd.DataFrame({"published_split": ["", ""], "patient": ["", ""]})
    for patient, split, first in (("", "", "random"), ("anna", "", "patient"), ("", "test", "published")):
        changed = table.assign(patient=patient, published_split=split)
        monkeypatch.setattr(probes, "read_manifest", lambda name, changed=changed: changed)
        assert probes.splits_of("brain-tumor-44c")[0]["split"] == first


def test_a_random_split_takes_a_fifth_whatever_the_groups(roots):
    split = make_split("phantom", "random")
    total = len(read_manifest("phantom"))
    assert len(split.test) == -(-total // 5) and split.seen.mean() > 0.5
    assert sorted([*split.train_val, *split.test]) == list(range(total))
    assert np.array_equal(split.test, make_split("phantom", "random", seed=3).test)


def test_alike_images_are_grouped_by_the_rule_of_the_set():
    base = np.random.default_rng(0).normal(size=(6, 64 * 64)).astype(np.float32)
    base[1] = base[0] + 0.4 * base[1]  # correlation .93 with the first
    base -= base.mean(1, keepdims=True)
    whole = (base / np.linalg.norm(base, axis=1, keepdims=True)).reshape(6, 64, 64)
    found = Thumbnails(pd.DataFrame({"path": range(6)}), whole, np.zeros((6, 8), np.uint64), whole[:, ::2, ::2] * 0)
    assert list(zip(*alike_pairs(found, 0.9, "whole"), strict=True)) == [(0, 1)]
    assert not len(alike_pairs(found, 0.99, "whole")[0]) and not len(alike_pairs(found, 0.5)[0])


def test_the_committed_groups_of_the_44_classes_are_the_known_ones():
    table = pd.read_csv(SPLITS / "brain-tumor-44c.csv", dtype=str, keep_default_na=False)
    facts = json.loads((SPLITS / "facts.json").read_text())["brain-tumor-44c"]
    assert table.groupby("group").fold.nunique().max() == 1 and sorted(table.fold.unique()) == list("01234")
    assert facts["groups"] == table.group.nunique() == pytest.approx(1502, abs=15)
    assert facts["largest group"] == pytest.approx(123, abs=10)
    assert facts["1-NN on thumbnails, random split, accuracy"] == pytest.approx(0.877, abs=0.03)
    assert facts["1-NN on thumbnails, patient split, accuracy"] == pytest.approx(0.357, abs=0.03)
    assert set(table.path) == set(manifest.originals("brain-tumor-44c"))


def test_the_44_classes_give_the_7023_an_independent_specificity():
    table = pd.read_csv(SPLITS / "brain-tumor-44c.csv", dtype=str)
    shared = pd.read_csv(SPLITS / overlap_file("brain-tumor-mri", "brain-tumor-44c"))
    left = table[~table.path.isin(shared.path[shared.dataset == "brain-tumor-44c"])]
    healthy = viewed(left.label, "tumour").eq("notumor").sum()
    assert healthy > 300 and len(left) - healthy > 3000
    assert f"adds {healthy} images without a tumour and {len(left) - healthy:,} with one" in DATA
    assert external_target("brain-tumor-mri", "brain-tumor-44c") == "tumour"


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_real_archive_of_the_44_classes(root, capsys):
    assert download.main(["brain-tumor-44c", "--archive", str(real_archive("brain-tumor-44c")), "--size", "64"]) == 0
    assert capsys.readouterr().err == "", "no broken image, no count that differs"
    table, known = read_manifest("brain-tumor-44c"), manifest.originals("brain-tumor-44c")
    assert len(known) == len(table) == 4478 and table.sha256.duplicated().sum() == 36
    for protocol in ("random", "patient"):
        assert len(make_split("brain-tumor-44c", protocol).test) > 800

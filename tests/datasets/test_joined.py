"""The set that joins others: what it takes of each, what it leaves out, and how it is split by source."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from archives import NAVONEEL, bring, folders, saved
from lgg_files import SIDE, SLICES, files

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.sources import joined
from datasets.splitting import make_split, overlap_file
from datasets.store import images, index
from utils.training.data import make_loader

NAME = "tumour-or-none"
FACTS = catalog.get(NAME)
RELATED = "Training/glioma/1.jpg"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A data root with small forms of the sets that are joined, of `navoneel`, to which one image is related, and the
    joined set."""
    folder = tmp_path_factory.mktemp("joined")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(folder / "data"))
        patch.setattr(index, "SPLITS", folder / "splits")
        patch.setattr(joined, "EVERY", 1)
        (folder / "splits/overlap").mkdir(parents=True)
        for name, content in (
            ("brain-tumor-mri", folders("brain-tumor-mri")),
            ("brain-tumor-44c", folders("brain-tumor-44c", each=1)),
            ("navoneel", NAVONEEL),
            ("lgg", files()),
        ):
            patch.setitem(catalog.CATALOG, name, replace(catalog.get(name), counts={}))  # the archive is the whole
            assert bring(name, saved(folder, content), "--size", "32") == 0
        for name in FACTS.joins:
            rows = [("brain-tumor-mri", RELATED, "copy")] if name == "brain-tumor-mri" else []
            table = pd.DataFrame(rows, columns=["dataset", "path", "kind"])
            table.to_csv(folder / "splits" / overlap_file(name, "navoneel"), index=False)
        assert bring(NAME, None, "--size", "32", "--crop", "none") == 0
        yield folder / "data"


def test_what_is_taken_of_each_set_and_under_which_label(sources, monkeypatch):
    assert download.main([NAME, "--check"]) == 0
    table = index.read_manifest(NAME)
    own = {name: rows for name, rows in table.groupby("source")}
    assert set(own) == set(FACTS.joins) and table.path.is_unique and (table.patient != "").all()
    of_mri = index.read_manifest("brain-tumor-mri")
    assert set(own["brain-tumor-mri"].path) == {f"brain-tumor-mri/{p}" for p in of_mri.path if p != RELATED}
    healthy = own["brain-tumor-mri"].path.str.contains("/notumor/")
    assert (own["brain-tumor-mri"].label.eq("notumor") == healthy).all()
    assert set(own["brain-tumor-44c"].label) == {"notumor", "tumour"}
    wanted = {path: "tumour" if number % 2 else "notumor" for number, path in enumerate(SLICES)}
    lgg = own["lgg"].set_index(own["lgg"].path.str.removeprefix("lgg/")).label
    assert lgg.to_dict() == {f"{c}/{p}": label for c in ("FLAIR", "post-contrast") for p, label in wanted.items()}
    assert set(own["lgg"].patient) == {"lgg TCGA_CS_4941", "lgg TCGA_HT_A61B"}
    monkeypatch.setattr(joined, "SMALLEST", 12 / SIDE**2)
    assert len([*joined._rows("lgg", FACTS.without)]) == 2 * 4, "a tumour of 6 pixels is neither one nor none"


def test_an_image_is_that_of_its_source_and_sequence(sources):
    table = index.read_manifest(NAME)
    of_lgg, data = index.read_manifest("lgg").path.tolist(), images.ImageDataset("lgg", np.arange(5), image_size=32)
    row = table.path.tolist().index(f"lgg/post-contrast/{SLICES[3]}")
    packed = images.ImageDataset(NAME, np.array([row]), image_size=32)[0]["image"][0].numpy()
    with index.hdf5.opened(index.require("lgg") / "images.h5", "") as store:
        post = store["image"][of_lgg.index(SLICES[3])][..., 2]
    assert np.array_equal(packed, cv2.resize(post, packed.shape[::-1])) and len(data) == 5


def test_splits_leave_one_source_out_and_test_the_other_set_whole(sources):
    source = index.read_manifest(NAME).source.to_numpy()
    for fold, name in enumerate(FACTS.joins):
        split = make_split(NAME, "source", fold)
        assert set(source[split.test]) == {name} and name not in set(source[split.train_val])
    assert len(make_split(NAME, "external", test_on="navoneel").test) == len(NAVONEEL)
    with pytest.raises(DataError, match="joins brain-tumor-44c, brain-tumor-mri, lgg; take another fold"):
        make_split(NAME, "source", 3)
    with pytest.raises(DataError, match="'brain-tumor-mri' joins no sources"):
        make_split("brain-tumor-mri", "source", 0)


def test_a_balanced_epoch_says_nothing_about_a_class_by_the_source(sources):
    table = index.read_manifest(NAME)
    data = images.ImageDataset(NAME, np.arange(len(table)), image_size=32)
    drawn = make_loader(data, 8, training=True, sampling="balanced").sampler.weights.numpy()
    share = pd.Series(drawn / drawn.sum()).groupby([table.source, table.label]).sum()
    assert len(share) == 6 and share.to_numpy() == pytest.approx(1 / 6)


def test_what_is_missing_is_named(sources, capsys):
    """The last test: it takes away what the others need."""
    again = [NAME, "--size", "64"]
    (index.SPLITS / overlap_file("lgg", "navoneel")).unlink()
    assert download.main(again) == 1
    assert "python -m datasets.curation navoneel lgg --write" in capsys.readouterr().err
    (sources / "lgg/images.h5").unlink()
    assert download.main(again) == 1 and "the data set 'lgg' is not here yet" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        download.main([NAME, "--archive", "x.zip"])
    assert "joined from other sets" in capsys.readouterr().err

"""The lower-grade gliomas: sequences, masks, patients and what is known of them; faults; the real archive."""

import h5py
import numpy as np
import pytest
from archives import bring, left, real_archive, saved
from lgg_files import HEADER, SIDE, SLICES, files, slice_of, tiff

from datasets import catalog, download
from datasets.curation import __main__
from datasets.sources.lgg import mask_beside
from datasets.store import index
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import SPLITS, read_findings, read_manifest

LGG = catalog.get("lgg")
TABLE, FIRST = "kaggle_3m/data.csv", f"kaggle_3m/{SLICES[0]}"


def brought(folder, content: dict[str, bytes]) -> int:
    return bring("lgg", saved(folder, content), "--size", str(SIDE))


def test_slices_come_in_as_published_with_masks_and_what_is_known_of_their_patients(root, tmp_path, capsys):
    twice = files() | {f"lgg-mri-segmentation/{path}": content for path, content in files().items()}
    assert brought(tmp_path, twice) == 0
    table = read_manifest("lgg")
    assert table.path.tolist() == SLICES, "2 comes before 10"
    assert table.patient.tolist() == ["TCGA_CS_4941"] * 3 + ["TCGA_HT_A61B"] * 2 and set(table.label) == {"glioma"}
    known = table[["age", "sex_code", "grade_code"]].drop_duplicates().to_numpy().tolist()
    assert known == [["30", "1", "2"], ["", "", ""]]
    pixels, masks = map(np.stack, zip(*map(slice_of, range(5)), strict=True))
    assert (read_masks("lgg", np.arange(5))[:, 0] == masks // 255).all()
    assert read_findings("lgg", table, np.arange(5))[:, 0].tolist() == [0, 1, 0, 1, 0]
    for channels, wanted in (("all", pixels.transpose(0, 3, 1, 2)), ("grey", pixels[:, None, ..., 1])):
        data = ImageDataset("lgg", np.arange(5), image_size=SIDE, channels=channels, masks=True)
        assert (data.batch(range(5))["image"].numpy() == wanted).all()
    (root / "lgg/raw" / mask_beside(SLICES[3])).write_bytes(tiff(masks[0]))
    assert download.main(["lgg", "--check"]) == 1 and "raw/: 1 files are missing or changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (TABLE, None, "data.csv: not readable as a table"),
        (TABLE, HEADER.replace("gender", "sex"), "data.csv: its column 'gender' is missing"),
        (TABLE, f"{HEADER}\nTCGA_CS_4941,,,,,,\n", "data.csv: no row of TCGA_HT_A61B, whose slices are here"),
        (TABLE, f"{HEADER}\n" + "TCGA_CS_4941,,,,,,\n" * 2, "data.csv: TCGA_CS_4941 stands there twice"),
        (FIRST, None, "19960909_1_mask.tif: this mask or its slice is missing"),
        (mask_beside(FIRST), None, "19960909_1_mask.tif: this mask or its slice is missing"),
        (FIRST, np.zeros((SIDE, SIDE), np.uint8), "holds 1 channel"),
        (mask_beside(FIRST), np.full((SIDE, SIDE), 7, np.uint8), "holds [7]; 0 and 1, or 0 and 255, are taken"),
        (mask_beside(FIRST), np.zeros((SIDE, 9), np.uint8), "should have one shape"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, content, said, root, tmp_path, capsys):
    if isinstance(content, np.ndarray):
        content = tiff(content)
    elif content:
        content = content.encode()
    others = {path: found for path, found in files().items() if path != name}
    assert brought(tmp_path, others | ({name: content} if content else {})) == 1
    error = capsys.readouterr().err
    assert said in error and "take lgg-mri-segmentation.zip from" in error and error.count("\n") == 1
    assert left(root) == []


def test_a_table_alone_is_no_data_set(root, tmp_path, capsys):
    assert brought(tmp_path, {TABLE: files()[TABLE]}) == 1 and "lgg: holds no slice" in capsys.readouterr().err


@pytest.mark.real
def test_the_real_archive_has_the_faults_of_its_card(root, tmp_path, monkeypatch):
    assert download.main(["lgg", "--archive", str(real_archive("lgg"))]) == 0
    assert download.main(["lgg", "--check"]) == 0
    table, faults = read_manifest("lgg"), " ".join(LGG.faults)
    with h5py.File(root / "lgg/images.h5") as store:
        images, empty = store["image"], np.array([not mask.any() for mask in store["mask"]])
        same = np.array([[(image[..., c] == image[..., 1]).all() for c in (0, 2)] for image in images])
        constant = np.array([image[..., 1].min() == image[..., 1].max() for image in images])
    pre, post = (set(table.patient[same[:, c]]) - set(table.patient[~same[:, c]]) for c in (0, 1))
    assert f"{100 * empty.mean():.0f} % of the masks are empty, {empty.sum():,} of {len(table):,}" in faults
    assert set(table.patient) == set(table.patient[~empty]) and f"{constant.sum()} slices" in faults
    assert f"pre-contrast in {len(pre)} patients, post-contrast in {len(post)} " in faults and pre < post
    assert table.file_sha256.is_unique and table.patient[table.age == ""].nunique() == 1
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    assert __main__.main(["lgg", "--write"]) == 0
    for table in ("lgg.csv", "copies/lgg.csv"):
        assert (tmp_path / table).read_bytes() == (SPLITS / table).read_bytes()

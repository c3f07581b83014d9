"""`download.py NAME --masks-from cheng`: the masks lie where the tumour is, under every flip and turn and the crop.

The slices are the phantom's, whose masks are known: as Cheng's files, and turned and resized as the files of
`brain-tumor-mri`.
"""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archives import bring, encoded, mat, saved
from PIL import Image
from store_copies import spoil_chunk

from datasets import catalog, data_folder, download
from datasets.catalog import DataError
from datasets.curation import masks
from datasets.curation.duplicates import NEAR_CORRELATION
from datasets.store import index
from datasets.store.images import ImageDataset, mask_file, outlined, read_masks
from datasets.store.index import read_manifest
from datasets.store.preprocess import CROPS, crop_and_resize, decode, margin_box
from datasets.transforms import TRANSFORMS

NAME, KINDS = "brain-tumor-mri", {"glioma": 2, "meningioma": 1, "pituitary": 3}
# Each turn worked out by hand, with Pillow's names.
BY_HAND = {
    "flipped-lr": Image.Transpose.FLIP_LEFT_RIGHT,
    "flipped-ud": Image.Transpose.FLIP_TOP_BOTTOM,
    "rotated-180": Image.Transpose.ROTATE_180,
    "transposed": Image.Transpose.TRANSPOSE,
    "rotated-90": Image.Transpose.ROTATE_90,
    "rotated-270": Image.Transpose.ROTATE_270,
    "anti-transposed": Image.Transpose.TRANSVERSE,
}


def slices_of_the_phantom() -> pd.DataFrame:
    """Slices with a tumour of each kind, two a patient, and some without: grey, mask, label, patient."""
    manifest = read_manifest("phantom")
    area = read_masks("phantom", np.arange(len(manifest))).any(axis=1).sum(axis=(1, 2))
    manifest = manifest[manifest.kind.eq("") & manifest.label.eq(manifest.true_label)]
    tumours = manifest[(area[manifest.index] > 40) & manifest.label.isin(KINDS)]
    chosen = pd.concat([tumours.groupby("patient").head(2), manifest[manifest.label.eq("notumor")].head(4)])
    images = ImageDataset("phantom", chosen.index, image_size=64).batch(range(len(chosen)))["image"][:, 0].numpy()
    union = read_masks("phantom", chosen.index.to_numpy()).any(axis=1)
    return chosen[["label", "patient"]].assign(grey=list(images), mask=list(union)).reset_index(drop=True)


def jpeg(grey: np.ndarray, transform: str) -> bytes:
    turned = Image.fromarray(np.ascontiguousarray(TRANSFORMS[transform](grey)))
    return encoded(turned.resize((200, 168), Image.Resampling.BILINEAR), "JPEG", quality=95)


@pytest.fixture(params=["s2", "none"])
def linked(request, roots, tmp_path, monkeypatch):
    """Both sets brought in, and their table; every ninth image, and those without a tumour, are not linked."""
    slices = slices_of_the_phantom()
    names = list(TRANSFORMS)
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    tumour = slices.label.isin(KINDS)
    known = tumour & (slices.index % 9 != 8)
    slices["transform"] = np.where(known, [names[i % 8] for i in slices.index], "")
    folder = np.where(slices.groupby("label").cumcount() % 2, "Training", "Testing")
    slices["path"] = [f"{part}/{row.label}/{i}.jpg" for part, (i, row) in zip(folder, slices.iterrows(), strict=True)]
    files = {row.path: jpeg(row.grey, row["transform"] or "upright") for _, row in slices.iterrows()}
    counts = {"": slices.label.value_counts().to_dict()}
    monkeypatch.setitem(catalog.CATALOG, NAME, replace(catalog.get(NAME), counts=counts, crop=request.param))
    table = slices[["path", "label", "transform"]].assign(patient=slices.patient.where(known, ""))
    table = table.assign(published_split="train", group=slices.patient, label_conflict=0, fold=0)
    (tmp_path / "splits").mkdir()
    table.to_csv(tmp_path / f"splits/{NAME}.csv", index=False)
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    assert bring(NAME, saved(tmp_path, files, "btm.zip")) == 0
    mats = {}
    for i, row in slices[tumour].iterrows():
        shown = row.grey.astype(np.int16), row["mask"].astype(np.uint8)
        mats[f"{i}.mat"] = mat(KINDS[row.label], row.patient, 0, *shown)
    assert bring("cheng", saved(tmp_path, mats, "cheng.zip")) == 0
    return slices


def truth_of(row: pd.Series, crop: str, size: int = 256) -> np.ndarray:
    """The mask of an image, taken the way that the image itself goes: as a grey image, turned by hand, cropped."""
    raw = decode(catalog.dataset_dir(NAME) / "raw" / row.path)
    box = None if CROPS[crop] is None else margin_box(raw, CROPS[crop])
    painted = Image.fromarray(np.uint8(255 * row["mask"]))
    if row["transform"] != "upright":
        painted = painted.transpose(BY_HAND[row["transform"]])
    painted = painted.resize(raw.shape[::-1], Image.Resampling.BILINEAR)
    return crop_and_resize(np.asarray(painted), box, size) > 127


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_masks_lie_on_the_tumour_under_every_transform_and_the_crop(linked, capsys):
    assert download.main([NAME, "--masks-from", "cheng"]) == 0
    manifest = read_manifest(NAME).path
    rows = linked.set_index("path").loc[manifest].reset_index()
    found = read_masks(NAME, np.arange(len(rows)))[:, 0].astype(bool)
    crop = catalog.get(NAME).crop
    known = rows["transform"].ne("")
    agreement = pd.Series({i: dice(found[i], truth_of(row, crop)) for i, row in rows[known].iterrows()})
    by_transform = agreement.groupby(rows["transform"]).min()
    assert set(by_transform.index) == set(TRANSFORMS) and (by_transform >= 0.97).all()
    assert not found[~known].any(), "what is not linked has no mask"
    assert (outlined(NAME) == (known | rows.label.eq("notumor"))).all(), "and says so, unless it shows no tumour"
    links = pd.read_csv(catalog.dataset_dir(NAME) / "masks.csv", dtype=str, keep_default_na=False)
    assert (links.path == manifest).all() and (links.slice.ne("") == known).all()
    assert (links.correlation[known].astype(float) >= NEAR_CORRELATION).all()
    batch = ImageDataset(NAME, np.arange(len(rows)), image_size=64, masks=True).batch([0, len(rows) - 1])
    assert batch["mask"].shape == (2, 1, 64, 64) and batch["outlined"].tolist() == outlined(NAME)[[0, -1]].tolist()
    said = capsys.readouterr().out
    assert f"{known.sum()} of {len(rows)} images have the mask of their slice of cheng" in said
    assert f"{(~known & rows.label.ne('notumor')).sum()} with a tumour have none" in said


@pytest.mark.parametrize("linked", ["s2"], indirect=True)
def test_masks_belong_to_the_images_that_they_were_made_for_and_the_same_command_mends_them(linked, capsys):
    carry, file, every = [NAME, "--masks-from", "cheng"], catalog.dataset_dir(NAME) / "masks.h5", np.arange(len(linked))

    def problems() -> str:  # the archive is a small one: its counts are not the published ones
        download.main([NAME, "--check"])
        return "".join(line for line in capsys.readouterr().err.splitlines() if "masks" in line)

    with pytest.raises(DataError, match=f"download.py {NAME} --masks-from cheng"):
        mask_file(NAME)
    assert download.main(carry) == 0 and problems() == ""
    before = ImageDataset(NAME, [0, 1], image_size=64, masks=True)
    assert "masks.h5" in before.identity() and "masks.h5" not in ImageDataset(NAME, [0]).identity()
    stamp, kept, whole = mask_file(NAME).stat(), mask_file(NAME).read_bytes(), read_masks(NAME, every)
    assert download.main(carry) == 0 and "nothing to do" in capsys.readouterr().out
    assert mask_file(NAME).stat() == stamp
    for damage in (lambda: spoil_chunk(file, "mask", 2), lambda: file.write_bytes(file.read_bytes()[:3000])):
        damage()
        assert f"masks.h5 has other bytes than were written; run: python datasets/download.py {NAME}" in problems()
        assert download.main(carry) == 0 and "images have the mask of their slice" in capsys.readouterr().out
        assert (read_masks(NAME, every) == whole).all() and problems() == ""
    assert download.main([NAME, "--size", "96", "--workers", "1"]) == 0
    with pytest.raises(DataError, match="has no masks"):
        mask_file(NAME)
    file.write_bytes(kept)  # of the images before
    with pytest.raises(DataError, match="made for other images"):
        ImageDataset(NAME, [0], masks=True)
    with pytest.raises(DataError, match="replaced since"):
        before.identity()
    assert download.main(carry) == 0
    assert ImageDataset(NAME, [0], image_size=64, masks=True)[0]["mask"].shape == (1, 64, 64)


@pytest.mark.parametrize("linked", ["s2"], indirect=True)
def test_what_is_missing_is_named_with_what_to_do(linked, capsys):
    def error(*arguments: str) -> str:
        assert download.main(list(arguments)) == 1
        return capsys.readouterr().err

    assert "no table in" in error("cheng", "--masks-from", "cheng")
    assert "has no masks; 'cheng' has" in error("cheng", "--masks-from", NAME)
    assert "has no masks; 'cheng' has" in error("br35h", "--masks-from", NAME), "before anything of it is asked for"
    (catalog.dataset_dir(NAME) / "raw").rename(catalog.dataset_dir(NAME) / "elsewhere")
    assert "the publisher's files are needed" in error(NAME, "--masks-from", "cheng")
    (catalog.dataset_dir(NAME) / "elsewhere").rename(catalog.dataset_dir(NAME) / "raw")
    catalog.dataset_dir("cheng").rename(catalog.dataset_dir("cheng").with_name("away"))
    assert "run: python datasets/download.py cheng --archive FILE" in error(NAME, "--masks-from", "cheng")


def test_a_crop_that_cuts_the_tumour_is_measured():
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[10:30, 20:40] = 1
    assert masks.carried(mask, "upright", (64, 64), (20, 64, 0, 64), 64)[1] == 0.5
    whole, cut = masks.carried(mask, "transposed", (64, 64), (0, 64, 0, 64), 32)
    assert whole[10:20, 5:15].all() and whole.sum() == 100 and cut == 0


@pytest.mark.parametrize("stopped", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_masks_that_cannot_be_written_leave_nothing_half(step, stopped, tmp_path, monkeypatch):
    def fail(*_) -> None:
        raise stopped

    (tmp_path / "masks.csv").write_text("links of before\n")
    monkeypatch.setattr(Path, step, fail)
    with pytest.raises((DataError, KeyboardInterrupt)), data_folder.disk_errors(tmp_path):
        masks._write(tmp_path / "masks.h5", np.zeros((1, 8, 8, 1), np.uint8), pd.DataFrame({"slice": ["1.mat"]}), {})
    assert [path.name for path in tmp_path.iterdir()] == ["masks.csv"]


@pytest.mark.real
def test_every_linked_image_of_a_real_set_gets_its_mask(real_sets, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(real_sets))
    masks.carry("sartaj", "cheng")
    links = pd.read_csv(real_sets / "sartaj/masks.csv", dtype=str, keep_default_na=False)
    fit = links[links.slice.ne("")]
    assert len(fit) == 2345 and (fit.correlation.astype(float) >= NEAR_CORRELATION).all()

"""BraTS in both its forms through `download.py`: one store, faulty patients, 8 and 16 bits."""

import io
import json
import os
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from brats_files import LPS, SHAPE, archive, nifti, patient, slices, volumes

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.sources import brats
from datasets.splitting import make_split
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from utils.evaluation.segmentation import mask_table


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data root; its folder of brats2020."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    return tmp_path / "data/brats2020"


def bring(path: Path, files: dict[str, bytes], *options: str) -> int:
    source = archive(path / "brats.zip", files)
    return download.main(["brats2020", "--archive", source, "--partial", "--size", "32", "--workers", "1", *options])


def test_both_forms_give_the_same_store(home, tmp_path):
    assert bring(tmp_path, volumes(patient()) | volumes(patient(2), "BraTS20_Training_002")) == 0
    with h5py.File(home / "images.h5") as file:
        images, masks, chunk = file["image"][()], file["mask"][()], file["image"].chunks
    table = read_manifest("brats2020")
    assert images.shape == (310, 32, 32, 4) and images.dtype == np.uint8 and chunk == (1, 32, 32, 4)
    assert masks.shape == (310, 32, 32, 3) and set(np.unique(masks)) == {0, 1}
    assert table.path[154] == "BraTS20_Training_001/154" and set(table.patient) == {
        "BraTS20_Training_001",
        "BraTS20_Training_002",
    }
    (home.parent / "brats2020").rename(home.parent / "first")
    assert bring(tmp_path, slices(patient()) | slices(patient(2), 2)) == 0
    with h5py.File(home / "images.h5") as file:
        assert np.array_equal(file["mask"][()], masks)
        assert np.abs(file["image"][()].astype(int) - images).max() <= 1  # floats were rounded once more
    assert read_manifest("brats2020").path.tolist() == table.path.tolist()


def test_check_finds_a_changed_volume(home, tmp_path, capsys):
    assert bring(tmp_path, volumes(patient())) == 0
    assert download.main(["brats2020", "--check"]) == 1, "one patient, not 369"
    assert "raw/: all 155 files have" in capsys.readouterr().out
    (home / "raw/BraTS20_Training_001/BraTS20_Training_001_t2.nii").write_bytes(b"other")
    assert download.main(["brats2020", "--check"]) == 1
    assert "1 files are not those of the manifest, BraTS20_Training_001 first" in capsys.readouterr().err


def test_16_bits_keep_what_8_bits_round(home, tmp_path):
    whole = patient()["t1ce"].transpose(2, 1, 0)[80]  # z × y × x
    errors = {}
    for bits in ("8", "16"):
        assert bring(tmp_path, volumes(patient()), "--bits", bits, "--crop", "none", "--replace") == 0
        stored = brats.read(catalog.get("brats2020"), home / "raw", "BraTS20_Training_001", int(bits))[80].image[..., 1]
        errors[bits] = np.abs(stored / (2 ** int(bits) - 1) - whole / 899).max()
        data = ImageDataset("brats2020", [80], image_size=32, channels="all", masks=True)
        assert str(data[0]["image"].dtype) == {"8": "torch.uint8", "16": "torch.uint16"}[bits]
        assert json.loads((home / "log.json").read_text())["bits"] == int(bits)
    assert errors["16"] < errors["8"] / 50 < 0.01


def test_a_slice_lies_as_a_radiologist_sees_it(home, tmp_path):
    assert bring(tmp_path, volumes(patient())) == 0
    seg = patient()["seg"][:, :, 75].T == 2  # y × x: forehead up, the patient's left on the right
    mask = read_masks("brats2020", np.array([75]))[0, 1].astype(bool)
    rows, columns = np.nonzero(mask)
    wanted_rows, wanted_columns = np.nonzero(seg)
    assert rows.mean() / 32 == pytest.approx((wanted_rows.mean() + 0.5) / SHAPE[1], abs=0.04)
    assert columns.mean() / 32 == pytest.approx((wanted_columns.mean() + 0.5) / SHAPE[0], abs=0.04)


@pytest.mark.parametrize("codes", [("R", "A", "S"), ("P", "L", "I"), ("L", "P", "S")])
def test_another_orientation_is_turned_by_its_affine(home, tmp_path, codes):
    arrays, files = patient(), {}
    lps = nib.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nib.orientations.ornt_transform(lps, nib.orientations.axcodes2ornt(codes))
    for kind, array in arrays.items():
        turned = nib.orientations.apply_orientation(array, turn)
        affine = LPS @ nib.orientations.inv_ornt_aff(turn, array.shape)
        assert nib.aff2axcodes(affine) == codes
        files[f"p/p_{kind}.nii"] = nifti(turned, affine)
    if codes == ("P", "L", "I"):  # slices along z still
        assert nib.Nifti1Image.from_bytes(files["p/p_t1.nii"]).shape == (20, 24, 155)
    assert bring(tmp_path, files) == 0
    folder = tmp_path / "plain/q"
    folder.mkdir(parents=True)
    for name, content in volumes(arrays, "q").items():
        (tmp_path / "plain" / name).write_bytes(content)
    facts = catalog.get("brats2020")
    pairs = zip(brats.read(facts, home / "raw", "p"), brats.read(facts, folder.parent, folder.name), strict=True)
    assert all(np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) for a, b in pairs)


def test_an_identity_affine_is_ignored_and_the_official_odd_name_is_found(home, tmp_path):
    files = volumes(patient(), "BraTS20_Training_355", np.eye(4))
    files["BraTS20_Training_355/W39_1998.09.19_Segm.nii"] = files.pop(
        "BraTS20_Training_355/BraTS20_Training_355_seg.nii"
    )
    assert bring(tmp_path, files) == 0
    seg = patient()["seg"][:, :, 75].T > 0  # y × x, as stored: not turned
    centre = np.argwhere(read_masks("brats2020", np.array([75]))[0].any(axis=0)).mean(axis=0) / 32
    assert centre == pytest.approx((np.argwhere(seg).mean(axis=0) + 0.5) / (20, 24), abs=0.04)


def test_distances_of_volumes_are_in_millimetres(home, tmp_path):
    assert bring(tmp_path, volumes(patient())) == 0
    rows = np.arange(155)
    truth = read_masks("brats2020", rows).astype(bool)
    batches = [(rows[i : i + 40], np.roll(truth[i : i + 40], 2, axis=3)) for i in range(0, 155, 40)]
    table = mask_table("brats2020", rows, np.full(155, "p"), batches)
    assert set(table["WT.hd95"]) == {15.0}, "two of 32 pixels that are 240 mm"


def test_patients_without_published_masks_are_left_out(home, tmp_path):
    unmasked = {kind: array for kind, array in patient(2).items() if kind != "seg"}
    assert bring(tmp_path, volumes(patient()) | volumes(unmasked, "BraTS20_Validation_002")) == 0
    assert set(read_manifest("brats2020").patient) == {"BraTS20_Training_001"}
    assert len(json.loads((home / "raw.json").read_text())["left_out"]) == 4


def askew(arrays):
    angle = np.eye(4)
    angle[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    return volumes(arrays, affine=angle)


def moved(arrays):
    return volumes(arrays) | {"BraTS20_Training_001/BraTS20_Training_001_t2.nii": nifti(arrays["t2"], 2 * LPS)}


def with_nan(arrays):
    image = arrays["flair"].astype(np.float32)
    image[3, 3, 3] = np.nan
    return volumes(arrays | {"flair": image})


def cut_slices(arrays):
    files = slices(arrays)
    return {
        name: content[: len(content) // 2] if name.endswith("_7.h5") else content for name, content in files.items()
    }


def cut_volume(arrays):
    files = volumes(arrays)
    name = "BraTS20_Training_001/BraTS20_Training_001_t1.nii"
    return files | {name: files[name][:3000]}


def wrong_mask_slices(arrays):
    files = slices(arrays)
    name = next(name for name in files if name.endswith("_3.h5"))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["image"], file["mask"] = np.zeros((24, 20, 4)), np.full((24, 20, 3), 7)
    return files | {name: buffer.getvalue()}


def uneven_slices(arrays):
    files = slices(arrays)
    name = next(name for name in files if name.endswith("_3.h5"))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["image"], file["mask"] = np.zeros((24, 20, 4)), np.zeros((24, 21, 3))
    return files | {name: buffer.getvalue()}


BAD = {
    "no T1": (lambda a: volumes({k: v for k, v in a.items() if k != "t1"}), "no file for T1 among"),
    "no mask": (lambda a: volumes({k: v for k, v in a.items() if k != "seg"}), "no file for segmentation among"),
    "label 3": (lambda a: volumes(a | {"seg": a["seg"] + (a["seg"] == 4)}), "values [5]; the coding is 0, 1 NCR"),
    "other shape": (lambda a: volumes(a | {"seg": a["seg"][:-1]}), "(23, 20, 155) voxels, but"),
    "few slices": (lambda a: volumes({k: v[..., :100] for k, v in a.items()}), "a volume of BraTS has 155 slices"),
    "askew": (askew, "the volume lies askew"),
    "moved": (moved, "lies elsewhere than BraTS20_Training_001_t1.nii"),
    "NaN": (with_nan, "BraTS20_Training_001, FLAIR: 1 voxels are NaN"),
    "no brain": (lambda a: volumes(a | {"t2": a["t2"] * 0}), "T2: all voxels are 0, there is no brain in it"),
    "cut volume": (cut_volume, "BraTS20_Training_001_t1.nii: the file ends early or is damaged"),
    "cut slice": (cut_slices, "volume_1_slice_7.h5: not one of Kaggle's slices"),
    "missing slice": (
        lambda a: {k: v for k, v in slices(a).items() if not k.endswith("_9.h5")},
        "1 of 155 slices are missing, first 9",
    ),
    "mask of 7": (wrong_mask_slices, "volume_1_slice_3.h5: mask with values [7], it should hold 0 and 1"),
    "uneven": (uneven_slices, "image (24, 20, 4) and mask (24, 21, 3) should be H×W×4 and H×W×3"),
    "no NIfTI": (
        lambda a: volumes(a) | {"BraTS20_Training_001/BraTS20_Training_001_t1.nii": b"x"},
        "not a NIfTI volume",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_faulty_patient_is_named_with_the_reason_and_nothing_is_left(home, tmp_path, capsys, fault):
    make, message = BAD[fault]
    assert bring(tmp_path, make(patient())) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and "BraTS20_Training_001" in error
    assert not home.exists()


def test_wrong_options_are_usage_errors(home, tmp_path, capsys):
    for args, message in (
        (["brats2020", "--crop", "margin"], "volumes are stored whole"),
        (["cheng", "--bits", "16"], "cheng holds no volumes"),
        (["cheng", "--folder", "x"], "--folder is for 'own' alone"),
        (["own", "--archive", "x"], "'own' alone, which has no --archive"),
    ):
        with pytest.raises(SystemExit):
            download.main(args)
        assert message in capsys.readouterr().err


def test_middle_slices_and_patients_of_volumes(home, tmp_path):
    names = [f"BraTS20_Training_{i:03d}" for i in range(1, 8)]
    files = {k: v for i, name in enumerate(names) for k, v in volumes(patient(i), name).items()}
    assert bring(tmp_path, files) == 0
    table = read_manifest("brats2020")
    for fold in range(5):
        parts = make_split("brats2020", "patient", fold, selection="middle")
        owners = [set(table.patient.iloc[rows]) for rows in (parts.train, parts.val, parts.test)]
        assert all(not a & b for i, a in enumerate(owners) for b in owners[i + 1 :]) and all(owners)
        kept = table["slice"].astype(int).iloc[np.concatenate([parts.train_val, parts.test])]
        assert (kept.min(), kept.max(), len(kept)) == (39, 115, 7 * 77)
        assert len(parts.test_groups) == len(parts.test)
    with pytest.raises(DataError, match="the folds are 0 to 4"):
        make_split("brats2020", "patient", 5)


@pytest.mark.real
def test_six_real_patients_are_left_out_one_by_one(tmp_path, monkeypatch):
    archives = os.environ.get("BRAIN_MRI_ARCHIVES")
    if not archives:
        pytest.skip("BRAIN_MRI_ARCHIVES names no folder with the real archives")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path))
    assert download.main(["brats-mini", "--archive", str(Path(archives) / "brats-mini.zip")]) == 0
    assert download.main(["brats-mini", "--check"]) == 0
    table, tested = read_manifest("brats-mini"), set()
    for fold in range(6):
        parts = make_split("brats-mini", "patient", fold)
        owners = [set(table.patient.iloc[rows]) for rows in (parts.train, parts.val, parts.test)]
        assert [len(o) for o in owners] == [4, 1, 1] and not set.intersection(*owners)
        tested |= owners[2]
    assert len(tested) == 6
    masks = read_masks("brats-mini", np.arange(930))
    assert (masks.sum(axis=1) <= 1).all() and masks.any(axis=(0, 2, 3)).all()

"""BraTS in both its forms through `download.py`: one store, faulty patients."""

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from archives import bring as brought
from archives import hdf5, real_archive, saved
from brats_files import LPS, SHAPE, nifti, patient, slices, volumes

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.sources import brats
from datasets.sources import volumes as one_channel
from datasets.splitting import make_split
from datasets.store.images import read_masks
from datasets.store.index import read_manifest
from utils.evaluation.segmentation import mask_table


@pytest.fixture
def home(root):
    """The folder of brats2020 in an empty data root."""
    return root / "brats2020"


def bring(path: Path, files: dict[str, bytes], *options: str) -> int:
    return brought("brats2020", saved(path, files, "brats.zip"), "--size", "32", *options)


def test_both_forms_give_the_same_store(home, tmp_path):
    assert bring(tmp_path, volumes(patient()) | volumes(patient(2), "BraTS20_Training_002")) == 0
    with h5py.File(home / "images.h5") as file:
        images, masks, chunk = file["image"][()], file["mask"][()], file["image"].chunks
    table = read_manifest("brats2020")
    assert images.shape == (310, 32, 32, 4) and images.dtype == np.uint8 and chunk == (1, 32, 32, 4)
    assert masks.shape == (310, 32, 32, 3) and set(np.unique(masks)) == {0, 1}
    assert table.path[154] == "BraTS20_Training_001/154" and table.patient.nunique() == 2
    (home.parent / "brats2020").rename(home.parent / "first")
    assert bring(tmp_path, slices(patient()) | slices(patient(2), 2)) == 0
    with h5py.File(home / "images.h5") as file:
        assert np.array_equal(file["mask"][()], masks)
        assert np.abs(file["image"][()].astype(int) - images).max() <= 1  # floats were rounded once more
    assert read_manifest("brats2020").path.tolist() == table.path.tolist()


def test_a_sequence_that_brats_has_not_is_found_by_its_own_name(tmp_path):
    files = [tmp_path / name for name in ("P_FLAIR.nii", "P_pre-contrast.nii.gz")]
    for file in files:
        file.touch()
    assert brats.sequences(files, ["FLAIR", "pre-contrast"]) == tuple(files)
    with pytest.raises(DataError, match="no file for post-contrast among"):
        brats.sequences(files, ["FLAIR", "post-contrast"])


def test_patients_without_masks_are_left_out_and_check_finds_a_changed_volume(home, tmp_path, capsys):
    unmasked = {kind: array for kind, array in patient(2).items() if kind != "seg"}
    assert bring(tmp_path, volumes(patient()) | volumes(unmasked, "BraTS20_Validation_002")) == 0
    assert set(read_manifest("brats2020").patient) == {"BraTS20_Training_001"}
    assert len(json.loads((home / "raw.json").read_text())["left_out"]) == 4
    assert download.main(["brats2020", "--check"]) == 1, "one patient, not 369"
    assert "raw/" not in capsys.readouterr().err
    (home / "raw/BraTS20_Training_001/BraTS20_Training_001_t2.nii").write_bytes(b"other")
    assert download.main(["brats2020", "--check"]) == 1
    assert "1 files are missing or changed, BraTS20_Training_001 first" in capsys.readouterr().err


def test_a_slice_lies_as_a_radiologist_sees_it_and_distances_are_in_millimetres(home, tmp_path):
    assert bring(tmp_path, volumes(patient())) == 0
    seg = patient()["seg"][:, :, 75].T == 2  # y × x: forehead up, the patient's left on the right
    mask = read_masks("brats2020", np.array([75]))[0, 1].astype(bool)
    rows, columns = np.nonzero(mask)
    wanted_rows, wanted_columns = np.nonzero(seg)
    assert rows.mean() / 32 == pytest.approx((wanted_rows.mean() + 0.5) / SHAPE[1], abs=0.04)
    assert columns.mean() / 32 == pytest.approx((wanted_columns.mean() + 0.5) / SHAPE[0], abs=0.04)
    rows = np.arange(60, 90)
    batches = [(rows, np.roll(read_masks("brats2020", rows).astype(bool), 2, axis=3))]
    table = mask_table("brats2020", rows, np.full(30, "p"), batches)
    assert set(table["WT.hd95"]) == {15.0}, "two of 32 pixels that are 240 mm"


@pytest.mark.parametrize("codes", ["RAS", "PLI", "LPS", "identity"])
def test_another_orientation_is_turned_by_its_affine_and_identity_is_ignored(tmp_path, codes):
    """The official training set has one segmentation by another name, as here."""
    facts, found = catalog.get("brats2020"), []
    turn = nib.orientations.axcodes2ornt("LPS" if codes == "identity" else codes)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("LPS"), turn)
    for name in ("plain", "turned"):
        (tmp_path / name).mkdir()
        for kind, array in patient().items():
            affine = np.eye(4) if codes == "identity" else LPS @ nib.orientations.inv_ornt_aff(turn, array.shape)
            turned = nib.orientations.apply_orientation(array, turn)
            content = nifti(array) if name == "plain" else nifti(turned, affine)
            (tmp_path / name / ("W39_1998.09.19_Segm.nii" if kind == "seg" else f"p_{kind}.nii")).write_bytes(content)
        found.append(brats.read(facts, tmp_path, name))
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)


def changed(files: dict[str, bytes], end: str, content: bytes | None = None, cut: int = 0) -> dict[str, bytes]:
    """The file whose name ends so with other content, cut short, or away."""
    name = next(name for name in files if name.endswith(end))
    content = files[name][:cut] if cut else content
    return {k: v for k, v in files.items() if k != name} | ({name: content} if content is not None else {})


def renamed(files: dict[str, bytes], end: str, name: str) -> dict[str, bytes]:
    """The file whose name ends so under another name."""
    return {(f"{Path(key).parent}/{name}" if key.endswith(end) else key): content for key, content in files.items()}


def with_nan(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    image = arrays["flair"].astype(np.float32)
    image[3, 3, 3] = np.nan
    return volumes(arrays | {"flair": image})


ASKEW = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SHEARED = np.array([[-1, 0.1, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
ODD, NARROW = (
    hdf5({"image": np.zeros((24, 20, 4)), "mask": mask}) for mask in (np.full((24, 20, 3), 7), np.zeros((24, 21, 3)))
)
BAD = {
    "no T1": (lambda a: changed(volumes(a), "_t1.nii"), "no file for T1 among"),
    "two T1": (
        lambda a: volumes(a) | volumes({"t1n": a["t1"]}),
        "_t1.nii and BraTS20_Training_001_t1n.nii are both",
    ),
    "of another": (lambda a: renamed(volumes(a), "_t2.nii", "BraTS20_Training_2_t2.nii"), "files of several patients"),
    "no mask": (lambda a: changed(volumes(a), "_seg.nii"), "no file for segmentation among"),
    "label 3": (lambda a: volumes(a | {"seg": a["seg"] + (a["seg"] == 4)}), "values [5]; the coding is 0, 1 NCR"),
    "other shape": (lambda a: volumes(a | {"seg": a["seg"][:-1]}), "does not lie on BraTS20_Training_001_t1.nii"),
    "moved": (lambda a: changed(volumes(a), "_t2.nii", nifti(a["t2"], 2 * LPS)), "does not lie on BraTS20_Training_0"),
    "few slices": (lambda a: volumes({k: v[..., :100] for k, v in a.items()}), "a volume of BraTS has 155 slices"),
    "askew": (
        lambda a: volumes(a, affine=ASKEW),
        "_t1.nii: lies askew (its affine shears, or turns it by 37°)",
    ),
    "sheared": (lambda a: volumes(a, affine=SHEARED), "lies askew"),
    "NaN": (with_nan, "BraTS20_Training_001_flair.nii: 1 voxels are NaN or infinite; set them to 0"),
    "no brain": (lambda a: volumes(a | {"t2": a["t2"] * 0}), "T2: all voxels are 0, there is no brain in it"),
    "cut volume": (lambda a: changed(volumes(a), "_t1.nii", cut=3000), "the file ends early or is damaged"),
    "no NIfTI": (lambda a: changed(volumes(a), "_t1.nii", b"x"), "not a NIfTI volume"),
    "cut slice": (lambda a: changed(slices(a), "_7.h5", cut=900), "volume_1_slice_7.h5: not one of Kaggle's slices"),
    "missing slice": (lambda a: changed(slices(a), "_9.h5"), "1 of 155 slices are missing, first 9"),
    "mask of 7": (lambda a: changed(slices(a), "_3.h5", ODD), "volume_1_slice_3.h5: mask with values [7], it should"),
    "uneven": (lambda a: changed(slices(a), "_3.h5", NARROW), "image (24, 20, 4) and mask (24, 21, 3) should be H×W×4"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_faulty_patient_is_named_with_the_reason_and_nothing_is_left(home, tmp_path, capsys, fault):
    make, message = BAD[fault]
    assert bring(tmp_path, make(patient())) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and "BraTS20_Training_001" in error
    assert not home.exists()


NAMES = {  # name → whose, channel
    "BraTS20_Training_001_t1ce.nii": ("BraTS20_Training_001", "T1c"),
    "BraTS-GLI-00001-000-t2f.nii.gz": ("BraTS-GLI-00001-000", "FLAIR"),
    "W39_1998.09.19_Segm.nii": ("W39_1998.09.19", "segmentation"),
    "UCSF-PDGM-0004_T1c.nii.gz": ("UCSF-PDGM-0004", "T1c"),
    "UCSF-PDGM-0004_T1c_bias.nii.gz": ("UCSF-PDGM-0004_bias", "T1c"),
    "UPENN-GBM-00001_11_T1GD.nii.gz": ("UPENN-GBM-00001_11", "T1c"),
    "sub-01_ses-2_T1w.nii.gz": ("sub-01_ses-2", "T1"),
    "sub-01_ses-2_ce-gadolinium_T1w.nii.gz": ("sub-01_ses-2", "T1c"),
    "sub-01_ses-2_FLAIR.nii.gz": ("sub-01_ses-2", "FLAIR"),
    "T2.nii": ("", "T2"),
    "BRATS_001_0001.nii.gz": ("", ""),
    "adc_t1map.nii": ("", ""),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_whose_a_volume_is_and_of_which_channel(name):
    assert brats.named(Path(name)) == NAMES[name]


def test_one_rule_says_how_far_a_volume_may_be_turned(tmp_path):
    """Its slices are taken along its own axes, by models of one channel and of several alike."""
    c, s = np.cos(np.radians(29)), np.sin(np.radians(29))
    voxels = np.random.default_rng(0).integers(0, 900, (9, 8, 7)).astype(np.int16)
    for name, affine in (("straight.nii", LPS), ("oblique.nii", [[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0]] @ LPS)):
        (tmp_path / name).write_bytes(nifti(voxels, np.vstack([affine, [0, 0, 0, 1]])[:4]))
    for read in (lambda path: one_channel.read(path)[0], lambda path: brats.read_sequences([path])):
        assert np.array_equal(*(read(tmp_path / name) for name in ("straight.nii", "oblique.nii")))


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
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path))
    assert download.main(["brats-mini", "--archive", str(real_archive("brats-mini"))]) == 0
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

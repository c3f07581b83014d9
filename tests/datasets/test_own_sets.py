"""What a reader's own set holds: no tumour is cut, relatives stay together, channels and volumes."""

import json
import shutil
from pathlib import Path

import cv2
import h5py
import nibabel as nib
import numpy as np
import pytest
from dicom_files import dicom
from own_images import SIDE, blob, classes, coloured, head, own, people, tabled
from PIL import Image

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.curation import __main__ as curation
from datasets.curation import split_table
from datasets.sources import volumes
from datasets.splitting import make_split
from datasets.store import manifest
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest, read_splits, turns
from datasets.transforms import TRANSFORMS
from utils.run import Run
from utils.training.data import load_data

pytestmark = pytest.mark.usefixtures("root")


def test_no_tumour_is_cut_and_what_the_set_holds_is_said(root, tmp_path, capsys):
    cases = people(12)
    cases[1] = ("p1", cases[1][1], blob(3, 3, 2))  # in a corner that the crop cuts away
    cases[2] = ("p2", cases[2][1], blob(32, 60, 6))  # half of it
    cases[3] = ("p3", cases[3][1], np.zeros_like(cases[3][2]))
    cases[4] = ("p4", 255 - cases[4][1], cases[4][2])
    cases[5] = ("p5", np.stack([cases[5][1], cases[5][1] // 2, cases[5][1]], axis=2), cases[5][2])
    assert own("--folder", tabled(tmp_path / "mine", cases)) == 0
    masks = read_masks("own", np.arange(12))[:, 0]
    assert [bool(mask.any()) for mask in masks] == [i != 3 for i in range(12)]
    assert masks[1][:10, :10].any() and all(masks[i].sum() >= (cases[i][2] > 0).sum() for i in (1, 2)), "whole"
    holds = json.loads((root / "own/log.json").read_text())["holds"]
    remarks = {"empty mask": 1, "looks inverted": 1, "crop widened to hold the mask": 2, "colour made grey": 1}
    counts = {"images": 12, "patients": 12, "groups": 12, "with a tumour": 11, "cropped": 11}
    assert holds == counts | remarks
    said = capsys.readouterr().out
    assert "12 images of 12 patients in 12 groups" in said and "2 crop widened to hold the mask" in said
    assert download.main(["own", "--check"]) == 0 and "11 with a tumour; 1 empty mask" in capsys.readouterr().out


def test_check_sees_a_changed_mask_and_a_changed_table_of_groups(root, tmp_path, capsys):
    own("--folder", tabled(tmp_path / "mine", people(6)))
    Image.fromarray(blob(9, 9)).save(root / "own/raw/masks/04.png")
    (root / "own/groups.csv").write_text("path,group\n")
    assert download.main(["own", "--check"]) == 1
    error = capsys.readouterr().err
    assert "masks/04.png first" in error and "groups.csv has other bytes than were written" in error
    (root / "own/groups.csv").unlink()
    with pytest.raises(DataError, match=r"groups.csv: .*download.py own"):
        make_split("own", "patient")
    own("--folder", tmp_path / "mine", "--replace")
    with pytest.raises(DataError, match="no split table says how the images of 'own' were turned"):
        turns("own", read_manifest("own"))


def test_own_is_what_the_catalogue_says_until_it_is_brought_in(root, tmp_path):
    assert catalog.get("own") == catalog.CATALOG["own"]
    own("--folder", tabled(tmp_path / "mine", people(6)), "--crop", "none")
    assert (catalog.get("own").crop, catalog.get("own").size) == ("none", 64)
    with pytest.raises(DataError, match=r"'own' holds one class, 'unlabelled'.*5_segmentation"):
        load_data(Run(dataset="own", split="patient", model="CustomCNN"))
    (root / "own/log.json").write_text("{")
    assert catalog.get("own") == catalog.CATALOG["own"] and manifest.read_log(root / "own") is None


# ---- relatives -----------------------------------------------------------------------------------------


def test_relatives_of_two_patients_are_never_on_both_sides(tmp_path, capsys):
    cases = people(20)
    cases[7] = ("p7", cases[3][1], cases[3][2])  # the same image under another name
    cases[8] = ("p8", cases[4][1][:, ::-1], cases[4][2])  # flipped
    noisy = cases[5][1].astype(int) + np.random.default_rng(0).integers(-6, 7, (SIDE, SIDE))
    cases[9] = ("p9", np.clip(noisy, 0, 255).astype(np.uint8), cases[5][2])
    black = np.zeros((SIDE, SIDE), np.uint8)
    cases += [("p10", black, black), ("p11", black, black)]  # black slices are no relatives
    assert own("--folder", tabled(tmp_path / "mine", cases)) == 0
    group = read_splits("own", read_manifest("own")).group
    together = [(3, 7), (4, 8), (5, 9), (10, 20), (11, 21)]
    assert all(group[a] == group[b] for a, b in together) and group.nunique() == 22 - len(together)
    for fold in range(5):
        parts = make_split("own", "patient", fold)
        sides = [set(parts.groups[parts.train]), set(parts.groups[parts.val]), set(parts.groups[parts.test])]
        assert not any(a & b for i, a in enumerate(sides) for b in sides[i + 1 :])
    assert "Groups that join images of several patients: 3." in capsys.readouterr().out


def test_images_that_are_all_alike_do_not_run_together_into_one_group(tmp_path, capsys):
    rng, common = np.random.default_rng(0), head(0).astype(float)
    cases = []
    for i in range(20):  # skull-stripped brains of different people look like this: all alike, none a copy
        pixels = 0.6 * common + 0.4 * head(i + 1) + rng.normal(0, 14, common.shape)
        cases.append((f"p{i}", np.clip(pixels, 0, 255).astype(np.uint8), blob(30, 30)))
    assert own("--folder", tabled(tmp_path / "mine", cases)) == 0
    assert read_splits("own", read_manifest("own")).group.nunique() == 20
    assert "at 0.95 they would run together" in capsys.readouterr().out and len(make_split("own", "patient", 0).test)


def test_of_many_images_copies_alone_are_joined(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(split_table, "MOST", 10)
    folder = classes(tmp_path / "mine", ["a", "b"], each=10)
    shutil.copy(folder / "a/1.png", folder / "b/again.png")
    Image.fromarray(np.asarray(Image.open(folder / "a/3.png"))[:, ::-1]).save(folder / "a/flipped.png")
    assert own("--folder", folder) == 0
    groups = read_splits("own", read_manifest("own")).set_index("path")
    assert groups.group["a/1.png"] == groups.group["b/again.png"] and groups.group.nunique() == 20
    assert groups.group["a/3.png"] == groups.group["a/flipped.png"]
    assert groups.label_conflict[["a/1.png", "b/again.png", "a/3.png"]].tolist() == ["1", "1", "0"]
    said = capsys.readouterr().out
    assert "copies alone were looked for, of 22 images" in said and "2 copies with another label" in said


# ---- channels and volumes ------------------------------------------------------------------------------


def test_channels_become_grey_or_are_kept(root, tmp_path, capsys):
    folder = tabled(tmp_path / "lgg", coloured(10))
    assert own("--folder", folder) == 0
    assert "10 colour made grey" in capsys.readouterr().out and catalog.get("own").channels == ("grey",)
    assert own("--folder", folder, "--channels", "pre,FLAIR,post") == 0
    assert own("--folder", folder) == 0 and "nothing to do" in capsys.readouterr().out.splitlines()[-1]
    assert download.main(["own", "--size", "32"]) == 0, "from raw/, channels and all"
    facts = catalog.get("own")
    assert (facts.channels, facts.size, facts.classes) == (("pre", "FLAIR", "post"), 32, ("unlabelled",))
    batch = ImageDataset("own", np.arange(2), image_size=32, channels="all").batch([0])["image"]
    assert batch.shape == (1, 3, 32, 32) and not batch[0, 0].equal(batch[0, 1])
    with h5py.File(root / "own/images.h5") as file:
        assert file["image"].shape == (10, 32, 32, 3) and file["mask"].shape == (10, 32, 32, 1)
    assert own("--folder", folder, "--channels", "a,b") == 1
    assert "holds 3 channels, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(("ids", "patients"), [(True, 4), (False, 8)], ids=["named", "anonymised alike"])
@pytest.mark.parametrize("by", ["folders", "table"])
def test_dicom_series_pass_as_folders_of_classes_or_by_a_table(by, ids, patients, tmp_path):
    lines = ["image,label"]
    for visit in range(8):
        label = "ab"[visit // 4]
        series = f"mine/{label}/visit{visit}"
        lines.append(f"{series},{label}")
        for s in range(2):
            name = f"slice{s}.dcm" if visit % 2 else f"1.2.{s}"
            tags = {"PatientID": f"p{visit % 2}{label}" if ids else "ANON", "StudyInstanceUID": f"1.{visit}"}
            dicom(tmp_path / series / name, head(10 * visit + s).astype(np.uint16) * 15, bits=12, **tags)
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert own(*(("--folder", tmp_path / "mine") if by == "folders" else ("--labels", tmp_path / "t.csv"))) == 0
    table = read_manifest("own")
    assert len(table) == 16 and table.patient.nunique() == patients
    assert table.groupby("patient").label.nunique().max() == 1
    image = ImageDataset("own", [0], image_size=64)[0]["image"]
    assert image.max() > 240 and image.float().std() > 20


def volume(path: Path, seed: int, mask: bool = False, zooms: tuple = (1.0, 1.0, 5.0), slices: int = 6) -> None:
    """A NIfTI volume of `slices` slices, the first of them black, or its mask."""
    planes = [blob(30, 20) if mask else head(seed + z) for z in range(slices)]
    voxels = np.stack([planes[0] * 0, *planes[1:]]).transpose(2, 1, 0).astype(np.float32) * 40
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = (voxels > 0).astype(np.float32) if mask else voxels
    nib.save(nib.Nifti1Image(voxels, np.diag([-zooms[0], -zooms[1], zooms[2], 1])), path)


def test_nifti_volumes_pass_with_and_without_masks(tmp_path, capsys):
    lines = ["image,mask,label"]
    for i in range(6):
        volume(tmp_path / f"v{i}.nii.gz", 100 * i, slices=6 + i % 2)
        volume(tmp_path / f"m{i}.nii.gz", 0, mask=True, slices=6 + i % 2)
        lines.append(f"v{i}.nii.gz,m{i}.nii.gz,{'ab'[i % 2]}")
    (tmp_path / "samples.csv").write_text("\n".join(lines))
    assert own("--folder", tmp_path) == 0 and download.main(["own", "--check"]) == 0
    table = read_manifest("own")
    assert table.path[:5].tolist() == [f"v0.nii.gz/{z:03}" for z in range(1, 6)], "black slices are left out"
    assert len(table) == 6 * 5 + 3 and table.patient.nunique() == 6 and table.label.nunique() == 2
    assert read_masks("own", np.arange(len(table))).any(axis=(1, 2, 3)).all()
    seen = ImageDataset("own", np.arange(5), image_size=64).batch([0])["image"][0, 0].numpy()
    left, top, width, height = cv2.boundingRect(head(1))
    wanted = cv2.resize(head(1)[top : top + height, left : left + width], (64, 64))
    alike = {name: np.corrcoef(turn(seen).ravel(), wanted.ravel())[0, 1] for name, turn in TRANSFORMS.items()}
    assert max(alike, key=alike.get) == "upright" and alike["upright"] > 0.9, "it lies as it was written"
    with pytest.raises(DataError, match="holds no volumes"):
        make_split("own", "patient", selection="middle")
    volume(tmp_path / "m1.nii.gz", 0, mask=True, slices=5)
    assert own("--folder", tmp_path) == 1
    assert "image (7, 64, 64) and mask m1.nii.gz (5, 64, 64) should have one shape" in capsys.readouterr().err


def test_a_volume_is_sliced_across_its_thickest_direction(tmp_path):
    for i in range(6):
        volume(tmp_path / f"mine/{'ab'[i % 2]}/v{i}.nii", 100 * i, zooms=(6.0, 1.0, 1.0), slices=32)
    assert own("--folder", tmp_path / "mine") == 0
    assert read_manifest("own").path.str.split("/").str[1].value_counts().max() > 40, "across its 64 columns"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "4d.nii")
    with pytest.raises(DataError, match=r"4d\.nii: 4 dimensions"):
        volumes.read(tmp_path / "4d.nii")


# ---- external tests ------------------------------------------------------------------------------------


def test_external_tests_from_and_to_own_leave_relatives_out(small_phantom, root, tmp_path, capsys):
    shutil.copytree(small_phantom / "phantom", root / "phantom")
    folder = classes(tmp_path / "mine", ["glioma", "notumor"], each=20)
    shown = ImageDataset("phantom", np.arange(6), image_size=64).batch(range(6))["image"][:, 0].numpy()
    for i, image in enumerate(shown):
        Image.fromarray(image).save(folder / f"glioma/copy{i}.png")
    assert own("--folder", folder, "--crop", "none") == 0
    pairs = (("phantom", "own"), ("own", "phantom"))
    for name, test_on in pairs:
        with pytest.raises(DataError, match="make it with: python -m datasets"):
            make_split(name, "external", test_on=test_on)
    assert curation.main(["own", "phantom"]) == 0 and (root / "own/overlap/own+phantom.csv").is_file()
    to_own, from_own = (make_split(name, "external", test_on=test_on) for name, test_on in pairs)
    tested, phantom = read_manifest("own").path.iloc[to_own.test], read_manifest("phantom")
    assert len(tested) == 40 and not tested.str.contains("copy").any()
    assert not set(phantom.patient.iloc[from_own.test]) & set(phantom.patient[:6])
    assert set(phantom.label.iloc[from_own.test]) <= {"glioma", "notumor"}
    for name, test_on in pairs:
        assert len(load_data(Run(dataset=name, split="external", test_on=test_on, image_size=64)).test)
    (folder / "glioma/copy0.png").unlink()
    assert own("--folder", folder, "--crop", "none") == 0
    with pytest.raises(DataError, match=r"not there; make it with: python -m datasets.curation phantom own$"):
        make_split("phantom", "external", test_on="own")

"""What a reader's own set holds: no tumour is cut, relatives stay together, channels are kept, and a chapter runs."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from own_images import SIDE, blob, head
from PIL import Image

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.curation import relatives
from datasets.splitting import make_split
from datasets.store import manifest
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest, read_splits, turns
from datasets.store.masks import with_masks
from models import SEGMENTERS
from utils.evaluation.segmentation import evaluate_masks, mask_table, predict_masks
from utils.recipes import QUICK_SEGMENTATION, get_recipe
from utils.report.records import save_run
from utils.run import Run
from utils.training.data import load_data
from utils.training.loop import fit
from utils.training.tasks import Segmentation

pytestmark = pytest.mark.usefixtures("data")


def write(folder: Path, cases: list[tuple[str, np.ndarray, np.ndarray]]) -> Path:
    """A folder with a table of patients, images and masks."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["image,mask,patient"]
    for i, (patient, image, mask) in enumerate(cases):
        Image.fromarray(image).save(folder / f"images/{i:03}.png")
        Image.fromarray(mask).save(folder / f"masks/{i:03}.png")
        lines.append(f"images/{i:03}.png,masks/{i:03}.png,{patient}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return folder


def people(number: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [(f"p{i}", head(i), blob(30, 30)) for i in range(number)]


def bring(folder: Path, *options: str) -> int:
    return download.main(["own", "--folder", str(folder), "--size", "64", "--workers", "1", *options])


# ---- what it holds -------------------------------------------------------------------------------------


def test_no_tumour_is_cut_and_what_the_set_holds_is_said(data, tmp_path, capsys):
    cases = people(12)
    cases[1] = ("p1", cases[1][1], blob(3, 3, 2))  # in a corner that the crop cuts away
    cases[2] = ("p2", cases[2][1], blob(32, 60, 6))  # half of it
    cases[3] = ("p3", cases[3][1], np.zeros_like(cases[3][2]))
    cases[4] = ("p4", 255 - cases[4][1], cases[4][2])
    cases[5] = ("p5", np.stack([cases[5][1], cases[5][1] // 2, cases[5][1]], axis=2), cases[5][2])
    assert bring(write(tmp_path / "mine", cases)) == 0
    masks = read_masks("own", np.arange(12))[:, 0]
    assert [bool(mask.any()) for mask in masks] == [i != 3 for i in range(12)]
    corner, half = masks[1], masks[2]
    assert corner[:10, :10].any() and corner.sum() >= (cases[1][2] > 0).sum(), "whole, and enlarged with the head"
    assert half.sum() >= (cases[2][2] > 0).sum()
    holds = json.loads((data / "own/log.json").read_text())["holds"]
    assert holds == {
        "images": 12,
        "patients": 12,
        "groups": 12,
        "with a tumour": 11,
        "empty mask": 1,
        "looks inverted": 1,
        "cropped": 11,
        "crop widened to hold the mask": 2,
        "colour made grey": 1,
    }
    said = capsys.readouterr().out
    for text in (
        "12 images of 12 patients in 12 groups",
        "11 with a tumour, 1 with an empty mask",
        "11 cropped to the head, of these 2 less tightly, so that no tumour is cut",
        "1 looks inverted",
        "1 of colours made grey; --channels NAME,NAME,NAME keeps them",
    ):
        assert text in said
    assert download.main(["own", "--check"]) == 0
    assert "11 with a tumour, 1 with an empty mask" in capsys.readouterr().out


def test_check_sees_a_changed_mask_and_a_changed_table_of_groups(data, tmp_path, capsys):
    bring(write(tmp_path / "mine", people(6)))
    assert download.main(["own", "--check"]) == 0
    Image.fromarray(blob(9, 9)).save(data / "own/raw/masks/004.png")
    (data / "own/groups.csv").write_text("path,group\n")
    assert download.main(["own", "--check"]) == 1
    error = capsys.readouterr().err
    assert "1 files are not those of the manifest, masks/004.png first" in error
    assert "groups.csv has other bytes than were written" in error


# ---- relatives -----------------------------------------------------------------------------------------


def test_relatives_of_two_patients_are_never_on_both_sides(tmp_path, capsys):
    cases = people(20)
    cases[7] = ("p7", cases[3][1], cases[3][2])  # the same image under another name
    cases[8] = ("p8", cases[4][1][:, ::-1], cases[4][2])  # flipped
    noisy = cases[5][1].astype(int) + np.random.default_rng(0).integers(-6, 7, (SIDE, SIDE))
    cases[9] = ("p9", np.clip(noisy, 0, 255).astype(np.uint8), cases[5][2])
    black = np.zeros((SIDE, SIDE), np.uint8)
    cases += [("p10", black, black), ("p11", black, black)]  # black slices are no relatives
    assert bring(write(tmp_path / "mine", cases)) == 0
    table = read_splits("own", read_manifest("own"))
    group = table.set_index("path").group
    names = [f"images/{i:03}.png" for i in range(22)]
    together = [(3, 7), (4, 8), (5, 9), (10, 20), (11, 21)]
    assert all(group[names[a]] == group[names[b]] for a, b in together)
    assert group.nunique() == 22 - len(together)
    for fold in range(5):
        parts = make_split("own", "patient", fold)
        sides = [set(parts.groups[parts.train]), set(parts.groups[parts.val]), set(parts.groups[parts.test])]
        assert not any(a & b for i, a in enumerate(sides) for b in sides[i + 1 :])
    said = capsys.readouterr().out
    assert "22 images of 20 patients in 17 groups" in said
    assert "3 groups join images of several patients" in said


def test_of_many_images_copies_alone_are_joined(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(relatives, "MOST", 10)
    cases = people(20)
    cases[7] = ("p7", cases[3][1], cases[3][2])
    cases[8] = ("p8", cases[4][1][:, ::-1], cases[4][2])
    small = np.zeros((SIDE, SIDE), np.uint8)
    small[20:44, 20:44] = cv2.resize(head(5), (24, 24))
    cases[5], cases[9] = ("p5", small, blob(30, 30)), ("p9", small, blob(3, 3, 2))  # cropped otherwise, for its mask
    folder = write(tmp_path / "mine", cases)
    Image.fromarray(small).save(folder / "images/009.png", compress_level=0)  # other bytes, the same pixels
    assert bring(folder) == 0
    group = read_splits("own", read_manifest("own")).group
    assert group[3] == group[7] and group[4] == group[8] and group[5] == group[9] and group.nunique() == 17
    assert "copies alone were looked for, of 20 images" in capsys.readouterr().out


def test_images_that_are_all_alike_do_not_run_together_into_one_group(tmp_path, capsys):
    rng = np.random.default_rng(0)
    common = head(0).astype(float)
    cases = []
    for i in range(20):  # skull-stripped brains of different people look like this: all alike, none a copy
        own = 0.6 * common + 0.4 * head(i + 1)
        cases.append((f"p{i}", np.clip(own + rng.normal(0, 14, own.shape), 0, 255).astype(np.uint8), blob(30, 30)))
    assert bring(write(tmp_path / "mine", cases)) == 0
    table = read_splits("own", read_manifest("own"))
    assert table.group.nunique() == 20
    said = capsys.readouterr().out
    assert "images alike (correlation of at least 0.97) are joined; at 0.95 they would run together" in said
    assert "0 groups join images of several patients" in said
    assert len(make_split("own", "patient", 0).test)


def test_a_set_packed_before_groups_were_kept_is_packed_anew(data, tmp_path):
    bring(write(tmp_path / "mine", people(6)))
    (data / "own/groups.csv").unlink()
    with pytest.raises(DataError, match=r"groups.csv: not there.*download.py own"):
        make_split("own", "patient")
    with pytest.raises(DataError, match="no split table says how the images of 'own' were turned"):
        bring(tmp_path / "mine", "--replace")
        turns("own", read_manifest("own"))


# ---- channels, and LGG's layout ------------------------------------------------------------------------


def lgg(folder: Path, patients: int = 110, slices: int = 3) -> int:
    """A tree as Kaggle's `lgg-mri-segmentation` has it, small; returns the number of slices with a tumour."""
    lines, tumours = ["image,mask,patient"], 0
    for i in range(patients):
        name = f"TCGA_{('CS', 'DU', 'EZ', 'FG', 'HT')[i % 5]}_{4940 + i}_{19960909 + i}"
        (folder / "kaggle_3m" / name).mkdir(parents=True)
        for s in range(1, slices + 1):
            pre, flair, post = (head(1000 * i + s + 300 * c) for c in range(3))
            mask = (
                blob(*((2, 60) if i % 10 == 0 else (20 + s, 30)), 2)
                if (i + s) % 3
                else np.zeros((SIDE, SIDE), np.uint8)
            )
            tumours += bool(mask.any())
            path = f"kaggle_3m/{name}/{name}_{s}"
            Image.fromarray(np.stack([pre, flair, post], axis=2)).save(folder / f"{path}.tif")
            Image.fromarray(mask).save(folder / f"{path}_mask.tif")
            lines.append(f"{path}.tif,{path}_mask.tif,{name[:12]}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return tumours


def test_lgg_s_layout_passes_from_the_door_to_an_epoch_of_the_chapter_on_segmentation(data, tmp_path, capsys):
    tumours = lgg(tmp_path / "lgg")
    assert bring(tmp_path / "lgg", "--channels", "pre,FLAIR,post") == 0
    assert "330 images of 110 patients" in capsys.readouterr().out
    with h5py.File(data / "own/images.h5") as file:
        assert file["image"].shape == (330, 64, 64, 3) and file["mask"].shape == (330, 64, 64, 1)
    assert int(read_masks("own", np.arange(330)).any(axis=(1, 2, 3)).sum()) == tumours, "no tumour is lost"
    facts = catalog.get("own")
    assert (facts.channels, facts.mask_channels, facts.classes) == (
        ("pre", "FLAIR", "post"),
        ("tumour",),
        ("unlabelled",),
    )
    assert "own" in with_masks()
    tested = np.concatenate([make_split("own", "patient", fold).test for fold in range(5)])
    assert sorted(tested) == list(range(330))

    size = {"image_size": 32, "n_filters": 4}
    run = Run(dataset="own", split="patient", model="AttentionUNet", recipe="ours", quick=True, **size)
    args = dict(get_recipe("ours", "AttentionUNet").model_args) | {"n_filters": 4}
    recipe = get_recipe("ours", "AttentionUNet", **QUICK_SEGMENTATION | {"epochs": 1}, model_args=args)
    loaded = load_data(run, recipe.val_fraction)
    patients = read_manifest("own").patient.to_numpy()
    assert not set(patients[loaded.split.test]) & set(patients[loaded.split.train_val])
    set_seed(0)
    net = SEGMENTERS["AttentionUNet"](in_channels=3, out_channels=len(facts.mask_channels), **recipe.model_args)
    task = Segmentation(1, recipe.loss, recipe.augmentation)
    fitted = fit(net, task, loaded.train, loaded.val, recipe, folder=run.folder, seed=0)
    assert len(fitted.history) == 1 and np.isfinite(fitted.history.train_loss).all()
    table = mask_table("own", loaded.split.test, loaded.split.test_groups, predict_masks(net, task, loaded.test))
    result = evaluate_masks(table, facts.mask_channels, [], 20)
    save_run(run, result, table, model=net, recipe=recipe, fit=fitted, sizes=loaded.sizes)
    card = json.loads((run.weights_folder / "card.json").read_text())
    assert card["arguments"]["in_channels"] == 3 and card["input"]["channels"] == ["pre", "FLAIR", "post"]
    assert card["input"]["stored_size"] == 64


def test_without_channels_colours_become_grey_and_with_others_the_set_is_packed_anew(data, tmp_path, capsys):
    lgg(tmp_path / "lgg", patients=6)
    assert bring(tmp_path / "lgg") == 0
    assert "18 of colours made grey" in capsys.readouterr().out
    assert catalog.get("own").channels == ("grey",)
    assert bring(tmp_path / "lgg", "--channels", "pre,FLAIR,post") == 0
    assert catalog.get("own").channels == ("pre", "FLAIR", "post")
    batch = ImageDataset("own", np.arange(2), image_size=64, channels="all").batch([0])["image"]
    assert batch.shape == (1, 3, 64, 64) and not torch.equal(batch[0, 0], batch[0, 1])
    assert bring(tmp_path / "lgg") == 0 and "nothing to do" in capsys.readouterr().out.splitlines()[-1]
    assert download.main(["own", "--size", "32"]) == 0, "from raw/, channels and all"
    assert catalog.get("own").channels == ("pre", "FLAIR", "post") and catalog.get("own").size == 32
    assert bring(tmp_path / "lgg", "--channels", "a,b") == 1
    error = capsys.readouterr().err
    assert "holds 3 channels, not 2" in error and str(tmp_path / "lgg") in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sartaj", "--channels", "a,b"], "--channels is for 'own' alone"),
        (["own", "--channels", "a,,b"], "names of channels, with commas between"),
        (["own", "--channels", "a,a"], "names of channels, with commas between"),
    ],
)
def test_wrong_words_for_channels_are_usage_errors(words, message, capsys):
    with pytest.raises(SystemExit):
        download.main(words)
    assert message in capsys.readouterr().err


def test_own_is_what_the_catalogue_says_until_it_is_brought_in(data, tmp_path):
    assert catalog.get("own") == catalog.CATALOG["own"]
    bring(write(tmp_path / "mine", people(6)), "--crop", "none")
    assert (catalog.get("own").crop, catalog.get("own").size) == ("none", 64)
    (data / "own/log.json").write_text("{")
    assert catalog.get("own") == catalog.CATALOG["own"]
    assert manifest.read_log(data / "own") is None


# ---- chapters that do not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "values"),
    [("CustomCNN", {}), ("1-NN", {}), ("SqueezeNet", {"pretrained": False}), ("MultiTaskUNet", {"recipe": "s0"})],
)
def test_a_chapter_that_tells_classes_apart_says_that_own_has_none(model, values, tmp_path):
    bring(write(tmp_path / "mine", people(6)))
    with pytest.raises(DataError) as error:
        load_data(Run(dataset="own", split="patient", model=model, **values))
    assert "'own' holds one class, 'unlabelled'" in str(error.value) and "5_segmentation" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_without_masks_is_not_segmented(roots, monkeypatch):
    monkeypatch.setitem(catalog.CATALOG, "phantom", replace(catalog.get("phantom"), mask_channels=()))
    with pytest.raises(DataError, match="'phantom' has no masks; sets with masks: cheng, "):
        load_data(Run(dataset="phantom", split="patient", model="AttentionUNet"))

"""Segmentation metrics against hand-made cases and MONAI; padding; pooling by patient, by volume and as S2 did."""

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric
from torch import nn

from datasets.catalog import DataError, get
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from models import SEGMENTERS
from utils.evaluation import segmentation
from utils.evaluation.baselines import nearest
from utils.evaluation.segmentation import (
    BESIDE,
    Padded,
    beside_dice,
    evaluate_masks,
    from_counts,
    hd95,
    mask_table,
    predict_masks,
)
from utils.training.tasks import Segmentation

SIDE = 40


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + side, left : left + side] = True
    return mask


EMPTY, DIAGONAL = square(0, 0, 0), SIDE * np.sqrt(2)
# predicted, true → Dice, IoU, precision, recall, FNR, FPR (NaN: left out), hd95
CASES = {
    "perfect": (square(5, 5, 10), square(5, 5, 10), (1, 1, 1, 1, 0, 0), 0),
    "disjoint": (square(0, 0, 10), square(20, 0, 10), (0, 0, 0, 0, 1, 100 / 1500), None),
    "half": (square(5, 5, 10), square(5, 10, 10), (0.5, 1 / 3, 0.5, 0.5, 0.5, 50 / 1500), 5),
    "both empty": (EMPTY, EMPTY, (1, 1, np.nan, np.nan, np.nan, 0), 0),
    "truth empty": (square(5, 5, 10), EMPTY, (0, 0, 0, np.nan, np.nan, 100 / 1600), DIAGONAL),
    "prediction empty": (EMPTY, square(5, 5, 10), (0, 0, np.nan, 0, 1, 0), DIAGONAL),
    "one voxel of four": (square(7, 7, 1), square(7, 7, 2), (0.4, 0.25, 1, 0.25, 0.75, 0), None),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics_by_hand_and_by_monai(case):
    predicted, truth, wanted, distance = CASES[case]
    counts = [np.array([(a & b).sum()]) for a, b in ((predicted, truth), (predicted, ~truth), (~predicted, truth))]
    values = from_counts(*counts, np.array([SIDE**2]))
    found = [values[name][0] for name in ("dice", "iou", "precision", "recall", "fnr", "fpr")]
    assert found == pytest.approx(wanted, nan_ok=True)
    assert values["accuracy"][0] == pytest.approx((predicted == truth).mean())
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, truth)]
    assert DiceMetric(ignore_empty=False)(*pair).item() == pytest.approx(wanted[0])
    ours = hd95(predicted[None, None], truth[None, None])[0, 0]
    if distance is None:
        distance = HausdorffDistanceMetric(include_background=True, percentile=95)(*pair).item()
    assert ours == pytest.approx(distance)


def test_distance_in_a_volume_knows_the_size_of_its_voxels():
    volume = np.zeros((2, 1, 1, 10, 8, 8), bool)
    volume[0, 0, 0, 2, 4, 4] = volume[1, 0, 0, 6, 4, 4] = True
    assert hd95(*volume, spacing=(2.5, 1.0, 1.0))[0, 0] == pytest.approx(10)


def test_surfaces_and_lesions_by_hand():
    two = square(2, 2, 6) | square(20, 20, 6)
    cases = {  # predicted, truth → hd95_both, nsd, lesion_dice, lesion_recall
        "perfect": (two, two, (0, 1, 1, 1)),
        "one of two found": (square(2, 2, 6), two, (None, 0.5, 0.5, 0.5)),
        "and a false alarm": (square(2, 2, 6) | square(32, 2, 6), two, (None, None, 1 / 3, 0.5)),
        "within the tolerance": (np.roll(square(5, 5, 10), 1, 1), square(5, 5, 10), (1, 1, 0.9, 1)),
        "both empty": (EMPTY, EMPTY, (np.nan, 1, 1, np.nan)),
        "truth empty": (square(5, 5, 10), EMPTY, (np.nan, 0, 0, np.nan)),
        "prediction empty": (EMPTY, square(5, 5, 10), (np.nan, 0, 0, 0)),
    }
    for name, (predicted, truth, wanted) in cases.items():
        pair = predicted[None, None], truth[None, None]
        found = dict(zip(BESIDE, beside_dice(*pair, hd95(*pair))[:, 0, 0], strict=True))
        known = {key: value for key, value in zip(BESIDE, wanted, strict=True) if value is not None}
        # a surface's length is that of its corners, too: half of two equal lesions, to some percent
        assert {key: found[key] for key in known} == pytest.approx(known, nan_ok=True, abs=0.2), name
        if name != "one of two found":
            assert {key: found[key] for key in known} == pytest.approx(known, nan_ok=True, abs=1e-6), name


def test_older_tables_have_counts_alone():
    record = evaluate_masks(slices(("p", 10, 0, 0)), ["a"], resamples=20)
    assert not set(BESIDE) & set(record["metrics"]) and "hd95" in record["metrics"]


def slices(*rows: tuple[str, int, int, int]) -> pd.DataFrame:
    """A mask table of (patient, tp, fp, fn) for one channel, 100 pixels a slice."""
    table = pd.DataFrame(rows, columns=["patient", "a.tp", "a.fp", "a.fn"])
    return table.assign(group=table.patient, pixels=100, path="", **{"a.hd95": 1.0})


def test_a_patient_s_slices_are_pooled_then_patients_averaged():
    result = evaluate_masks(slices(("p", 10, 0, 0), ("p", 0, 10, 10), ("q", 5, 0, 0)), ["a"], resamples=50)
    dice = result["metrics"]["dice"]
    assert dice == result["per_class"]["a"]["dice"] and dice["value"] == 0.75
    assert 0 <= dice["low"] < 0.5 and 0.95 < dice["high"] <= 1, "two patients say little"
    assert (result["images"], result["patients"], result["per_class"]["a"]["patients"]) == (3, 2, 2)


def test_what_an_empty_mask_counts_as_in_the_mean():
    table = slices(("healthy", 0, 0, 0), ("false alarm", 0, 3, 0), ("hit", 4, 0, 0))
    result = evaluate_masks(table, ["a"], resamples=50)["metrics"]
    assert result["dice"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert result["recall"]["value"] == 1, "the only patient with a tumour"
    assert result["precision"]["value"] == 0.5, "of the two for whom something was predicted"
    far = evaluate_masks(table.assign(**{"a.hd95": [0.0, 1.0, 90.0]}), ["a"])["metrics"]["hd95"]
    assert far["low"] == 0 and far["high"] > 90, "a distance is not below 0"
    result = evaluate_masks(slices(("p", 0, 0, 0), ("q", 0, 0, 0)), ["a"], resamples=20)
    assert result["metrics"]["recall"]["value"] is None and result["metrics"]["dice"]["value"] == 1
    assert result["s2_pooling"]["dice"] is None, "S2 skipped channels empty in both"


def test_s2_pools_batches_and_skips_empty_ones():
    table = slices(("p", 8, 2, 0), ("p", 0, 0, 4), ("q", 0, 0, 0), ("q", 0, 0, 0), ("r", 1, 0, 0))
    pooled = segmentation.s2_pooling(table, ["a"], batch=2)
    assert pooled["dice"] == pytest.approx((16 / (16 + 2 + 4) + 1) / 2, abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 32), (33, 50), (1, 17)])
def test_padding_gives_back_the_size_and_changes_nothing_where_none_is_needed(height, width):
    net = SEGMENTERS["ClassicUNet"](in_channels=1, out_channels=2, n_filters=4).eval()
    x = torch.rand(2, 1, height, width)
    out = Padded(net)(x)
    assert out.shape == (2, 2, height, width) and (height % 16 or torch.equal(out, net(x)))


def test_regions_unite_their_channels():
    facts, masks = get("brats2020"), np.zeros((1, 3, 2, 2), bool)
    masks[0, 0, 0, 0] = masks[0, 1, 0, 1] = masks[0, 2, 1, 0] = True
    whole, core = segmentation.with_regions(masks, facts)[0, 3:]
    assert segmentation.scored(facts) == ["NCR", "ED", "ET", "WT", "TC"]
    assert whole.tolist() == [[True, True], [True, False]] and core.tolist() == [[True, False], [True, False]]


class Oracle(nn.Module):
    """Predicts the true masks of phantom rows in their order, shifted by `shift` columns."""

    def __init__(self, masks: np.ndarray, shift: int = 0):
        super().__init__()
        self.masks, self.done, self.unused = torch.from_numpy(np.roll(masks, shift, axis=3)), 0, nn.Linear(1, 1)

    def forward(self, x):
        part = self.masks[self.done : self.done + len(x)]
        self.done += len(x)
        return part.float() * 2 - 1  # p = .73 or .27


@pytest.mark.parametrize("shift", [0, 3])
def test_a_table_of_the_phantom_holds_what_was_predicted(roots, shift):
    rows = np.arange(40)
    truth = read_masks("phantom", rows)
    data = ImageDataset("phantom", rows, image_size=truth.shape[-1], channels="all", masks=True)
    manifest = read_manifest("phantom").iloc[rows]
    predictions = predict_masks(Oracle(truth, shift), Segmentation(3), data)
    table = mask_table("phantom", rows, manifest.patient.to_numpy(), predictions)
    moved, truth = np.roll(truth, shift, axis=3).astype(bool), truth.astype(bool)
    for column, pixels in {"tp": moved & truth, "fp": moved & ~truth, "fn": ~moved & truth}.items():
        assert table[f"ED.{column}"].tolist() == pixels[:, 1].sum(axis=(1, 2)).tolist()
    assert (table.path == manifest.path.to_numpy()).all() and (table.pixels == 64 * 64).all()
    result = evaluate_masks(table, ["NCR", "ED", "ET"], ["WT", "TC"], resamples=20)
    assert (result["metrics"]["dice"]["value"] == 1) == (shift == 0)
    assert result["metrics"]["hd95"]["value"] == (0 if shift == 0 else pytest.approx(shift, abs=2))
    assert set(result["per_class"]) == {"NCR", "ED", "ET", "WT", "TC"}
    assert set(BESIDE) <= set(result["metrics"]) and (result["metrics"]["lesion_dice"]["value"] == 1) == (shift == 0)
    assert result["metrics"]["hd95_both"]["value"] == pytest.approx(shift, abs=0.1), "no empty mask counts as 0"
    empty = evaluate_masks(segmentation.nothing(table), ["ED"], resamples=20)["per_class"]["ED"]
    assert empty["recall"]["value"] == 0 and empty["patients"] == result["per_class"]["ED"]["patients"]


def test_any_image_size_is_predicted_and_judged_at_the_size_of_the_store(roots):
    net = SEGMENTERS["ImprovedUNet"](in_channels=4, out_channels=3, n_filters=4)
    data = ImageDataset("phantom", np.arange(5), image_size=50, channels="all", masks=True)
    table = mask_table("phantom", data.rows, np.array(list("abcde")), predict_masks(net, Segmentation(3), data))
    assert (table.pixels == 64 * 64).all() and len(table) == 5


def test_a_copied_mask_is_perfect_where_the_image_is_in_training(roots):
    rows, small = np.arange(12), {"image_size": 64, "channels": "all"}
    train_val = np.arange(30)[::-1]  # an image and its planted copy have one mask
    donors = nearest(ImageDataset("phantom", train_val, **small), ImageDataset("phantom", rows, **small))
    table = mask_table("phantom", rows, rows.astype(str), segmentation.copy_masks("phantom", rows, donors))
    assert set(donors) <= set(train_val) and (donors == rows).mean() > 0.5
    assert evaluate_masks(table, ["ED"], resamples=20)["metrics"]["dice"]["value"] == 1


def test_every_slice_and_channel_is_scaled_by_its_own_range():
    image = torch.stack([torch.full((8, 8), 7), torch.arange(64).reshape(8, 8) * 3 + 5]).to(torch.uint16)[None]
    x = Segmentation(1).inputs({"image": image})
    assert x[0, 0].abs().max() == 0 and x[0, 1].min() == 0 and x[0, 1].max() == 1


@pytest.mark.parametrize("loss", ["bce", "dice+bce"])
def test_losses_fall_towards_the_truth(loss):
    task = Segmentation(2, loss=loss)
    y = (torch.rand(2, 2, 16, 16) > 0.7).to(torch.uint8)
    values = [task.loss(scale * (y.float() * 2 - 1), y).item() for scale in (-1, 0, 1, 5)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.1


def test_masks_are_refused_with_a_view(roots):
    with pytest.raises(DataError, match="take view='stored'"):
        ImageDataset("phantom", [0], masks=True, view="levelled")

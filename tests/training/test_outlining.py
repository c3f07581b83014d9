"""The task of the localiser: what counts for whom, losses counted by hand, masks that move with their image."""

import pytest
import torch
import torch.nn.functional as F

from utils.training.tasks import Outlining


def targets(label: list[int], known: list[bool], marked: list[slice | None], side: int = 8) -> dict[str, torch.Tensor]:
    mask = torch.zeros(len(label), 2, side, side, dtype=torch.uint8)
    for i, where in enumerate(marked):
        if where is not None:
            mask[i, i % 2, where, where] = 1
    image = torch.full((len(label), 1, side, side), 100, dtype=torch.uint8)
    return {"image": image, "mask": mask, "label": torch.tensor(label), "outlined": torch.tensor(known)}


def test_losses_are_those_counted_by_hand():
    torch.manual_seed(0)
    task = Outlining(4, healthy=2, label_smoothing=0.1)
    batch = targets([3, 2, 0], [True, True, False], [slice(2, 6), None, None])
    y = task.targets(batch)
    out = {"classes": torch.randn(3, 4), "outline": torch.randn(3, 4, 8, 8)}
    found = task.per_image(out, y)
    assert found["outline"][1].tolist() == [1, 1, 0] and found["name"][1].tolist() == [1, 1, 1]
    wanted = torch.zeros(8, 8, dtype=torch.long)
    wanted[2:6, 2:6] = 3  # class 3 is the third kind, behind the background: the healthy class 2 has none
    p = out["outline"][0].softmax(0)[3]
    dice = 2 * p[2:6, 2:6].sum() / (p.sum() + 16)
    assert found["outline"][0][0] == pytest.approx(
        (F.cross_entropy(out["outline"][:1], wanted[None]) + 1 - dice).item()
    )
    empty = F.cross_entropy(out["outline"][1:2], torch.zeros(1, 8, 8, dtype=torch.long)).item()
    assert found["outline"][0][1] == pytest.approx(empty), "a healthy image has an empty mask"
    name = F.cross_entropy(out["classes"], y["label"], label_smoothing=0.1, reduction="none")
    assert torch.allclose(found["name"][0], name)
    parts = task.parts(out, y)
    assert parts["outline"] == pytest.approx(found["outline"][0][:2].mean().item())


def test_images_without_a_known_mask_train_the_name_only():
    torch.manual_seed(0)
    task = Outlining(4, healthy=2)
    batch = targets([3, 0], [False, False], [slice(2, 6), None])
    out = {"classes": torch.randn(2, 4, requires_grad=True), "outline": torch.randn(2, 4, 8, 8, requires_grad=True)}
    parts = task.parts(out, task.targets(batch))
    assert parts["outline"] == 0
    task.loss(out, task.targets(batch)).backward()
    assert not out["outline"].grad.any() and out["classes"].grad.any()
    without = {name: value for name, value in batch.items() if name not in ("mask", "outlined")}
    assert not task.targets(without)["outlined"].any(), "a data set without masks has no outline that is known"
    assert task.parts(out, task.targets(without))["outline"] == 0


def test_the_losses_are_balanced_by_their_running_averages():
    task = Outlining(4, healthy=2, balance="ema").train()
    out = {"classes": torch.zeros(1, 4), "outline": torch.zeros(1, 4, 8, 8)}
    y = task.targets(targets([0], [True], [slice(0, 4)]))
    parts = {name: value.item() for name, value in task.parts(out, y).items()}
    averages = {"outline": 0.99 * 1.5 + 0.01 * parts["outline"], "name": 0.99 * 1.0 + 0.01 * parts["name"]}
    assert task.loss(out, y).item() == pytest.approx(sum(parts[name] / averages[name] for name in parts))
    alone = Outlining(4, healthy=2, balance="fixed", outline=False)
    assert set(alone.parts(out, y)) == {"name"}


def test_masks_move_with_their_image():
    torch.manual_seed(0)
    task = Outlining(4, healthy=2, augmentation="mirrored")
    batch = targets([0] * 16, [True] * 16, [slice(8, 20)] * 16, side=48)
    batch["image"] = batch["mask"].amax(1, keepdim=True) * 200
    x, y = task.example(batch)
    bright = (x > 0.3).float()
    overlap = 2 * (bright * y["tumour"]).sum((1, 2, 3)) / (bright.sum((1, 2, 3)) + y["tumour"].sum((1, 2, 3)))
    assert (overlap > 0.9).all() and not torch.equal(y["tumour"], task.targets(batch)["tumour"])


def test_metrics_of_a_pass_count_every_image_once():
    task = Outlining(4, healthy=2)
    y = task.targets(targets([3, 2, 0, 1], [True, True, True, False], [slice(2, 6), None, None, slice(0, 4)]))
    outline = torch.zeros(4, 4, 8, 8)
    outline[:, 0] = 10
    outline[0, 3, 2:6, 2:4] = 20  # half of the tumour: Dice 2·8 / (8 + 16)
    out = {"classes": 10 * F.one_hot(torch.tensor([3, 2, 0, 0]), 4).float(), "outline": outline}
    metrics = task.metrics()
    for part in (slice(0, 1), slice(1, 4)):
        metrics.update({k: v[part] for k, v in out.items()}, {k: v[part] for k, v in y.items()})
    found = metrics.compute()
    assert found["accuracy"] == 0.75
    assert found["dice"] == pytest.approx(2 / 3), "one image has a known mask that marks something"
    parts = task.parts(out, y)
    assert found["loss"] == pytest.approx((parts["outline"] + parts["name"]).item(), rel=1e-4)

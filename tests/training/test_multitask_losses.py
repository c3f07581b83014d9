"""The losses of the multi-task network and the parts that each reaches; the decision from its outputs."""

import numpy as np
import pytest
import torch
from multitask_images import CLASSES, HEALTHY, batch_of
from torch import nn

from datasets.catalog import DataError
from models import MultiTaskUNet
from utils.training.tasks import MultiTask
from utils.training.tasks.multitask import decide, healthy_class, joint_probabilities

VARIANTS = {"s0": {}, "no decoder": {"reconstruct": False}, "one head": {"hierarchical": False}}


def gradient(net, loss, of):
    parameters = [p for name, p in net.named_parameters() if name.startswith(of)]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return sum(g.abs().sum().item() for g in found)


@pytest.mark.parametrize("name", ["reconstruction", "tumour", "subtype"])
def test_every_loss_reaches_the_shared_encoder_and_its_own_part_only(name):
    torch.manual_seed(0)
    net, task, batch = MultiTaskUNet(width=4), MultiTask(4, HEALTHY), batch_of([0, 1, 2, 3])
    loss, counts = task.per_image(net(task.inputs(batch)), task.targets(batch))[name]
    loss = (loss * counts).sum()
    assert gradient(net, loss, "encoder.0") > 0 and gradient(net, loss, "encoder.4") > 0, "first level and bottleneck"
    reached = {of for of in ("decoder", "heads.tumour", "heads.subtype") if gradient(net, loss, of) > 0}
    assert reached == {"decoder" if name == "reconstruction" else f"heads.{name}"}
    assert (gradient(net, loss, "shared") > 0) == (name != "reconstruction")


def test_a_batch_without_a_tumour_asks_for_no_kind_of_it():
    net, task, batch = MultiTaskUNet(width=4), MultiTask(4, HEALTHY), batch_of([2, 2])
    outputs, targets = net(task.inputs(batch)), task.targets(batch)
    loss, counts = task.per_image(outputs, targets)["subtype"]
    assert counts.tolist() == [0, 0] and gradient(net, (loss * counts).sum(), "") == 0
    classification = task.parts(outputs, targets)["classification"]
    tumour = nn.functional.binary_cross_entropy_with_logits(outputs["tumour"], torch.zeros(2))
    assert torch.equal(classification, tumour) and task.loss(outputs, targets).isfinite()
    task.loss(outputs, targets).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters()), "DDP waits for every gradient"


def test_the_losses_are_those_computed_by_hand():
    task = MultiTask(4, HEALTHY)
    outputs = {
        "tumour": torch.tensor([2.0, -1.0]),
        "subtype": torch.tensor([[0.5, 0.0, 1.0], [9.0, 0.0, 0.0]]),
        "reconstruction": torch.full((2, 1, 2, 2), 0.5),
    }
    targets = {"label": torch.tensor([3, 2]), "image": torch.zeros(2, 1, 2, 2)}
    parts = task.parts(outputs, targets)
    assert parts["reconstruction"].item() == pytest.approx(0.25)
    binary = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    subtype = np.log(np.exp([0.5, 0.0, 1.0]).sum()) - 1.0  # pituitary is the third kind; the healthy row is left out
    assert parts["classification"].item() == pytest.approx(binary + subtype, rel=1e-5)


def test_the_augmented_image_is_reconstructed_and_validation_is_not_augmented():
    torch.manual_seed(0)
    task, batch = MultiTask(4, HEALTHY, augmentation="s0"), batch_of([0, 1, 2, 3])
    x, targets = task.example(batch)
    assert torch.equal(targets["image"], x) and not torch.allclose(x, batch["image"] / 255)
    assert torch.equal(task.inputs(batch), batch["image"] / 255)
    assert torch.equal(task.targets(batch)["image"], batch["image"] / 255)


@pytest.mark.parametrize("variant", VARIANTS)
def test_validation_reports_raw_losses_whatever_the_order(variant):
    torch.manual_seed(0)
    net, task = MultiTaskUNet(width=4, **VARIANTS[variant]).eval(), MultiTask(4, HEALTHY, **VARIANTS[variant])
    batch = batch_of([0, 2, 2, 1, 2, 3, 2, 2, 0])
    found = []
    for order in ([0, 1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 6, 7, 0, 3, 5, 8]):
        metrics = task.eval().metrics()
        for part in (order[:4], order[4:]):
            some = {key: value[part] for key, value in batch.items()}
            with torch.no_grad():
                metrics.update(net(task.inputs(some)), task.targets(some))
        found.append({name: value.item() for name, value in metrics.compute().items()})
    assert found[0] == pytest.approx(found[1])
    raw = [found[0][name] for name in ("reconstruction", "tumour", "subtype", "classes") if name in found[0]]
    assert found[0]["loss"] == pytest.approx(sum(raw)) and {"accuracy", "f1"} <= set(found[0])


LOGITS = [  # tumour; glioma, meningioma, pituitary; S0's decision
    (-0.1, (5.0, 0.0, 0.0), "notumor"),
    (0.0, (5.0, 0.0, 0.0), "glioma"),  # p = .5 is a tumour
    (0.1, (0.0, 0.1, 0.05), "meningioma"),  # although no kind of tumour reaches the .475 of "none"
    (3.0, (0.0, 0.1, 0.2), "pituitary"),
    (-3.0, (0.0, 0.0, 9.0), "notumor"),
]


def test_the_decision_is_s0s_on_a_table_of_logits():
    outputs = {"tumour": torch.tensor([t for t, _, _ in LOGITS]), "subtype": torch.tensor([s for _, s, _ in LOGITS])}
    p = joint_probabilities(outputs, HEALTHY)
    assert torch.allclose(p.sum(1), torch.ones(len(LOGITS)))
    kinds = ["glioma", "meningioma", "pituitary"]
    by_rule = [kinds[int(np.argmax(s))] if 1 / (1 + np.exp(-t)) >= 0.5 else "notumor" for t, s, _ in LOGITS]
    assert [CLASSES[i] for i in decide(p, HEALTHY)] == [d for _, _, d in LOGITS] == by_rule
    assert p[2].argmax() == HEALTHY, "the likeliest class alone would decide otherwise"
    for _ in range(3):
        random = {"tumour": torch.randn(200), "subtype": torch.randn(200, 3)}
        by_rule = torch.where(random["tumour"].sigmoid() < 0.5, 2, torch.tensor([0, 1, 3])[random["subtype"].argmax(1)])
        assert torch.equal(decide(joint_probabilities(random, HEALTHY), HEALTHY), by_rule)


def test_one_head_decides_for_the_likeliest_class():
    task, p = MultiTask(4, HEALTHY, hierarchical=False), torch.tensor([[0.3, 0.2, 0.4, 0.1]])
    assert task.decide(p).tolist() == [2] and MultiTask(4, HEALTHY).decide(p).tolist() == [0]


def test_a_set_without_healthy_images_is_refused_by_name():
    assert healthy_class("sartaj") == HEALTHY
    with pytest.raises(DataError, match="'cheng' has no images without a tumour"):
        healthy_class("cheng")

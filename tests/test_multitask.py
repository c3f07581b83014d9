"""S0's network and what goes with it: the losses and who answers for them, the balances, the decision, the resume."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import MultiTaskUNet
from utils.analysis import ablation
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.reconstruction import anomaly, describe, reconstructions
from utils.evaluation.screening import screening, threshold_for
from utils.recipes import get_recipe
from utils.reporting import tables
from utils.reporting.pooling import pool_folds
from utils.reporting.records import load_evidence, save_run, write_predictions
from utils.reporting.runs import Run
from utils.reporting.weights import find_weights, load_weights
from utils.training.balancing import RunningAverage, Uncertainty
from utils.training.callbacks import GradientWatch
from utils.training.decision import decide, healthy_class, joint_probabilities
from utils.training.loading import BalancedSampler, make_loader
from utils.training.loop import Fit, fit
from utils.training.optimisation import make_optimizer
from utils.training.tasks import MultiTask

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
HEALTHY = 2
VARIANTS = {"s0": {}, "no decoder": {"reconstruct": False}, "one head": {"hierarchical": False}}


def batch_of(labels, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 1, side, side), generator=generator, dtype=torch.uint8)
    return {"image": images, "label": torch.tensor(labels)}


# The network


def test_parameters_are_those_of_s0():
    assert sum(p.numel() for p in MultiTaskUNet().parameters()) == 31_299_909


@pytest.mark.parametrize("width", [1, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_by_name_with_their_shapes(width, channels):
    outputs = MultiTaskUNet(width=width, in_channels=channels)(torch.rand(2, channels, 32, 48))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"latent": (2, 256), "tumour": (2,), "subtype": (2, 3), "reconstruction": (2, channels, 32, 48)}
    assert (outputs["latent"] >= 0).all(), "behind a ReLU"


def test_parts_can_be_left_out():
    x = torch.rand(2, 1, 32, 32)
    assert set(MultiTaskUNet(width=4, reconstruct=False)(x)) == {"latent", "tumour", "subtype"}
    flat = MultiTaskUNet(width=4, hierarchical=False)(x)
    assert set(flat) == {"latent", "classes", "reconstruction"} and flat["classes"].shape == (2, 4)


def test_alone_as_in_a_batch_and_refuses_other_sizes():
    net, x = MultiTaskUNet(width=4).eval(), torch.rand(3, 1, 32, 32)
    together, alone = net(x), net(x[1:2])
    assert all(torch.allclose(together[name][1:2], alone[name], atol=1e-5) for name in alone)
    with pytest.raises(ValueError, match="16 must divide both sides"):
        net(torch.rand(1, 1, 40, 32))
    with pytest.raises(ValueError, match="B×1×H×W"):
        net(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="width=0: at least 1"):
        MultiTaskUNet(width=0)


def test_channels_last_changes_nothing():
    torch.manual_seed(0)
    net, x = MultiTaskUNet(width=8, dropout=0.0), torch.rand(4, 1, 64, 64)
    plain = net(x)
    last = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert all(torch.allclose(plain[name], last[name], atol=1e-4) for name in plain)


# The losses


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


def test_the_losses_are_those_of_the_pictures_by_hand():
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


def test_the_augmented_picture_is_reconstructed_and_validation_is_not_augmented():
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


# The balances


def test_running_averages_against_a_sequence_by_hand():
    balance, averages = RunningAverage(["reconstruction", "classification"]), np.array([4e-4, 1.0])
    for losses in ([0.03, 1.9], [0.02, 1.2], [0.001, 0.4]):
        averages = 0.99 * averages + 0.01 * np.array(losses)
        given = dict(zip(balance.names, torch.tensor(losses, requires_grad=True).unbind(), strict=True))
        total = balance(given)
        assert total.item() == pytest.approx((losses / averages).sum(), rel=1e-5)
        slopes = torch.autograd.grad(total, list(given.values()))
        assert [s.item() for s in slopes] == pytest.approx(1 / averages, rel=1e-5), "the averages are constants"
    kept = balance.state_dict()["averages"].clone()
    balance.eval()(dict.fromkeys(balance.names, torch.tensor(5.0)))
    assert torch.equal(balance.averages, kept), "validation leaves no trace"


def test_a_running_average_of_nothing_does_not_divide_by_zero():
    balance = RunningAverage(["reconstruction"], decay=0.0)
    assert balance({"reconstruction": torch.tensor(0.0)}).item() == 0.0
    assert balance.weights()["reconstruction"].item() == pytest.approx(1e12)


def test_learned_weights_follow_the_formula_and_find_the_loss():
    balance = Uncertainty(["reconstruction", "classification"])
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([-2.0, 0.5]))
    total = balance({"reconstruction": torch.tensor(0.1), "classification": torch.tensor(0.7)})
    by_hand = 0.5 * np.exp(2.0) * 0.1 - 1.0 + np.exp(-0.5) * 0.7 + 0.25
    assert total.item() == pytest.approx(by_hand, rel=1e-5)
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(400):
        loss = balance({"reconstruction": torch.tensor(0.1), "classification": torch.tensor(0.7)})
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    # where the slope is 0: σ² is the squared error, and twice the cross-entropy
    assert balance.log_variances.exp().tolist() == pytest.approx([0.1, 1.4], rel=0.02)


def test_learned_weights_are_trained_at_their_own_rate_and_not_decayed():
    recipe, task = get_recipe("s0-kendall", "MultiTaskUNet"), MultiTask(4, HEALTHY, "kendall")
    own = make_optimizer(recipe, MultiTaskUNet(width=1).parameters(), task.parameters()).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in own] == [(3e-4, 1e-2), (1e-2, 0.0)]
    assert own[1]["params"] == [task.balance.log_variances]
    alone = make_optimizer(get_recipe("s0", "MultiTaskUNet"), MultiTaskUNet(width=1).parameters(), [])
    assert len(alone.param_groups) == 1


def test_the_watch_measures_the_gradient_of_each_loss_and_changes_nothing():
    torch.manual_seed(0)
    net, task, batch = MultiTaskUNet(width=4).eval(), MultiTask(4, HEALTHY), batch_of([0, 1, 2])
    before = {name: value.clone() for name, value in (net.state_dict() | task.state_dict()).items()}
    found = GradientWatch(task, batch)(net, 1)
    assert set(found) == {f"{a}_{b}" for a in ("gradient", "weight") for b in ("reconstruction", "classification")}
    assert found["weight_reconstruction"] == pytest.approx(2500) and found["weight_classification"] == 1
    assert all(torch.equal(value, before[name]) for name, value in (net.state_dict() | task.state_dict()).items())
    assert all(p.grad is None for p in net.parameters())
    task.parts(net(task.inputs(batch)), task.targets(batch))["reconstruction"].backward()
    norm = torch.cat([p.grad.flatten() for p in net.encoder.parameters() if p.grad is not None]).norm()
    assert found["gradient_reconstruction"] == pytest.approx(norm.item(), rel=1e-4)


# Sampling


def test_every_class_is_drawn_equally_often_and_an_epoch_draws_the_same_again():
    labels = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)
    sampler = BalancedSampler(labels, seed=1)
    sampler.set_epoch(3)
    drawn = list(sampler)
    shares = np.bincount(labels[drawn], minlength=4) / len(drawn)
    assert len(drawn) == 1000 and shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.05)
    other = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == drawn != other
    again = BalancedSampler(labels, seed=2)
    again.set_epoch(3)
    assert list(again) != drawn


def test_only_training_is_balanced(roots):
    data = ImageDataset("phantom", make_split("phantom").val, image_size=32)
    assert isinstance(make_loader(data, 8, training=True, sampling="balanced").sampler, BalancedSampler)
    assert [r for b in make_loader(data, 8, sampling="balanced") for r in b["row"].tolist()] == data.rows.tolist()


# Training


def run_fit(folder, balance="ema", epochs=3):
    recipe = {"ema": "s0", "kendall": "s0-kendall"}[balance]
    how = get_recipe(recipe, "MultiTaskUNet", epochs=epochs, batch_size=8)
    torch.manual_seed(0)
    parts = make_split("phantom", "patient")
    train, val = (ImageDataset("phantom", rows[:24], image_size=32) for rows in (parts.train, parts.val))
    net, task = MultiTaskUNet(width=2), MultiTask(4, HEALTHY, how.balance, how.augmentation)
    found = fit(net, task, train, val, how, folder=folder, callback=GradientWatch(task, val.batch([0, 1, 2])))
    return net, task, found


INTERRUPTED = """
import os, sys, torch
torch.set_num_threads({threads})  # sums of other parts end in other digits
sys.path.insert(0, {tests!r})
from utils.training import checkpoint
from test_multitask import run_fit
saved = checkpoint.Checkpoint.save
def save_and_die(self, *state):
    saved(self, *state)
    os.kill(os.getpid(), 9)
checkpoint.Checkpoint.save = save_and_die
run_fit({folder!r}, {balance!r})
"""


@pytest.mark.parametrize("balance", ["ema", "kendall"])
def test_killed_and_resumed_it_ends_with_the_same_bytes_the_balance_included(roots, balance, tmp_path):
    folder = tmp_path / "killed"
    words = {"tests": os.path.dirname(__file__), "threads": torch.get_num_threads()}
    script = INTERRUPTED.format(folder=str(folder), balance=balance, **words)
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == -9
    kept = torch.load(folder / "checkpoint.pt")
    name = {"ema": "balance.averages", "kendall": "balance.log_variances"}[balance]
    assert len(kept["history"]) == 1 and name in kept["task"]
    resumed, straight = run_fit(folder, balance), run_fit(tmp_path / "straight", balance)
    for a, b in zip(resumed[:2], straight[:2], strict=True):
        assert a.state_dict().keys() == b.state_dict().keys() and len(a.state_dict())
        assert all(torch.equal(a.state_dict()[k], b.state_dict()[k]) for k in a.state_dict())
    columns = [c for c in straight[2].history if c != "seconds"]
    pd.testing.assert_frame_equal(resumed[2].history[columns], straight[2].history[columns], check_exact=True)
    first = torch.tensor([4e-4, 1.0]) if balance == "ema" else torch.zeros(2)
    assert not torch.equal(straight[1].state_dict()[name], first), "the balance was at work"
    assert not straight[1].training, "whoever asks for a loss after training leaves no trace in the balance"


TWO = """
import os, sys, torch
sys.path.insert(0, {tests!r})
from test_multitask import ImageDataset, make_split, run_fit
from utils.training.loading import make_loader
from utils.training.loop import make_accelerator
left = {{}}
for balance in ("ema", "kendall"):
    model, task, trained = run_fit({folder!r} + "/" + balance, balance, epochs=2)
    left[balance] = {{"model": model.state_dict(), "task": task.state_dict()}}
data = ImageDataset("phantom", make_split("phantom").train[:16], image_size=32)
loader = make_accelerator(seed=0).prepare(make_loader(data, 4, training=True, sampling="balanced"))
left["rows"] = []
for epoch in (0, 1):
    loader.set_epoch(epoch)
    left["rows"].append([batch["row"].tolist() for batch in loader])
torch.save(left, {folder!r} + "/" + os.environ["RANK"] + ".pt")
"""


@pytest.mark.slow
def test_two_processes_share_one_balance_and_one_draw(roots, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO.format(tests=os.path.dirname(__file__), folder=str(tmp_path)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run([*torchrun, str(script)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for balance in ("ema", "kendall"):
        a, b = one[balance], two[balance]
        assert all(torch.equal(a["task"][k], b["task"][k]) for k in a["task"])
        assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"] if "running" not in k)
    data = ImageDataset("phantom", make_split("phantom").train[:16], image_size=32)
    alone = make_loader(data, 4, training=True, sampling="balanced")
    for epoch in (0, 1):
        alone.sampler.set_epoch(epoch)
        drawn = [batch["row"].tolist() for batch in alone]
        assert drawn == [a + b for a, b in zip(one["rows"][epoch], two["rows"][epoch], strict=True)]


# The decision

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


def test_a_set_without_healthy_pictures_is_refused_by_name():
    assert healthy_class("sartaj") == HEALTHY
    with pytest.raises(DataError, match="'cheng' has no images without a tumour"):
        healthy_class("cheng")


def probabilities_of(tumour):
    tumour = np.asarray(tumour)[:, None]
    return np.hstack([0.6 * tumour, 0.3 * tumour, 1 - tumour, 0.1 * tumour])


def test_the_threshold_is_the_most_sensitive_of_those_specific_enough():
    truth = np.array([2] * 20 + [0] * 10)
    healthy = np.linspace(0.05, 0.62, 20)  # the two highest: .59 and .62
    p = probabilities_of([*healthy, *np.linspace(0.55, 0.95, 10)])
    for share in (0, 1, 2, float("nan")):
        with pytest.raises(DataError, match=f"specificity={share}: a share between 0 and 1"):
            threshold_for(p, truth, HEALTHY, specificity=share)
    threshold = threshold_for(p, truth, HEALTHY, specificity=0.95)
    called = decide(torch.tensor(p), HEALTHY, threshold).numpy() != HEALTHY
    assert (~called[:20]).mean() >= 0.95
    better = [t for t in np.linspace(0, 1, 500) if ((1 - p[:20, 2]) < t).mean() >= 0.95]
    assert called[20:].mean() == max(((1 - p[20:, 2]) >= t).mean() for t in better)
    assert np.isnan(threshold_for(p[:20], truth[:20], HEALTHY)) and np.isnan(threshold_for(p[20:], truth[20:], HEALTHY))


def test_a_threshold_that_calls_nothing_a_tumour_is_one():
    p = probabilities_of([0.9, 0.9, 0.2])
    threshold = threshold_for(p, np.array([2, 2, 0]), HEALTHY)
    assert threshold == 1.0 and (decide(torch.tensor(p), HEALTHY, threshold) == HEALTHY).all()


def test_screening_counts_tumours_found_and_healthy_left_alone():
    table = pd.DataFrame(
        {
            "label": ["glioma", "glioma", "pituitary", "notumor", "notumor"],
            "predicted": ["glioma", "notumor", "glioma", "notumor", "glioma"],
            "screened": ["glioma", "notumor", "notumor", "notumor", "notumor"],
            "group": list("abcde"),
        }
    )
    found = screening(table, resamples=50)
    values = {
        rule: [entry[m]["value"] for m in ("sensitivity", "specificity", "accuracy")] for rule, entry in found.items()
    }
    assert values["S0"] == pytest.approx([2 / 3, 1 / 2, 2 / 5], abs=1e-6)
    assert values["validation"] == pytest.approx([1 / 3, 1.0, 3 / 5], abs=1e-6)
    assert found["S0"]["sensitivity"]["low"] <= 2 / 3 <= found["S0"]["sensitivity"]["high"]
    assert set(screening(table.assign(screened=np.nan), resamples=5)) == {"S0"}, "no threshold, as read from a file"
    healthy = screening(table[3:], resamples=5)["S0"]
    assert healthy["sensitivity"]["value"] is None and healthy["specificity"]["value"] == 0.5


# Reconstruction and latent


def test_badly_drawn_is_scored_against_the_healthy():
    table = pd.DataFrame({"label": ["notumor"] * 3 + ["glioma"] * 3 + ["pituitary"], "group": list("abcdefg")})
    table["error"] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.25]
    found = anomaly(table, CLASSES, resamples=50)
    values = {name: entry["value"] for name, entry in found.items()}
    assert values == pytest.approx({"tumour": 11 / 12, "glioma": 1.0, "meningioma": None, "pituitary": 2 / 3}, abs=1e-6)


def test_a_description_of_every_picture_in_order(roots):
    torch.manual_seed(0)
    data = ImageDataset("phantom", make_split("phantom").test, image_size=32)
    net, task = MultiTaskUNet(width=2), MultiTask(4, HEALTHY)
    found = describe(net, task, data, batch_size=7)
    assert found["latent"].shape == (len(data), 256) and found["probabilities"].shape == (len(data), 4)
    pictures, drawn = reconstructions(net, task, data, [3, 0])
    assert found["error"][[3, 0]] == pytest.approx(((pictures - drawn) ** 2).mean((1, 2)), rel=1e-4)
    assert "error" not in describe(MultiTaskUNet(width=2, reconstruct=False), MultiTask(4, 2, reconstruct=False), data)


# Evidence and tables


def saved(recipe="s0", seed=0, image_size=64, fold=0, wrong=()):
    """A saved run on a patient fold of the phantom that decides right but for some images: its record."""
    run = Run("phantom", "patient", fold, "MultiTaskUNet", recipe, seed, image_size, n_filters=2)
    parts = make_split("phantom", "patient", fold)
    truth = ImageDataset("phantom", parts.test, image_size=32).labels.numpy()
    decided = truth.copy()
    decided[list(wrong)] = (decided[list(wrong)] + 1) % 4
    p = np.eye(4)[decided] * 0.9 + 0.025
    table = prediction_table("phantom", parts.test, parts.test_groups, CLASSES, p, decided)
    table["screened"] = table.predicted
    how = get_recipe(recipe, "MultiTaskUNet", epochs=1)
    how = get_recipe(recipe, "MultiTaskUNet", epochs=1, model_args=dict(how.model_args) | {"width": 2})
    history = {"epoch": [1], "seconds": [1.0], "val_accuracy": [0.5 + 0.1 * seed]}
    if how.model_args.get("reconstruct", True):
        history |= {"gradient_reconstruction": [2.0], "weight_reconstruction": [10.0], "val_reconstruction": [0.125]}
    history |= {"gradient_classification": [4.0], "weight_classification": [1.0]}
    table["error"] = np.linspace(0, 1, len(table))
    result = evaluate(table, CLASSES, 20) | {"unseen": None, "screening": screening(table, 20)}
    result["anomaly"] = anomaly(table, CLASSES, 20)
    net = MultiTaskUNet(**how.model_args)
    save_run(run, result, table, model=net, recipe=how, fit=Fit(pd.DataFrame(history), 1))
    return run, net


def predictions_file(roots, name):
    return roots / "saved_metrics/multitask/phantom" / name / "predictions.csv.gz"


def test_the_rule_decides_in_table_and_metrics_where_the_likeliest_class_is_another(roots):
    rows = make_split("phantom").test[:2]
    p = np.array([[0.2, 0.2, 0.4, 0.2]] * 2)
    truth = ImageDataset("phantom", rows, image_size=32).labels.numpy()
    table = prediction_table(
        "phantom", rows, np.array(["a", "b"]), CLASSES, p, decide(torch.tensor(p), HEALTHY).numpy()
    )
    assert table.predicted.tolist() == ["glioma"] * 2
    assert evaluate(table, CLASSES, 5)["metrics"]["accuracy"]["value"] == (truth == 0).mean()


def test_weights_are_loaded_with_their_card(roots):
    run, net = saved("s0-flat")
    assert run.id == "phantom.patient-f0.MultiTaskUNet.s0-flat-n2-64px.seed0" and run.task == "multitask"
    loaded, x = load_weights(find_weights(run.id)), torch.rand(1, 1, 32, 32)
    assert all(torch.equal(value, net.eval()(x)[name]) for name, value in loaded(x).items())


def test_the_ablation_compares_what_ran_with_the_same_budget_and_seeds(roots):
    saved("s0", 0, wrong=[0, 1, 2]), saved("s0", 1, wrong=[0]), saved("s0", 2)
    saved("s0-flat", 0, wrong=[0, 1]), saved("s0-flat", 1, wrong=[])
    saved("s0-classify", 0), saved("s0-classify", 1), saved("s0-fixed", 0, image_size=128)
    evidence = load_evidence(roots / "saved_metrics")
    (runs,) = ablation.budgets(evidence.multitask)
    assert {name: list(seeds) for name, seeds in runs.items()} == {
        "s0": [0, 1],
        "s0-classify": [0, 1],
        "s0-flat": [0, 1],
    }, "seed 2 ran for one only, s0-fixed at another size"
    found, n = ablation.compare(runs, evidence.predictions, resamples=50), len(make_split("phantom", "patient", 0).test)
    assert found["s0"]["accuracy"]["value"] == pytest.approx(1 - 2 / n, abs=1e-6)
    assert found["s0-flat"]["difference"]["value"] == pytest.approx(1 / n, abs=1e-6)
    assert found["s0"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["s0-flat"]["validation"] == pytest.approx(0.55)
    file = predictions_file(roots, "phantom.patient-f0.MultiTaskUNet.s0-flat-n2-64px.seed0")
    write_predictions(file, pd.read_csv(file).sample(frac=1, random_state=0))
    assert ablation.compare(runs, evidence.predictions, resamples=50) == found, "the order of the rows does not matter"
    table = tables.ablation_runs(evidence)
    assert table.recipe.tolist() == ["s0", "s0-classify", "s0-flat"] and table.seeds.tolist() == [2, 2, 2]
    differences = table["difference to S0's, points"].tolist()
    assert differences[0] == "" and differences[2].startswith("+")
    (row,) = tables.balance_effects(evidence)[lambda t: t.recipe == "s0"].to_dict("records")
    assert [row[of] for of in ("weight of the reconstruction", "its gradient, unweighted")] == ["10", "0.5"]
    assert row["its gradient, weighted"] == "5"


def test_runs_that_tested_other_pictures_are_not_compared(roots):
    saved("s0"), saved("s0-flat")
    evidence = load_evidence(roots / "saved_metrics")
    (runs,) = ablation.budgets(evidence.multitask)
    file = predictions_file(roots, "phantom.patient-f0.MultiTaskUNet.s0-flat-n2-64px.seed0")
    write_predictions(file, pd.read_csv(file)[1:])
    with pytest.raises(DataError, match=r"s0-flat.*its test images are not those of the runs beside it"):
        ablation.compare(runs, evidence.predictions)


def test_the_table_shows_s0s_own_method_and_whole_folds_once(roots):
    saved("s0", image_size=128, wrong=[0]), saved("s0", image_size=64), saved("s0-flat", image_size=128)
    table = tables.multitask_runs(load_evidence(roots / "saved_metrics"))
    assert len(table) == 1 and table["split"][0] == "patient fold 0" and table["1-NN"][0] == "–"
    for fold in range(1, 5):
        saved("s0", image_size=128, fold=fold)
    (path,) = pool_folds(roots / "saved_metrics", resamples=20)
    pooled = json.loads(path.read_text())
    table = tables.multitask_runs(load_evidence(roots / "saved_metrics"))
    assert table["split"].tolist() == ["patient, all folds"]
    assert pooled["screening"]["S0"]["accuracy"]["value"] == pytest.approx(1 - 1 / pooled["images"], abs=1e-6)
    aucs = [r["anomaly"]["tumour"]["value"] for r in load_evidence(roots / "saved_metrics").multitask if _is_fold(r)]
    assert len(aucs) == 5 and pooled["anomaly"]["tumour"]["value"] == pytest.approx(np.mean(aucs), abs=1e-6)


def _is_fold(record):
    return record["run"]["fold"] is not None and record["id"].endswith("s0-n2.seed0")

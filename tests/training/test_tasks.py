"""Tasks: their losses by hand, what counts for whom, metrics of a pass, balances, augmentations, and their cards."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from saved_model import save_model
from small_training import CLASSES, HEALTHY, batch_of, same
from torchvision.transforms import v2

from datasets import catalog
from datasets.catalog import DataError, UnknownName
from models import MultiTaskUNet
from utils.evaluation.classification import evaluate, prediction_table
from utils.predict.model import SavedModel
from utils.training.augmentation import AUGMENTATIONS
from utils.training.callbacks import GradientWatch
from utils.training.losses import RunningAverage, Uncertainty, class_weights
from utils.training.metrics import MeanAUC, MeanLoss
from utils.training.tasks import TASKS, Classification, MultiLabel, MultiTask, Outlining, Segmentation
from utils.training.tasks.multitask import healthy_class

NETWORKS = {"classification": "CustomCNN", "transfer": "SqueezeNet", "multitask": "MultiTaskUNet"}
NETWORKS |= {"segmentation": "AttentionUNet", "findings": "SqueezeNet", "localisation": "OutlineClassifier"}


@pytest.mark.parametrize("name", TASKS)
def test_a_card_brings_back_a_task_that_reads_its_network(roots, name):
    target = "findings" if name == "findings" else "label"
    model = SavedModel(save_model("phantom", NETWORKS[name], target=target))
    task, names = model.task, model.classes or model.masks
    assert model.card["task"] == name and type(task) is TASKS[name]
    channels = 4 if task.channels == "all" else 1
    outputs = model.network(task.inputs({"image": torch.randint(0, 256, (2, channels, 64, 64), dtype=torch.uint8)}))
    probs = task.probabilities(outputs)
    assert probs.shape[:2] == (2, len(names)) and ((probs >= 0) & (probs <= 1)).all()
    assert task.scores(outputs).shape == probs.shape
    if name not in ("segmentation", "findings"):
        assert torch.allclose(task.scores(outputs).softmax(1), probs, atol=1e-5)
        assert task.decide(probs).shape == (2,)


def test_a_task_evaluates_what_its_table_holds(roots):
    rows, p = np.arange(12), np.random.default_rng(0).dirichlet(np.ones(4), 12)
    table = prediction_table("phantom", rows, np.arange(12).astype(str), CLASSES, p)
    plain = evaluate(table, CLASSES, 20)
    assert TASKS["classification"].evaluate(table, CLASSES, 20) == plain
    fold = np.arange(12) % 2
    joined = TASKS["classification"].evaluate(table, CLASSES, 20, fold=fold)
    assert joined == evaluate(table, CLASSES, 20, fold=fold) != plain
    table = table.assign(screened=table.predicted, error=np.linspace(0, 1, 12))
    found = TASKS["multitask"].evaluate(table, CLASSES, 20)
    assert set(found) - set(plain) == {"screening", "anomaly"} and found["metrics"] == plain["metrics"]
    assert set(TASKS["localisation"].evaluate(table, CLASSES, 20)) - set(plain) == {"outline"}
    masks = {f"{m}.{n}": [3, 4] for m in ("NCR", "whole") for n in ("tp", "fp", "fn", "hd95")}
    masks = pd.DataFrame(masks | {"path": ["x", "y"], "patient": ["1", "2"], "group": ["1", "2"], "pixels": 64})
    found = TASKS["segmentation"].evaluate(masks, ["NCR"], 20)
    assert list(found["per_class"]) == ["NCR", "whole"]
    assert found["metrics"]["dice"]["value"] == pytest.approx(found["per_class"]["NCR"]["dice"]["value"])


def test_a_set_that_a_task_cannot_use_is_refused_by_name():
    with pytest.raises(DataError, match="'sartaj' has no masks; sets with masks: "):
        TASKS["segmentation"].require("sartaj", "label")
    with pytest.raises(DataError, match="'brats2020' holds one class"):
        TASKS["classification"].require("brats2020", "label")
    assert healthy_class("sartaj") == HEALTHY
    with pytest.raises(DataError, match="'cheng' has no images without a tumour"):
        healthy_class("cheng")


def test_class_weights_are_s3s():
    counts = catalog.get("brain-tumor-mri").counts["train"]
    labels = torch.cat([torch.full((counts[c],), k) for k, c in enumerate(catalog.CLASSES)])
    assert class_weights(labels, 4).tolist() == pytest.approx([1.08, 1.07, 0.90, 0.98], abs=5e-3)
    with pytest.raises(DataError, match="class 3 has no image"):
        class_weights(torch.tensor([0, 1, 2]), 4)


def test_smoothed_and_weighted_loss_by_hand():
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    logs = logits.log_softmax(1)
    smooth = -(0.95 * logs[:, 0] + 0.05 * logs[:, 1])  # smoothing .1 over two classes
    task = Classification(2, label_smoothing=0.1, class_weights=torch.tensor([3.0, 1.0]))
    assert torch.allclose(task.loss(logits, target), (3 * smooth).mean())


def test_the_mean_loss_counts_images_not_batches_and_leaves_no_nan_out():
    """torchmetrics' mean drops NaN by default; without its check for NaN it leaves out the weights."""
    metric = MeanLoss(lambda outputs, targets: (outputs - targets).mean())
    for value, count in ((1.0, 6), (3.0, 2)):
        metric.update(torch.full((count,), value), torch.zeros(count))
    assert metric.compute() == 1.5
    metric.update(torch.full((4,), float("nan")), torch.zeros(4))
    assert not torch.isfinite(metric.compute())


def test_losses_of_findings_by_hand():
    logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    p = logits.sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    wanted = {
        "weighted-bce": F.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor([3.0, 50.0])),
        "asymmetric": torch.where(targets == 1, -(1 - p) * p.log(), -(shifted**4) * (1 - shifted).log()).mean(),
    }
    for loss, value in wanted.items():
        task = MultiLabel(torch.tensor([25.0, 0.0]), 100, loss=loss)
        assert task.loss(logits, targets) == pytest.approx(value.item(), rel=1e-4)
    with pytest.raises(UnknownName, match="did you mean 'asymmetric'"):
        MultiLabel(torch.tensor([25.0, 0.0]), 100, loss="asymetric")


def test_mean_auc_leaves_out_what_cannot_be_judged():
    metric, empty = MeanAUC(), MeanAUC()
    logits = torch.tensor([[3.0, 0.0, 1.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0], [-1.0, 2.0, 3.0]])
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])  # the second none shows, the third all
    metric.update(logits[:2], targets[:2])
    metric.update(logits[2:], targets[2:])
    assert metric.compute() == 1.0
    metric.update(torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.0, 0, 1]]))
    assert metric.compute() == pytest.approx(3 / 4)
    empty.update(logits, targets[:, [1, 2, 2]])
    assert empty.compute().isnan()


@pytest.mark.parametrize("name", ["reconstruction", "tumour", "subtype"])
def test_every_loss_reaches_the_shared_encoder_and_its_own_part_only(name):
    torch.manual_seed(0)
    net, task, batch = MultiTaskUNet(width=4), MultiTask(4, HEALTHY), batch_of([0, 1, 2, 3])
    loss, counts = task.per_image(net(task.inputs(batch)), task.targets(batch))[name]
    (loss * counts).sum().backward()
    reached = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    part = "decoder" if name == "reconstruction" else f"heads.{name}"
    parts = ["encoder.0", "encoder.4", part] + ["shared"] * (name != "reconstruction")  # first level and bottleneck
    assert all(any(n.startswith(p) for n in reached) for p in parts)
    assert all(n.startswith(("encoder", *parts)) for n in reached)


def test_a_batch_without_a_tumour_asks_for_no_kind_of_it():
    net, task, batch = MultiTaskUNet(width=4), MultiTask(4, HEALTHY), batch_of([2, 2])
    outputs, targets = net(task.inputs(batch)), task.targets(batch)
    assert task.per_image(outputs, targets)["subtype"][1].tolist() == [0, 0]
    classification = task.parts(outputs, targets)["classification"]
    assert torch.equal(classification, F.binary_cross_entropy_with_logits(outputs["tumour"], torch.zeros(2)))
    task.loss(outputs, targets).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters()), "DDP waits for every gradient"
    assert not any(p.grad.any() for p in net.heads["subtype"].parameters())


def test_s0s_losses_by_hand():
    task = MultiTask(4, HEALTHY)
    outputs = {
        "tumour": torch.tensor([2.0, -1.0]),
        "subtype": torch.tensor([[0.5, 0.0, 1.0], [9.0, 0.0, 0.0]]),
        "reconstruction": torch.full((2, 1, 2, 2), 0.5),
    }
    parts = task.parts(outputs, {"label": torch.tensor([3, 2]), "image": torch.zeros(2, 1, 2, 2)})
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


@pytest.mark.parametrize("variant", [{}, {"reconstruct": False}, {"hierarchical": False}])
def test_validation_reports_raw_losses_whatever_the_order(variant):
    torch.manual_seed(0)
    net, task = MultiTaskUNet(width=4, **variant).eval(), MultiTask(4, HEALTHY, **variant).eval()
    batch, found = batch_of([0, 2, 2, 1, 2, 3, 2, 2, 0]), []
    for order in ([0, 1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 6, 7, 0, 3, 5, 8]):
        metrics = task.metrics()
        for part in (order[:4], order[4:]):
            some = {key: value[part] for key, value in batch.items()}
            metrics.update(net(task.inputs(some)), task.targets(some))
        found.append({name: value.item() for name, value in metrics.compute().items()})
    one, other = found
    assert one == pytest.approx(other)
    assert one["loss"] == pytest.approx(sum(one[n] for n in one.keys() - {"accuracy", "f1", "loss"}))


LOGITS = [  # tumour; glioma, meningioma, pituitary; S0's decision
    (-0.1, (5.0, 0.0, 0.0), "notumor"),
    (0.0, (5.0, 0.0, 0.0), "glioma"),  # p = .5 is a tumour
    (0.1, (0.0, 0.1, 0.05), "meningioma"),  # although no kind of tumour reaches the .475 of "none"
    (3.0, (0.0, 0.1, 0.2), "pituitary"),
    (-3.0, (0.0, 0.0, 9.0), "notumor"),
]


def test_the_decision_is_s0s_on_a_table_of_logits():
    task, flat = MultiTask(4, HEALTHY), MultiTask(4, HEALTHY, hierarchical=False)
    outputs = {"tumour": torch.tensor([t for t, _, _ in LOGITS]), "subtype": torch.tensor([s for _, s, _ in LOGITS])}
    p = task.probabilities(outputs)
    assert torch.allclose(p.sum(1), torch.ones(len(LOGITS)))
    assert [CLASSES[i] for i in task.decide(p)] == [d for _, _, d in LOGITS]
    assert p[2].argmax() == HEALTHY, "the likeliest class alone would decide otherwise"
    random = {"tumour": torch.randn(200), "subtype": torch.randn(200, 3)}
    by_rule = torch.where(random["tumour"].sigmoid() < 0.5, 2, torch.tensor([0, 1, 3])[random["subtype"].argmax(1)])
    assert torch.equal(task.decide(task.probabilities(random)), by_rule)
    p = torch.tensor([[0.3, 0.2, 0.4, 0.1]])
    assert flat.decide(p).tolist() == [2] and task.decide(p).tolist() == [0] == flat.decide(p, 0.5).tolist()
    assert task.decide(p, 0.7).tolist() == [2]


def outlined(label: list[int], known: list[bool], marked: list[slice | None], side: int = 8) -> dict[str, torch.Tensor]:
    mask = torch.zeros(len(label), 2, side, side, dtype=torch.uint8)
    for i, where in enumerate(marked):
        if where is not None:
            mask[i, i % 2, where, where] = 1
    image = torch.full((len(label), 1, side, side), 100, dtype=torch.uint8)
    return {"image": image, "mask": mask, "label": torch.tensor(label), "outlined": torch.tensor(known)}


def test_losses_of_outlines_by_hand():
    torch.manual_seed(0)
    task = Outlining(4, healthy=2, label_smoothing=0.1)
    y = task.targets(outlined([3, 2, 0], [True, True, False], [slice(2, 6), None, None]))
    out = {"classes": torch.randn(3, 4), "outline": torch.randn(3, 4, 8, 8)}
    (outlines, known), (name, counts) = (task.per_image(out, y)[part] for part in ("outline", "name"))
    assert known.tolist() == [1, 1, 0] and counts.tolist() == [1, 1, 1]
    wanted = torch.zeros(8, 8, dtype=torch.long)
    wanted[2:6, 2:6] = 3  # class 3 is the third kind, behind the background: the healthy class 2 has none
    p = out["outline"][0].softmax(0)[3]
    dice = 2 * p[2:6, 2:6].sum() / (p.sum() + 16)
    assert outlines[0] == pytest.approx((F.cross_entropy(out["outline"][:1], wanted[None]) + 1 - dice).item())
    empty = F.cross_entropy(out["outline"][1:2], torch.zeros(1, 8, 8, dtype=torch.long)).item()
    assert outlines[1] == pytest.approx(empty), "a healthy image has an empty mask"
    assert torch.allclose(name, F.cross_entropy(out["classes"], y["label"], label_smoothing=0.1, reduction="none"))
    parts = {name: value.item() for name, value in task.parts(out, y).items()}
    assert parts["outline"] == pytest.approx(outlines[:2].mean().item())
    averages = {"outline": 0.99 * 1.5 + 0.01 * parts["outline"], "name": 0.99 * 1.0 + 0.01 * parts["name"]}
    assert task.loss(out, y).item() == pytest.approx(sum(parts[name] / averages[name] for name in parts))
    assert set(Outlining(4, healthy=2, balance="fixed", outline=False).parts(out, y)) == {"name"}


def test_images_without_a_known_mask_train_the_name_only():
    torch.manual_seed(0)
    task, batch = Outlining(4, healthy=2), outlined([3, 0], [False, False], [slice(2, 6), None])
    out = {"classes": torch.randn(2, 4, requires_grad=True), "outline": torch.randn(2, 4, 8, 8, requires_grad=True)}
    assert task.parts(out, task.targets(batch))["outline"] == 0
    task.loss(out, task.targets(batch)).backward()
    assert not out["outline"].grad.any() and out["classes"].grad.any()
    without = task.targets({name: value for name, value in batch.items() if name not in ("mask", "outlined")})
    assert not without["outlined"].any() and task.parts(out, without)["outline"] == 0, "a data set without masks"


@pytest.mark.parametrize("make", [lambda how: Outlining(4, 2, "ema", how), lambda how: Segmentation(2, "bce", how)])
def test_masks_move_with_their_image(make):
    torch.manual_seed(0)
    task, batch = make("mirrored"), outlined([0] * 16, [True] * 16, [slice(8, 20)] * 16, side=48)
    batch["image"] = batch["mask"].amax(1, keepdim=True) * 200
    x, y = task.example(batch)
    moved, still = (t["tumour"] if isinstance(t, dict) else t.amax(1, True) for t in (y, task.targets(batch)))
    bright, scale = (x > 0.3).float(), (1, 2, 3)
    overlap = 2 * (bright * moved).sum(scale) / (bright.sum(scale) + moved.sum(scale))
    assert (overlap > 0.85).all() and not torch.equal(moved, still)


def test_metrics_of_outlines_count_every_image_once():
    task = Outlining(4, healthy=2)
    y = task.targets(outlined([3, 2, 0, 1], [True, True, True, False], [slice(2, 6), None, None, slice(0, 4)]))
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
    assert found["loss"] == pytest.approx(sum(task.parts(out, y).values()).item(), rel=1e-4)


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
    balance.averages.zero_()
    assert balance(dict.fromkeys(balance.names, torch.tensor(0.0))) == 0, "nothing is not divided by zero"


def test_learned_weights_follow_the_formula():
    balance = Uncertainty(["reconstruction", "classification"])
    losses = {"reconstruction": torch.tensor(0.1), "classification": torch.tensor(0.7)}
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([-2.0, 0.5]))
    by_hand = 0.5 * np.exp(2.0) * 0.1 - 1.0 + np.exp(-0.5) * 0.7 + 0.25
    assert balance(losses).item() == pytest.approx(by_hand, rel=1e-5)


def test_s2s_jitter_keeps_black_nearly_black_and_the_stronger_one_does_not():
    torch.manual_seed(0)
    x = torch.rand(64, 1, 32, 32)
    x[:, :, 8:24, 8:24] = 0  # in the middle, which a turn by ten degrees leaves where it is
    theirs = torch.stack([v2.ColorJitter(brightness=0.2, contrast=0.2)(image) for image in x])[:, 0, 14:18, 14:18]
    ours, stronger = (AUGMENTATIONS[name]()(x)[:, 0, 14:18, 14:18] for name in ("s2-jitter", "s2"))
    limit = 0.2 * 1.2 * x.mean((1, 2, 3)).max()  # of an image blended with its mean
    assert theirs.max() <= limit and ours.max() <= limit and ours.max() > 0.5 * limit
    assert (stronger.mean((1, 2)) > limit).float().mean() > 0.2


def test_the_report_of_s3_and_the_code_of_s4_never_turn_an_image_upside_down_and_the_others_do():
    x = torch.zeros(64, 1, 32, 32)
    x[:, :, :8] = 1  # bright above
    torch.manual_seed(0)
    names = "s3", "s3-tta", "s4-code", "s4", "s3-code"
    below = [(AUGMENTATIONS[name]()(x)[:, 0, 24:].mean((1, 2)) > 0.3).sum() for name in names]
    assert below[:3] == [0, 0, 0] and all(10 < count < 54 for count in below[3:])


def test_the_watch_measures_the_gradient_of_each_loss_and_changes_nothing():
    torch.manual_seed(0)
    net, task, batch = MultiTaskUNet(width=4).eval(), MultiTask(4, HEALTHY), batch_of([0, 1, 2])
    before = {name: value.clone() for name, value in (net.state_dict() | task.state_dict()).items()}
    found = GradientWatch(task, batch)(net, 1)
    assert set(found) == {f"{a}_{b}" for a in ("gradient", "weight") for b in ("reconstruction", "classification")}
    assert found["weight_reconstruction"] == pytest.approx(2500) and found["weight_classification"] == 1
    assert same(before, net.state_dict() | task.state_dict()) and all(p.grad is None for p in net.parameters())
    task.parts(net(task.inputs(batch)), task.targets(batch))["reconstruction"].backward()
    norm = torch.cat([p.grad.flatten() for p in net.encoder.parameters() if p.grad is not None]).norm()
    assert found["gradient_reconstruction"] == pytest.approx(norm.item(), rel=1e-4)

"""What is frozen stays frozen, to the bit; stages, schedules, early stopping and the values of S0, S1, S3 and S4."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from datasets import catalog
from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import BACKBONES, CustomCNN, build_backbone
from utils.analysis.search import search
from utils.evaluation import saliency
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.recipes.ours import INGREDIENTS
from utils.recipes.published import published
from utils.reporting import figures, tables
from utils.reporting.pooling import pool_folds
from utils.reporting.records import load_evidence, save_run
from utils.reporting.runs import Run
from utils.reporting.weights import find_weights, load_weights
from utils.training.augmentation import AUGMENTATIONS
from utils.training.checkpoint import TrainingPaused
from utils.training.finetuning import freeze, layers, parameter_groups, unfrozen_count, unfrozen_layers
from utils.training.loop import Fit, fit
from utils.training.losses import class_weights
from utils.training.optimisation import make_optimizer, make_scheduler
from utils.training.tasks import Classification

NAME = "MobileNetV3-Large"  # small, with batch norms


@pytest.fixture
def parts(roots):
    split = make_split("phantom", "patient")
    return [ImageDataset("phantom", rows[:32], image_size=64) for rows in (split.train, split.val)]


def run_fit(parts, folder, name=NAME, recipe="ours", seed=0, **changes):
    how = get_recipe(recipe, name, **{"epochs": 1, "batch_size": 16, "warmup": 0} | changes)
    torch.manual_seed(seed)
    net = build_backbone(name, image_size=64, **how.model_args)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    return net, before, fit(net, Classification(4), *parts, how, folder=folder)


def changed(net, before):
    return {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}


@pytest.mark.parametrize(
    ("unfreeze", "count"), [("all", 62), ("none", 0), (10, 10), (100, 62), (0.3, 19), (1.0, 62), (1e-9, 1)]
)
def test_policies_count_layers_from_the_end(unfreeze, count):
    assert unfrozen_count(unfreeze, 62) == count


@pytest.mark.parametrize("unfreeze", ["some", 0, -1, 0.0, 1.5, True, None])
def test_what_is_no_policy_is_told(unfreeze):
    with pytest.raises(DataError, match="'all', 'none', a number of layers or a fraction"):
        unfrozen_count(unfreeze, 62)


def test_only_networks_with_a_backbone_are_frozen_in_part(roots):
    with pytest.raises(DataError, match="only a network with a backbone"):
        freeze(CustomCNN(image_size=64), get_recipe("s2", "CustomCNN", unfreeze=3))


@pytest.mark.parametrize("unfreeze", ["none", 10, 0.3, "all"])
def test_after_training_frozen_weights_and_statistics_are_the_same_bits(parts, tmp_path, unfreeze):
    net, before, _ = run_fit(parts, tmp_path, unfreeze=unfreeze)
    every = layers(net.backbone)
    frozen = every[: len(every) - unfrozen_count(unfreeze, len(every))]
    assert [all(p.requires_grad for p in m.parameters(recurse=False)) for m in every] == [
        m not in frozen for m in every
    ]
    names = {id(module): name for name, module in net.named_modules()}
    own = {f"{names[id(m)]}.{key}" for m in frozen for key in m.state_dict()}
    moved = changed(net, before)
    assert not moved & own, "a frozen layer, or its running statistics, has moved"
    assert any(key.startswith("head.") for key in moved)
    assert any(key.startswith("backbone.") for key in moved) == (unfreeze != "none")
    assert any("running_mean" in key and key.startswith("backbone.") for key in moved) == (unfreeze != "none")


def test_a_recipe_may_keep_all_statistics_while_weights_train(parts, tmp_path):
    net, before, _ = run_fit(parts, tmp_path, freeze_bn=True)
    moved = {key for key in changed(net, before) if key.startswith("backbone.")}
    assert moved and not [key for key in moved if "running" in key or "num_batches" in key]
    assert any(key.startswith("head.") and "running" in key for key in changed(net, before)), "the head's are learned"


def test_s3_trains_in_three_stages_each_from_the_weights_kept_before(parts, tmp_path):
    seen = {}
    with pytest.raises(TrainingPaused):
        run_fit_s3(parts, tmp_path / "paused", time_budget=0)
    for folder in ("straight", "paused"):
        net, fitted = run_fit_s3(parts, tmp_path / folder)
        seen[folder] = net.state_dict()
    assert fitted.history.stage.tolist() == ["head", "top", "all"] and fitted.history.epoch.tolist() == [1, 2, 3]
    assert fitted.history.lr.tolist() == [1e-3, 1e-4, 5e-5] and fitted.epoch == 3
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in seen.values()), strict=True))


def run_fit_s3(parts, folder, **words):
    how = get_recipe("s3", "SqueezeNet", epochs=3)
    torch.manual_seed(0)
    net = build_backbone("SqueezeNet", image_size=64, **how.model_args)
    return net, fit(net, Classification(4), *parts, how, folder=folder, **words)


def test_stages_share_the_epochs_as_planned():
    s3 = get_recipe("s3", "EfficientNetV2-S")
    assert [(s.epochs, s.warmup, s.patience, s.unfreeze) for s in s3.in_stages()] == [
        (25, 3, 8, "none"), (35, 5, 12, 0.3), (15, 2, 10, "all")
    ]  # fmt: skip
    assert [s.epochs for s in get_recipe("s3", "EfficientNetV2-S", epochs=8).in_stages()] == [3, 4, 2]
    assert get_recipe("ours", "ResNet50").in_stages() == [get_recipe("ours", "ResNet50")]


def test_the_summary_says_what_trains():
    net = build_backbone("EfficientNetV2-S", head="dual", image_size=64)
    table = unfrozen_layers(net, get_recipe("s3", "EfficientNetV2-S"))
    every = sum(p.numel() for p in net.parameters())
    assert table["unfrozen parameters"].iloc[0] == 1_450_244 and table["unfrozen parameters"].iloc[2] == every
    assert 1_450_244 < table["unfrozen parameters"].iloc[1] < every
    assert table.stage.tolist() == ["head", "top", "all"] and set(table["batch-norm statistics"]) == {"kept"}


# ---- rates ----------------------------------------------------------------------------------------------------------


def rates(recipe, steps):
    optimizer = make_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    scheduler, seen = make_scheduler(recipe, optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_s3_rate_rises_and_falls_as_worked_out_by_hand():
    seen = rates(get_recipe("s3", "EfficientNetV2-S").in_stages()[0], 25)
    assert seen[:4] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])
    assert seen[14] == pytest.approx((1e-3 + 1e-7) / 2)  # half of the 22 epochs that fall
    assert seen[24] == pytest.approx(1e-7 + (1e-3 - 1e-7) * (1 + math.cos(math.pi * 21 / 22)) / 2)


def test_s4_rate_falls_by_a_tenth_in_ten_thousand_batches(parts, tmp_path):
    recipe = get_recipe("s4", "ConvNeXt-S")
    assert recipe.schedule_step == "batch" and rates(recipe, 10_001)[-1] == pytest.approx(0.9e-4)
    how = {"schedule": "ExponentialLR", "schedule_args": {"gamma": 0.5}, "schedule_step": "batch", "lr": 1e-4}
    _, _, fitted = run_fit(parts, tmp_path, "SqueezeNet", epochs=2, **how)
    assert fitted.history.lr.tolist() == [1e-4, 0.25e-4], "32 images are two batches"


def test_s1_rate_falls_once_validation_stands_still(parts, tmp_path):
    recipe = get_recipe("s1", "SqueezeNet")
    assert (recipe.schedule, recipe.unfreeze) == ("ReduceLROnPlateau", 10)
    # slow enough to gain less than torch's threshold, not so slow that torch leaves the rate alone
    still = {"optimizer": "SGD", "lr": 1e-6, "epochs": 4, "schedule_args": {"factor": 0.1, "patience": 1}}
    _, _, fitted = run_fit(parts, tmp_path, "SqueezeNet", "s1", **still)
    assert fitted.history.lr.tolist() == pytest.approx([1e-6, 1e-6, 1e-6, 1e-7], rel=1e-9, abs=0)


def test_early_stopping_stops_and_stays_stopped(parts, tmp_path):
    words = {"optimizer": "SGD", "lr": 1e-20, "epochs": 9, "patience": 2, "select": "best"}
    _, _, fitted = run_fit(parts, tmp_path, "SqueezeNet", **words)
    assert len(fitted.history) == 3 and fitted.epoch == 1
    _, _, again = run_fit(parts, tmp_path, "SqueezeNet", **words)
    assert again.history.equals(fitted.history)


def test_the_head_has_its_own_decay_and_the_backbone_its_share_of_the_rate():
    net = build_backbone("SqueezeNet", head="dual", image_size=64)
    head, hidden, backbone = parameter_groups(net, get_recipe("s3", "SqueezeNet", backbone_lr_mult=0.5))
    assert [p.shape for p in hidden["params"]] == [(512, 1024), (256, 512)] and hidden["weight_decay"] == 2e-4
    assert backbone["lr"] == 5e-4 and len(backbone["params"]) == 50
    assert len(head["params"]) + len(hidden["params"]) == len(list(net.head.parameters()))
    weight = hidden["params"][0]
    (1e-4 * weight.square().sum()).backward()  # Keras's L2
    assert torch.allclose(weight.grad, hidden["weight_decay"] * weight)
    freeze(net, get_recipe("s3", "SqueezeNet", unfreeze="none"))
    assert len(parameter_groups(net, get_recipe("s3", "SqueezeNet"))) == 2, "a frozen backbone has no group"


# ---- losses and recipes ---------------------------------------------------------------------------------------------


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


def test_values_of_the_recipes():
    s0, s1 = get_recipe("s0", "Swin-B"), get_recipe("s1", "VGG19")
    assert (s0.optimizer, s0.lr, s0.batch_size, s0.epochs, s0.label_smoothing) == ("AdamW", 3e-4, 32, 500, 0.05)
    assert (s0.unfreeze, s0.sampling, s0.augmentation, s0.val_fraction) == ("all", "balanced", "s0", 0.2)
    assert (s1.optimizer, s1.schedule, s1.unfreeze) == ("Adam", "ReduceLROnPlateau", 10)
    assert get_recipe("s1", "ViT-B16").optimizer == "AdamW"
    s3 = get_recipe("s3", "EfficientNetV2-S")
    assert (s3.optimizer, s3.batch_size, s3.label_smoothing, s3.head_l2) == ("Adam", 16, 0.1, 1e-4)
    assert (s3.class_weights, s3.freeze_bn, s3.select, s3.val_fraction) == (True, True, "best", 0.15)
    assert published("s3", "EfficientNetV2-S", "brain-tumor-mri", "published")["accuracy"] == 0.9184
    s4 = {name: get_recipe("s4", name) for name in ("ResNet50", "EfficientNetV2-B1", "ConvNeXt-S", "ViT-B16")}
    assert all((r.optimizer, r.lr, r.batch_size) == ("Adam", 1e-4, 32) for r in s4.values())
    assert [r.epochs for r in s4.values()] == [5, 80, 20, 20] and s4["ViT-B16"].patience == 4
    assert {r.model_args["head"] for r in s4.values()} == {"two-layers"}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_every_recipe(name):
    for recipe in ("s0", "s1", "s3", "s4", "ours", *INGREDIENTS):
        assert get_recipe(recipe, name).name == recipe


def test_each_ingredient_differs_in_one_thing():
    ours = get_recipe("ours", "SqueezeNet")
    for name, changes in INGREDIENTS.items():
        r = get_recipe(name, "SqueezeNet")
        differs = {k for k in vars(ours) if getattr(ours, k) != getattr(r, k)} - {"name", "source"}
        assert differs == set(changes) and len(changes) == 1


def test_s3_never_turns_a_picture_upside_down_and_s4_does():
    x = torch.zeros(64, 1, 32, 32)
    x[:, :, :8] = 1  # bright above
    torch.manual_seed(0)
    below = {name: AUGMENTATIONS[name]()(x)[:, 0, 24:].mean((1, 2)) > 0.5 for name in ("s3", "s3-tta", "s4")}
    assert not below["s3"].any() and not below["s3-tta"].any() and 10 < below["s4"].sum() < 54


# ---- test-time augmentation, search, evidence ------------------------------------------------------------------------


def test_tta_of_an_identity_is_the_plain_prediction(parts):
    net, task = build_backbone("SqueezeNet", image_size=64), Classification(4)
    plain = predict(net, task, parts[0])
    assert np.array_equal(predict(net, task, parts[0], augment=nn.Identity(), draws=1), plain)
    assert np.allclose(predict(net, task, parts[0], augment=nn.Identity(), draws=4), plain, atol=1e-7)
    augment = AUGMENTATIONS["s3-tta"]()
    first, again, other = (predict(net, task, parts[0], augment=augment, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, plain) and not np.array_equal(first, other)
    assert np.allclose(first.sum(1), 1, atol=1e-5)


def test_a_gain_is_counted_picture_by_picture():
    gained, groups = [1, 1, 0, 0, -1, 1], ["a", "a", "b", "b", "c", "d"]
    found = mean_interval(gained, groups)
    assert found["value"] == pytest.approx(1 / 3, abs=1e-6) and found["low"] < 1 / 3 < found["high"]
    assert mean_interval([1, 0], ["a", "a"]) == {"value": 0.5, "low": None, "high": None}


def test_a_search_that_was_killed_goes_on_with_the_same_point(tmp_path):
    asked, folders = [], []

    def accuracy(changes, folder):
        asked.append(changes)
        folders.append(folder)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return changes["lr"]

    with pytest.raises(KeyboardInterrupt):
        search(accuracy, 5, tmp_path)
    table = search(accuracy, 5, tmp_path)
    assert len(table) == 5 and len(asked) == 6, "what was finished is not done again"
    assert asked[3] == asked[2] and folders[3] == folders[2], "its checkpoint is found again"
    assert len({str(changes) for changes in asked}) == 5, "no other point twice"
    assert table.accuracy.is_monotonic_decreasing
    assert len(search(accuracy, 6, tmp_path)) == 6
    (tmp_path / "search.journal").write_text("rubbish\n")
    with pytest.raises(DataError, match=r"search.journal: not a readable journal"):
        search(accuracy, 6, tmp_path)


def test_evidence_of_a_backbone_comes_back_as_a_network(parts, roots):
    net, _, fitted = run_fit(parts, roots / "fit", "SqueezeNet")
    run = Run("phantom", "patient", 0, "SqueezeNet", "ours", image_size=64, pretrained=False)
    assert run.id == "phantom.patient-f0.SqueezeNet.ours-scratch-64px.seed0" and run.task == "transfer"
    guess = predict(net, Classification(4), parts[0])
    table = prediction_table("phantom", parts[0].rows, np.arange(32).astype(str), parts[0].facts.classes, guess)
    how = get_recipe("ours", "SqueezeNet", epochs=1)
    save_run(run, evaluate(table, parts[0].facts.classes, 20), table, model=net, recipe=how, fit=fitted)
    again = load_weights(find_weights(run.id))
    assert np.array_equal(predict(again, Classification(4), parts[0]), guess)


def test_rollout_follows_the_attention():
    net = build_backbone("ViT-B16", image_size=64)
    net.backbone.blocks = net.backbone.blocks[:2]
    kept = []
    for block in net.backbone.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight)  # attention that differs from place to place
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output.mean(1)))
    heat = saliency.attention_rollout(net, torch.rand(2, 3, 64, 64))
    first, second = ((matrix + torch.eye(17)) / 2 for matrix in kept)
    patches = (second @ first)[:, 0, 1:].view(2, 4, 4)
    wanted = patches.argmax(-1)
    assert heat.shape == (2, 64, 64) and heat.min() == 0 and heat.max() == pytest.approx(1)
    assert np.array_equal(heat[:, 8::16, 8::16].argmax(-1), wanted.numpy())
    assert all(block.attn.fused_attn for block in net.backbone.blocks)


def test_a_recipe_with_other_layers_does_not_take_up_a_checkpoint(parts, tmp_path):
    run_fit(parts, tmp_path, "SqueezeNet", unfreeze="none")
    with pytest.raises(DataError, match="unfreeze: none → all"):
        run_fit(parts, tmp_path, "SqueezeNet")


def test_fit_alone_takes_a_stage(parts, tmp_path):
    stage = replace(get_recipe("s3", "SqueezeNet", epochs=3).in_stages()[0], batch_size=16)
    net = build_backbone("SqueezeNet", image_size=64, **stage.model_args)
    fit(net, Classification(4), *parts, stage, folder=tmp_path)
    assert (tmp_path / "checkpoint-head.pt").is_file()


def saved(roots, start, recipe="ours", split="patient", fold=0):
    """A saved run of an untrained SqueezeNet on the phantom: its record."""
    run = Run("phantom", split, fold, "SqueezeNet", recipe, image_size=64, pretrained=start == "pretrained")
    test = make_split("phantom", split, fold)
    how = get_recipe(recipe, "SqueezeNet", epochs=1)
    torch.manual_seed(20 * (start == "pretrained") + len(recipe))
    net = build_backbone("SqueezeNet", image_size=64, **how.model_args)
    freeze(net, how)
    data = ImageDataset("phantom", test.test, image_size=64)
    guess = predict(net, Classification(4), data)
    table = prediction_table("phantom", test.test, test.test_groups, data.facts.classes, guess)
    result = evaluate(table, data.facts.classes, 20) | {"tta": {"gain": mean_interval([0, 1], ["a", "b"])}}
    fitted = Fit(pd.DataFrame({"epoch": [1], "seconds": [90.0], "val_accuracy": [0.25 + len(recipe) / 100]}), 1)
    return json.loads(save_run(run, result, table, model=net, recipe=how, fit=fitted).read_text())


def test_tables_set_pretrained_beside_scratch_and_recipes_beside_ours(roots):
    records = {
        name: saved(roots, *name.split())
        for name in ("pretrained ours", "scratch ours", "pretrained ours-frozen", "pretrained s1")
    }
    published = saved(roots, "pretrained", "ours", "published")
    evidence = load_evidence(roots / "saved_metrics")
    assert len(evidence.transfer) == 5 and not evidence.classification
    value = {name: record["metrics"]["accuracy"]["value"] for name, record in records.items()}

    starts = tables.pretraining_gain(evidence)
    assert starts[["split", "backbone", "recipe"]].to_numpy().tolist() == [["patient fold 0", "SqueezeNet", "ours"]]
    gain = 100 * (value["pretrained ours"] - value["scratch ours"])
    assert gain and starts["gain by pretraining, points"].iloc[0].startswith(f"{gain:+.1f} (")

    rows = tables.backbone_runs(evidence).set_index(["weights", "recipe"])
    assert set(rows.index) == {("pretrained", "ours"), ("from scratch", "ours")}, (
        "the others stand beside ours in `recipes`"
    )
    pretrained = rows.loc[("pretrained", "ours")]
    assert pretrained["published split"] == tables.format_ci(published["metrics"]["accuracy"])
    assert pretrained["by patient"] == tables.format_ci(records["pretrained ours"]["metrics"]["accuracy"])
    assert pretrained["minutes"] == "2 / 2" and rows.loc[("from scratch", "ours")]["minutes"] == "– / 2"

    assert [pair.keys() for pair in tables.pretraining_pairs(evidence)] == [{"pretrained", "scratch"}]

    shown = tables.recipe_runs(evidence).set_index("recipe")
    assert list(shown.index) == ["ours-frozen", "ours", "s1"], "validation orders"
    assert int(shown.loc["ours-frozen", "unfrozen"].replace(",", "")) == records["pretrained ours-frozen"]["trainable"]
    lost = 100 * (value["pretrained s1"] - value["pretrained ours"])
    assert shown.loc["s1", "difference to ours, points"].startswith(f"{lost:+.1f} (") and not shown.loc["ours"].iloc[7]
    figures.against_time(evidence.transfer)


def test_folds_of_backbones_are_pooled_by_their_weights(roots):
    for fold in range(5):
        for start in ("pretrained", "scratch"):
            saved(roots, start, fold=fold)
    written = pool_folds(roots / "saved_metrics", resamples=20)
    assert [path.parent.name for path in written] == [
        f"phantom.patient.SqueezeNet.ours-{s}-64px.seed0" for s in ("pretrained", "scratch")
    ]
    evidence = load_evidence(roots / "saved_metrics")
    assert tables.pretraining_gain(evidence).split.tolist() == ["patient, all folds"], (
        "the folds stand in it, not beside it"
    )
    rows = tables.backbone_runs(evidence)
    assert rows.tested.tolist() == ["patient, all folds"] * 2 and set(rows["minutes"]) == {"– / 8"}, "five times 90 s"


def test_one_cycle_moves_with_every_batch_and_keeps_the_backbone_slower():
    recipe = get_recipe("onecycle", "SqueezeNet", epochs=2)
    net = build_backbone("SqueezeNet", image_size=64, **recipe.model_args)
    freeze(net, recipe)
    optimizer = make_optimizer(recipe, parameter_groups(net, recipe))
    scheduler = make_scheduler(recipe, optimizer, batches=10)
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    head, backbone = np.array(rates).T[[0, -1]]
    assert head.max() == pytest.approx(5e-4) and head[-1] < 1e-5 and head.argmax() in (3, 4)
    assert backbone == pytest.approx(head / 5)

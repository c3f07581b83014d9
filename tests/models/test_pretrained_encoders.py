"""MobileNetUNet and OutlineClassifier: maps as in their diagrams, what their recipes train, what names an image."""

from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from datasets.store.manifest import sha256
from models import MobileNetUNet, OutlineClassifier
from models.gluon import build_gluon
from models.outline_classifier import InsideOutline
from utils.files import write_sealed
from utils.recipes import get_recipe
from utils.recipes.ours import ENCODER_LAYERS, STEPS
from utils.report.weights import CARD, WEIGHTS, load_weights
from utils.run import Run
from utils.training.optimisation import freeze, layers, parameter_groups
from utils.training.tasks.localisation import Outlining


def outliner(name: str, **arguments) -> OutlineClassifier:
    recipe = get_recipe(name, "OutlineClassifier")
    return OutlineClassifier(**{"healthy": 2, "image_size": 64} | arguments, **recipe.model_args)


def test_the_maps_have_the_channels_and_sizes_of_the_diagrams():
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6)]
    maps = MobileNetUNet(in_channels=1).backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, *s) for c, s in zip((16, 24, 32, 96), sizes, strict=True)]
    assert len(set(MobileNetUNet(in_channels=4).mean.flatten().tolist())) == 1, "of four channels none is red"
    maps = OutlineClassifier(image_size=64).backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, *s) for c, s in zip((64, 256, 512, 1024), sizes, strict=True)]


@pytest.mark.parametrize("gluon", [True, False])
def test_one_cycle_trains_the_last_three_groups_and_the_decoder_and_a_saved_run_is_loaded_in_its_layout(
    gluon, roots, tmp_path
):
    path, recipe = tmp_path / "weights.safetensors", get_recipe("onecycle", "MobileNetUNet")
    if gluon:
        save_file(build_gluon("MobileNetV2").state_dict(), path)
    net = MobileNetUNet(in_channels=1, out_channels=1, pretrained=path if gluon else False)
    freeze(net, recipe)
    net.train()
    deep = [module for group in net.backbone.blocks[2:] for module in layers(group)]
    assert len(deep) == ENCODER_LAYERS
    trained = {id(p) for module in [*deep, *layers(net.head)] for p in module.parameters(recurse=False)}
    assert {id(p) for p in net.parameters() if p.requires_grad} == trained
    shallow = [m for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d) and m not in deep]
    assert shallow and not any(m.training for m in shallow) and net.backbone.blocks[4][0].bn1.training
    assert {group.get("lr", recipe.lr) for group in parameter_groups(net, recipe)} == {recipe.lr, 0.2 * recipe.lr}

    run = Run(dataset="cheng", split="patient", model="MobileNetUNet", recipe="onecycle", n_filters=8, pretrained=True)
    save_file(net.state_dict(), roots / WEIGHTS)
    arguments = {"in_channels": 1, "out_channels": 1} | recipe.model_args
    card = {"model": run.model, "arguments": arguments, "trained_on": asdict(run), "sha256": sha256(roots / WEIGHTS)}
    write_sealed(roots / CARD, card)
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(load_weights(roots)(x), net.eval()(x))


@pytest.mark.parametrize("name", STEPS)
def test_one_step_of_training_moves_what_is_unfrozen_and_evaluation_computes_the_same(name):
    """Averages over augmented batches, as of a batch norm, would not fit the images as they are."""
    torch.manual_seed(0)
    recipe, mask = get_recipe(name, "OutlineClassifier"), torch.zeros(4, 2, 64, 64, dtype=torch.uint8)
    mask[0, 0, 8:24, 8:24] = mask[1, 1, 30:50, 20:40] = 1  # of the last image it is not known, the healthy one has none
    batch = {"image": (50 + 150 * mask.amax(1, keepdim=True)).to(torch.uint8), "mask": mask, "label": torch.arange(4)}
    net, task = outliner(name), Outlining(4, 2, recipe.balance, outline=recipe.model_args["outline"])
    freeze(net, recipe)
    x, y = task.example(batch | {"outlined": torch.tensor([True, True, True, False])})
    with torch.no_grad():
        training, evaluated = net.train()(x), net.eval()(x)
    assert all(torch.allclose(training[key], evaluated[key], atol=1e-4) for key in evaluated)
    assert evaluated["classes"].shape == (4, 4) and ("outline" in evaluated) == (name != "name-only")
    assert name == "name-only" or evaluated["outline"].shape == (4, 4, 64, 64), "background and three kinds"
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(net, recipe), 1e-3)
    task.loss(net.train()(x), y).backward()
    optimizer.step()
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert not [key for key in moved if key.startswith(("backbone.stem", "backbone.stages.0", "backbone.stages.1"))]
    assert not [key for key in moved if key.startswith("backbone") and "running" in key], "freeze_bn"
    assert "backbone.stages.2.blocks.0.conv1.weight" in moved and "head.name.out.weight" in moved
    assert ("head.decoder.out.weight" in moved) == (name != "name-only")


def test_what_is_outside_the_outline_does_not_name_the_image_and_an_empty_one_is_finite():
    torch.manual_seed(0)
    head, outline = InsideOutline(8, 2, 3).eval(), torch.zeros(1, 3, 16, 16)
    outline[:, 0] = 40.0  # the background everywhere …
    features, empty = torch.rand(1, 8, 4, 4), outline.clone()
    outline[:, :, 4:8, 4:8] = torch.tensor([0.0, 40.0, 0.0])[:, None, None]  # … but here
    outside, inside = features.clone(), features.clone()
    outside[:, :4, 2:] += 5
    inside[:, :4, 1, 1] += 5
    named = head(features, outline)
    assert torch.allclose(head(outside, outline), named, atol=1e-5)
    assert not torch.allclose(head(inside, outline), named, atol=1e-2)
    nothing = head(features, empty)  # 1 minus its share rounds to 0 in float32
    assert nothing.isfinite().all() and not torch.allclose(nothing, named, atol=1e-2), "whether anything is outlined"

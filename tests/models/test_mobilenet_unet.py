"""MobileNetUNet: a file's tensors arrive in the encoder, in either layout, and come back; what is frozen stays."""

import json
from dataclasses import asdict

import pytest
import timm
import torch
from safetensors.torch import save_file

from datasets.store.manifest import sha256
from models import MobileNetUNet, build_backbone
from models.backbones import TIMM, WeightsError
from models.gluon import build_gluon
from models.mobilenet_unet import CHANNELS
from utils.recipes import get_recipe
from utils.recipes.ours import ENCODER_LAYERS
from utils.report.weights import CARD, WEIGHTS, load_weights
from utils.run import Run
from utils.training.optimisation import freeze, layers, parameter_groups

LAYOUTS = ("timm", "gluon")
PARAMETERS = {"timm": 699_185, "gluon": 700_273}  # one channel, one mask, 8 filters


def mobilenet(layout: str) -> torch.nn.Module:
    torch.manual_seed(1)
    if layout == "gluon":
        return build_gluon("MobileNetV2", TIMM["MobileNetV2"], None, 3)
    return timm.create_model(TIMM["MobileNetV2"])  # with its classifier, as timm's files


@pytest.fixture(params=LAYOUTS)
def of_layout(request, tmp_path):
    """A layout, a network of it, and the file of its tensors."""
    net, path = mobilenet(request.param), tmp_path / f"{request.param}.safetensors"
    save_file(net.state_dict(), path)
    return request.param, net, path


def unet(**arguments) -> MobileNetUNet:
    return MobileNetUNet(**{"in_channels": 1, "out_channels": 1} | arguments)


def test_the_encoder_has_the_tensors_of_the_file(of_layout):
    layout, net, path = of_layout
    state, wanted = unet(pretrained=path).backbone.state_dict(), net.state_dict()
    assert state and all(torch.equal(value, wanted[name]) for name, value in state.items())
    count = sum(p.numel() for p in unet(pretrained=path).parameters())
    print(f"{layout}: {count:,}")
    assert count == PARAMETERS[layout] < 1_000_000


def test_a_whole_network_comes_back(of_layout, tmp_path):
    path = of_layout[-1]
    torch.manual_seed(2)
    net = unet(pretrained=path, n_filters=4).eval()
    save_file(net.state_dict(), tmp_path / "whole.safetensors")
    again = unet(pretrained=tmp_path / "whole.safetensors", n_filters=4).eval()
    x = torch.rand(2, 1, 32, 48)
    assert torch.equal(net(x), again(x))


def test_the_encoder_sees_grey_as_three_equal_channels_normalised():
    net, seen = unet().eval(), []
    net.backbone.conv_stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(torch.full((1, 1, 32, 32), 0.5))
    wanted = [(0.5 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_maps_have_the_channels_and_sizes_of_the_diagram():
    maps = unet().backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, 64 // side, 96 // side) for channels, side in zip(CHANNELS, (2, 4, 8, 16), strict=True)
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_cycle_trains_the_last_three_groups_and_the_decoder(layout, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(mobilenet(layout).state_dict(), path)
    net, recipe = unet(pretrained=path), get_recipe("onecycle", "MobileNetUNet")
    freeze(net, recipe)
    net.train()
    deep = [module for group in net.backbone.blocks[2:] for module in layers(group)]
    assert len(deep) == ENCODER_LAYERS
    trained = {id(p) for module in [*deep, *layers(net.head)] for p in module.parameters(recurse=False)}
    assert {id(p) for p in net.parameters() if p.requires_grad} == trained
    shallow = [m for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d) and m not in deep]
    assert shallow and not any(m.training for m in shallow) and net.backbone.blocks[4][0].bn1.training
    rates = {group.get("lr", recipe.lr) for group in parameter_groups(net, recipe)}
    assert rates == {recipe.lr, 0.2 * recipe.lr}


def test_weights_of_another_network_are_refused(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file(unet(n_filters=4).state_dict(), whole)
    with pytest.raises(WeightsError, match="nor of a MobileNetUNet with 1 channels, 1 masks and n_filters=8"):
        unet(pretrained=whole)
    save_file(build_backbone("SqueezeNet").backbone.state_dict(), whole)
    with pytest.raises(WeightsError, match="not the weights of MobileNetV2"):
        unet(pretrained=whole)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saved_run_is_loaded_in_the_layout_that_it_was_trained_in(layout, roots, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(mobilenet(layout).state_dict(), path)
    net, recipe = unet(pretrained=path).eval(), get_recipe("onecycle", "MobileNetUNet")
    run = Run(dataset="cheng", split="patient", model="MobileNetUNet", recipe="onecycle", n_filters=8, pretrained=True)
    folder = roots / "model"
    folder.mkdir()
    save_file(net.state_dict(), folder / WEIGHTS)
    arguments = {"in_channels": 1, "out_channels": 1} | recipe.model_args
    card = {"model": run.model, "arguments": arguments, "trained_on": asdict(run), "sha256": sha256(folder / WEIGHTS)}
    (folder / CARD).write_text(json.dumps(card))
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(load_weights(folder)(x), net(x))

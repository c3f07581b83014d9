"""Eighteen backbones in one table: built, counted, trained a step; their weights taken from files, or refused."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import squeezenet1_1

from datasets.catalog import REPO
from models import BACKBONES, build_backbone
from models.backbones import TIMM
from models.heads import HEADS
from models.weights import WeightsError, read_weights

PARAMETERS = {  # with a linear head of four classes
    "VGG16": 14_716_740,
    "VGG19": 20_026_436,
    "ResNet50": 23_516_228,
    "ResNet50-v2": 8_543_812,  # three stages
    "ResNeXt50": 22_988_100,
    "DenseNet121": 6_957_956,
    "InceptionV3": 21_793_764,
    "Xception": 20_815_148,
    "MobileNetV2": 2_228_996,
    "MobileNetV3-Large": 2_975_796,
    "Swin-B": 86_702_524,
    "ViT-B16": 85_663_492,
    "ViT-L32": 305_468_420,
    "EfficientNetV2-S": 20_182_612,
    "EfficientNetV2-B1": 6_865_176,
    "ResNetRS152": 84_580_772,
    "ConvNeXt-S": 49_457_764,
    "SqueezeNet": 724_548,
}
SIDE = {"InceptionV3": 96}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_table_names_all():
    assert list(PARAMETERS) == list(BACKBONES) and len(BACKBONES) == 18


@pytest.mark.parametrize("name", PARAMETERS)
def test_builds_counts_trains_a_step_and_predicts(name):
    side = SIDE.get(name, 64)
    torch.manual_seed(0)
    net = build_backbone(name, image_size=side)
    assert count(net) == PARAMETERS[name]
    x, y = torch.rand(4, 3, side, side), torch.arange(4)
    before = next(net.backbone.parameters()).detach().clone()
    nn.functional.cross_entropy(net.train()(x), y).backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    assert not torch.equal(next(net.backbone.parameters()), before)
    with torch.no_grad():
        logits = net.eval()(x)
    assert logits.shape == (4, 4) and logits.isfinite().all()


def test_heads_have_the_parameters_of_their_sources():
    assert count(HEADS["dual"](1280, 4)) == 1_450_244  # S3
    assert count(HEADS["two-layers"](768, 44)) == 536_364  # S4, on a ViT-B/16
    assert count(HEADS["linear"](512, 4)) == 2_052
    x = torch.rand(2, 8, 3, 3)
    assert all(head(8, 5).eval()(x).shape == (2, 5) for head in HEADS.values())


def test_the_dual_head_sees_average_and_maximum():
    head, seen = HEADS["dual"](8, 4).eval(), []
    head.layers.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 8, 3, 5)
    head(x)
    assert torch.equal(seen[0], torch.cat([x.flatten(2).mean(2), x.flatten(2).max(2).values], 1))


@pytest.mark.parametrize("name", ["ViT-B16", "Swin-B", "ResNet50", "EfficientNetV2-B1", "DenseNet121"])
def test_the_average_of_the_map_is_what_timm_hands_its_own_classifier(name):
    net, x = build_backbone(name, image_size=64).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        own = net.backbone.forward_head(net.backbone.forward_features(x), pre_logits=True)
        assert torch.allclose(net.features(x).mean((2, 3)), own, atol=1e-4)


def test_grey_is_three_equal_channels_and_others_get_a_convolution_of_their_own():
    x = torch.rand(2, 1, 64, 64)
    torch.manual_seed(0)
    grey = build_backbone("SqueezeNet", in_channels=1, image_size=64).eval()
    torch.manual_seed(0)
    colour = build_backbone("SqueezeNet", image_size=64).eval()
    with torch.no_grad():
        assert torch.equal(grey(x), colour(x.repeat(1, 3, 1, 1)))
    for channels in (2, 4):
        for name in ("SqueezeNet", "MobileNetV3-Large"):
            net = build_backbone(name, in_channels=channels, image_size=64).eval()
            assert net(torch.rand(1, channels, 64, 64)).shape == (1, 4)
            assert len(set(net.mean.flatten().tolist())) == 1, "no channel is red"


@pytest.mark.parametrize("name", ["SqueezeNet", "ResNet50", "InceptionV3", "ViT-B16"])
def test_each_receives_images_normalised_as_in_its_training(name):
    net = build_backbone(name, image_size=96)
    facts = timm.get_pretrained_cfg(TIMM.get(name, "resnet50.tv_in1k"))  # SqueezeNet: ImageNet's usual, as ResNet50's
    assert net.mean.flatten().tolist() == pytest.approx(facts.mean)
    assert net.std.flatten().tolist() == pytest.approx(facts.std)
    seen = []
    features = net.features
    net.features = lambda x: seen.append(x) or features(x)
    x = torch.rand(1, 3, 96, 96)
    net.eval()(x)
    assert torch.allclose(
        seen[0], (x - torch.tensor(facts.mean)[:, None, None]) / torch.tensor(facts.std)[:, None, None]
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"num_classes": 1}, "num_classes=1"),
        ({"in_channels": 5}, "in_channels=5"),
        ({"image_size": 32}, "image_size=32"),
        ({"name": "ViT-B16", "image_size": 72}, "that 16 divides"),
        ({"name": "InceptionV3", "image_size": 64}, "at least 75"),
    ],
)
def test_sizes_that_do_not_fit_are_named(args, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(**{"name": "SqueezeNet"} | args)
    with pytest.raises(ValueError, match="unknown backbone 'resnet50'"):
        build_backbone("resnet50")
    with pytest.raises(ValueError, match="built for B×3×64×64"):
        build_backbone("SqueezeNet", image_size=64)(torch.rand(2, 3, 96, 96))


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Files in the exact form of ImageNet weights, random inside: SqueezeNet as .safetensors and .pth, MobileNetV3."""
    folder = tmp_path_factory.mktemp("weights")
    squeezenet = squeezenet1_1().state_dict()
    save_file(squeezenet, folder / "squeezenet.safetensors")
    torch.save(squeezenet, folder / "squeezenet.pth")
    save_file(timm.create_model("mobilenetv3_large_100").state_dict(), folder / "mobilenetv3.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("SqueezeNet", "squeezenet.safetensors"),
        ("SqueezeNet", "squeezenet.pth"),
        ("MobileNetV3-Large", "mobilenetv3.safetensors"),
    ],
)
def test_a_pretrained_backbone_has_the_tensors_of_its_file(imagenet, name, file):
    state = read_weights(imagenet / file)
    net = build_backbone(name, pretrained=imagenet / file, image_size=64)
    own = net.backbone.state_dict()
    assert own.keys() < state.keys() and all(torch.equal(own[key], state[key]) for key in own)
    gone = {key.split(".")[0] for key in state.keys() - own.keys()}
    assert gone <= {"classifier", "conv_head"}, "only the classifier stays behind"


def test_the_real_squeezenet_has_the_tensors_of_its_file():
    file = os.environ.get("BRAIN_MRI_SQUEEZENET")
    if not file:
        pytest.skip("BRAIN_MRI_SQUEEZENET names no file with SqueezeNet's ImageNet weights")
    state = read_weights(file)
    net = build_backbone("SqueezeNet", pretrained=file)
    assert all(torch.equal(tensor, state[key]) for key, tensor in net.backbone.state_dict().items())
    assert net.image_size == 224 and len(net.backbone.state_dict()) == 50


def test_position_embeddings_are_resized(tmp_path):
    tag = TIMM["ViT-B16"]
    save_file(timm.create_model(tag, img_size=96).state_dict(), tmp_path / "vit.safetensors")
    state = read_weights(tmp_path / "vit.safetensors")
    net = build_backbone("ViT-B16", pretrained=tmp_path / "vit.safetensors", image_size=64)
    assert state["pos_embed"].shape[1] == 1 + 36 and net.backbone.pos_embed.shape[1] == 1 + 16
    assert torch.equal(net.backbone.pos_embed[:, 0], state["pos_embed"][:, 0]), "the class token keeps its own"


def test_a_whole_network_of_ours_comes_back_head_and_all(tmp_path):
    net = build_backbone("SqueezeNet", num_classes=3, image_size=64, head="dual")
    save_file(net.state_dict(), tmp_path / "ours.safetensors")
    args = {"pretrained": tmp_path / "ours.safetensors", "image_size": 64}
    again = build_backbone("SqueezeNet", num_classes=3, head="dual", **args)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(WeightsError, match=r"ours.safetensors: not the weights of SqueezeNet with 4 classes"):
        build_backbone("SqueezeNet", num_classes=4, head="dual", **args)


class Code:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def ten_classes(folder, imagenet):
    save_file(squeezenet1_1(num_classes=10).state_dict(), folder / "w.safetensors")
    return "SqueezeNet", "w.safetensors", "its classifier knows 10 classes"


def ten_classes_of_timm(folder, imagenet):
    save_file(timm.create_model("mobilenetv3_large_100", num_classes=10).state_dict(), folder / "w.safetensors")
    return "MobileNetV3-Large", "w.safetensors", "its classifier knows 10 classes"


def another_network(folder, imagenet):
    return "MobileNetV3-Large", imagenet / "squeezenet.safetensors", "not the weights of MobileNetV3-Large"


def code(folder, imagenet):
    torch.save({"features.0.weight": Code(folder / "ran")}, folder / "w.pth")
    return "SqueezeNet", "w.pth", "nothing of it was run"


def plain_pickle(folder, imagenet):
    (folder / "w.pth").write_bytes(pickle.dumps(Code(folder / "ran")))
    return "SqueezeNet", "w.pth", "nothing of it was run"


def half(folder, imagenet):
    whole = (imagenet / "squeezenet.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    return "SqueezeNet", "w.safetensors", "not a whole safetensors file"


def half_pth(folder, imagenet):
    whole = (imagenet / "squeezenet.pth").read_bytes()
    (folder / "w.pth").write_bytes(whole[: len(whole) // 2])
    return "SqueezeNet", "w.pth", "not readable as weights"


def no_tensors(folder, imagenet):
    torch.save({"epoch": 3}, folder / "w.pth")
    return "SqueezeNet", "w.pth", "holds no table of tensors"


def missing(folder, imagenet):
    return "SqueezeNet", "w.pth", "no such weight file"


@pytest.mark.parametrize(
    "make",
    [ten_classes, ten_classes_of_timm, another_network, code, plain_pickle, half, half_pth, no_tensors, missing],
)
def test_wrong_files_are_refused_by_name_and_nothing_runs(tmp_path, imagenet, make):
    name, file, message = make(tmp_path, imagenet)
    with pytest.raises(WeightsError, match=message) as refused:
        build_backbone(name, pretrained=tmp_path / file, image_size=64)
    assert Path(file).name in str(refused.value) and len(str(refused.value)) < 700
    assert not (tmp_path / "ran").exists()


def test_the_cache_is_used_offline_and_missing_weights_are_reported_with_the_command(tmp_path, imagenet):
    """`make weights` in a process of its own: the hub reads its settings once."""
    torch_home, hub = tmp_path / "torch", tmp_path / "hub"
    cached = torch_home / "hub/checkpoints/squeezenet1_1-b8a52dc0.pth"
    snapshot = hub / "hub/models--timm--mobilenetv3_large_100.ra_in1k"
    for folder in (cached.parent, snapshot / "refs", snapshot / "snapshots/abc"):
        folder.mkdir(parents=True)
    shutil.copy(imagenet / "squeezenet.pth", cached)
    shutil.copy(imagenet / "mobilenetv3.safetensors", snapshot / "snapshots/abc/model.safetensors")
    (snapshot / "refs/main").write_text("abc")
    environment = os.environ | {"TORCH_HOME": str(torch_home), "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    # `-o`: the environment is this one; a test must not install another, nor point this one to another checkout
    make = ("make", "-o", ".venv/ready", f"BIN={Path(sys.executable).parent}")
    done = subprocess.run(
        (*make, "weights", "BACKBONE=SqueezeNet MobileNetV3-Large ResNet50"),
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("ImageNet weights are in the cache") == 2, done.stdout + done.stderr
    assert done.returncode and "make weights BACKBONE=ResNet50" in done.stderr and "Traceback" not in done.stderr

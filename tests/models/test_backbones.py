"""Backbones: normalised as in their training, weights taken from files in each layout, or refused and never run."""

import gzip
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
from torchvision.models import mobilenet_v3_large, squeezenet1_1, vgg16

from datasets.catalog import REPO
from models import BACKBONES, PRETRAINABLE, MobileNetUNet, OutlineClassifier, build_backbone
from models.backbones import LITE0, TIMM
from models.gluon import build_gluon, cut_behind_stage_three
from models.weights import WeightsError, read_weights


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "EfficientNetV2-B1"])
def test_the_average_of_the_map_is_what_timm_hands_its_own_classifier(name):
    net, x = build_backbone(name, image_size=64).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        own = net.backbone.forward_head(net.backbone.forward_features(x), pre_logits=True)
        assert torch.allclose(net.features(x).mean((2, 3)), own, atol=1e-4)


@pytest.mark.parametrize("name", ["SqueezeNet", "ResNet50", "InceptionV3"])
def test_each_receives_images_normalised_as_in_its_training(name):
    net, seen = build_backbone(name, image_size=96).eval(), []
    facts = timm.get_pretrained_cfg(TIMM.get(name, "resnet50.tv_in1k"))  # SqueezeNet: ImageNet's usual, as ResNet50's
    mean, std = (torch.tensor(values)[:, None, None] for values in (facts.mean, facts.std))
    features = net.features
    net.features = lambda x: seen.append(x) or features(x)
    x = torch.rand(1, 3, 96, 96)
    net(x), net(x[:, :1])
    assert torch.allclose(seen[0], (x - mean) / std)
    assert torch.allclose(seen[1], (x[:, :1].expand(-1, 3, -1, -1) - mean) / std), "grey is three equal channels"


def test_images_scaled_twice_are_nearly_all_the_same_and_those_of_s0_are_not_normalised():
    ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, 3, -1, -1)
    twice, none = (build_backbone("EfficientNetV2-S", image_size=64, scaling=name) for name in ("twice", "none"))
    assert torch.allclose(((ends - twice.mean) / twice.std)[:, 0].flatten(), torch.tensor([-1.0, 1 / 127.5 - 1]))
    assert torch.equal((ends - none.mean) / none.std, ends)
    with pytest.raises(ValueError, match="unknown scaling 'twise'"):
        build_backbone("SqueezeNet", scaling="twise")


@pytest.mark.parametrize(("name", "theirs"), [("VGG16", vgg16), ("MobileNetV3-Large", mobilenet_v3_large)])
def test_hidden_layers_of_an_imagenet_classifier_can_be_kept(name, theirs):
    with torch.device("meta"):  # 134 million numbers need not be there to be counted
        net, reference = build_backbone(name, head="hidden", image_size=64), theirs()
        reference.classifier[-1] = torch.nn.Linear(reference.classifier[-1].in_features, 4)
        assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in reference.parameters())


def resnet50_v2() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours, and timm's with the norm that Gluon's has before its pool."""
    ours, theirs = build_gluon("ResNet50-v2"), timm.create_model(TIMM["ResNet50-v2"])
    pool = theirs.stem.pool
    del theirs.stem.pool
    theirs.stem.add_module("norm", timm.layers.BatchNormAct2d(64))
    theirs.stem.add_module("pool", pool)
    cut_behind_stage_three(theirs)
    theirs.reset_classifier(0)
    return ours, theirs


def efficientnet_lite0() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours, and timm's."""
    return build_backbone(LITE0, image_size=64).backbone, timm.create_model(LITE0, num_classes=0)


@pytest.mark.parametrize("both", [resnet50_v2, efficientnet_lite0])
def test_a_backbone_of_ours_computes_what_timms_does(both):
    ours, theirs = both()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    ours.load_state_dict(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for x in (torch.randn(2, 3, 64, 64), torch.randn(2, 3, 97, 66)):
        for a, b in ((ours.eval(), theirs.eval()), (ours.train(), theirs.train())):
            torch.testing.assert_close(a.forward_features(x), b.forward_features(x))
    convolutions = [[n for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d)] for net in (ours, theirs)]
    assert convolutions[0] == convolutions[1], "in one order, by which `feature_tap` listens to them"


# ---- weights --------------------------------------------------------------------------------------------------------


KINDS = ("safetensors", "pth")
ODD = {
    "no_tensors": {"epoch": 3},
    "numbered": {0: torch.zeros(64)},
    "complex": {"stem.norm.weight": torch.zeros(64, dtype=torch.complex64)},
    "sparse": {"stem.norm.weight": torch.eye(64).to_sparse()},
    "empty": {},
}
OTHER = {  # file → what is in it, and what is said of it
    "web.pth": (b"\n<!DOCTYPE html><html>", "no weight file but a web page"),
    "gzip.safetensors": (gzip.compress(b"weights"), "no weight file but compressed with gzip; unpack it"),
    "keras.pth": (b"\x89HDF\r\n\x1a\n" + bytes(64), "no weight file but an HDF5 file, as Keras writes"),
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "no weight file but a pointer of Git LFS"),
    "json.pth": (b'{"error": 1}', "no file that torch.save writes"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files in the exact form of ImageNet weights, random inside."""
    folder = tmp_path_factory.mktemp("weights")
    states = {
        "squeezenet": squeezenet1_1().state_dict(),
        "mobilenetv3": timm.create_model("mobilenetv3_large_100").state_dict(),
        "resnet": build_gluon("ResNet50-v2").state_dict(),
        "timm": timm.create_model(TIMM["MobileNetV2"]).state_dict(),
        "gluon": build_gluon("MobileNetV2").state_dict(),
        "ten_squeezenet": squeezenet1_1(num_classes=10).state_dict(),
        "ten_mobilenetv3": timm.create_model("mobilenetv3_large_100", num_classes=10).state_dict(),
        "part": {"stem.norm.weight": torch.zeros(64)},
    }
    for name, state in states.items():
        save_file(state, folder / f"{name}.safetensors")
    torch.save(states["squeezenet"], folder / "squeezenet.pth")
    for name, state in ODD.items():
        torch.save(state, folder / f"{name}.pth")
    for suffix in KINDS:
        whole = (folder / f"squeezenet.{suffix}").read_bytes()
        (folder / f"half.{suffix}").write_bytes(whole[: len(whole) // 2])
    for name, (content, _) in OTHER.items():
        (folder / name).write_bytes(content)
    nan = states["squeezenet"] | {"features.0.bias": torch.full((64,), torch.nan)}
    save_file(nan, folder / "nan.safetensors")
    torch.save(nan, folder / "nan.pth")
    torch.save({"features.0.weight": Code(folder / "ran")}, folder / "code.pth")
    (folder / "pickle.pth").write_bytes(pickle.dumps(Code(folder / "ran")))
    return folder


class Code:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


BUILD = {name: lambda path, n=name: build_backbone(n, pretrained=path, image_size=64) for name in BACKBONES}
BUILD |= {"MobileNetUNet": lambda path: MobileNetUNet(in_channels=1, pretrained=path)}
BUILD |= {"OutlineClassifier": lambda path: OutlineClassifier(image_size=64, pretrained=path)}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *[("SqueezeNet", "squeezenet.safetensors"), ("SqueezeNet", "squeezenet.pth")],
        *[("MobileNetV3-Large", "mobilenetv3.safetensors"), ("ResNet50-v2", "resnet.safetensors")],
        *[("MobileNetUNet", "timm.safetensors"), ("MobileNetUNet", "gluon.safetensors")],
        *[("MobileNetV2", "gluon.safetensors"), ("OutlineClassifier", "resnet.safetensors")],
        *[("SqueezeNet", file) for file in [os.environ.get("BRAIN_MRI_SQUEEZENET")] if file],  # real ones, in CI
    ],
)
def test_a_pretrained_encoder_has_the_tensors_of_its_file(files, name, file):
    state, own = read_weights(files / file), BUILD[name](files / file).backbone.state_dict()
    renamed = {"norm": "stages.2.blocks.2.norm1"} if name == "OutlineClassifier" else {}  # of the first block left out
    for key, tensor in own.items():
        top = key.split(".")[0]
        assert torch.equal(tensor, state[key.replace(top, renamed.get(top, top), 1)]), key
    gone = {key.split(".")[0] for key in state.keys() - own.keys()}
    if name in BACKBONES:
        assert gone <= {"classifier", "conv_head"}, "only the classifier stays behind"


@pytest.mark.parametrize(("kind", "wrapped"), [("safetensors", "module._orig_mod."), ("pth", "_orig_mod.module.")])
def test_names_of_a_wrapped_network_are_those_of_the_network(kind, wrapped, files, tmp_path):
    state, path = read_weights(files / "squeezenet.safetensors"), tmp_path / f"wrapped.{kind}"
    named = {wrapped + key: value for key, value in state.items()}
    save_file(named, path) if kind == "safetensors" else torch.save({"state_dict": named}, path)
    with pytest.warns(UserWarning, match=rf"wrapped\.{kind}: '(module|_orig_mod)\.', as .* puts it, was taken off"):
        found = read_weights(path)
    assert found.keys() == state.keys()


def test_position_embeddings_are_resized(tmp_path):
    name, path = "vit_tiny_patch16_224", tmp_path / "vit.safetensors"
    save_file(timm.create_model(name, img_size=96).state_dict(), path)
    before = read_weights(path)["pos_embed"]
    after = build_backbone(name, pretrained=path, image_size=64).backbone.pos_embed
    assert (before.shape[1], after.shape[1]) == (1 + 36, 1 + 16)
    assert torch.equal(after[:, 0], before[:, 0]), "the class token keeps its own"


@pytest.mark.parametrize("name", ["SqueezeNet", "MobileNetUNet"])
def test_a_whole_network_of_ours_comes_back_head_and_all(name, tmp_path):
    path, arguments = tmp_path / "ours.safetensors", {"head": "dual", "num_classes": 3, "image_size": 64}
    arguments = arguments if name == "SqueezeNet" else {"n_filters": 4, "in_channels": 1, "out_channels": 1}
    before = {key: value.contiguous() for key, value in PRETRAINABLE[name](**arguments).state_dict().items()}
    save_file(before, path)
    after = PRETRAINABLE[name](pretrained=path, **arguments).state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    with pytest.raises(WeightsError, match="name a weight file"):
        OutlineClassifier(pretrained=True)
    other = {"num_classes": 4} if name == "SqueezeNet" else {"n_filters": 8}
    with pytest.raises(WeightsError, match=r"ours\.safetensors: not the weights of .* with (4 classes|1 channels)"):
        PRETRAINABLE[name](pretrained=path, **arguments | other)


def test_a_file_of_the_features_alone_is_loaded_strictly(tmp_path):
    name, path = "resnet18", tmp_path / "features.safetensors"
    state = timm.create_model(name, num_classes=0).state_dict()
    save_file(state, path)
    loaded = build_backbone(name, pretrained=path, image_size=64).backbone.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(value, loaded[key]) for key, value in state.items())
    save_file({key: value for key, value in state.items() if key != "conv1.weight"}, path)
    with pytest.raises(WeightsError, match=r"conv1\.weight"):
        build_backbone(name, pretrained=path, image_size=64)


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("SqueezeNet", "ten_squeezenet.safetensors", "its classifier knows 10 classes"),
        ("MobileNetV3-Large", "ten_mobilenetv3.safetensors", "its classifier knows 10 classes"),
        ("MobileNetV3-Large", "squeezenet.safetensors", "not the weights of MobileNetV3-Large"),
        ("SqueezeNet", "code.pth", "nothing of it was run"),
        ("SqueezeNet", "pickle.pth", "nothing of it was run"),
        ("SqueezeNet", "half.safetensors", "not a whole safetensors file"),
        ("SqueezeNet", "half.pth", "not readable as weights"),
        *[("SqueezeNet", name, said) for name, (_, said) in OTHER.items()],
        *[("SqueezeNet", f"{name}.pth", "holds no table of named real tensors") for name in ODD if name != "empty"],
        ("MobileNetV3-Large", "empty.pth", "holds no tensor at all"),
        ("SqueezeNet", "missing.pth", "no such weight file"),
        *[("SqueezeNet", f"nan.{kind}", r"NaN or infinite numbers in features\.0\.bias") for kind in KINDS],
        ("MobileNetUNet", "squeezenet.safetensors", "not the weights of MobileNetV2, nor of a MobileNetUNet with 1"),
        ("OutlineClassifier", "squeezenet.safetensors", "not ResNet50-v2 in Gluon's layout"),
        ("OutlineClassifier", "part.safetensors", "not the weights of ResNet50-v2"),
    ],
)
def test_wrong_files_are_refused_by_name_and_nothing_runs(files, name, file, message):
    with pytest.raises(WeightsError, match=message) as refused:
        BUILD[name](files / file)
    assert file in str(refused.value) and len(str(refused.value)) < 700 and not (files / "ran").exists()


def test_the_cache_is_used_offline_and_missing_weights_are_reported_with_the_command(tmp_path, files):
    """`make weights` in a process of its own: the hub reads its settings once."""
    torch_home, hub = tmp_path / "torch", tmp_path / "hub"
    cached = torch_home / "hub/checkpoints/squeezenet1_1-b8a52dc0.pth"
    snapshot = hub / "hub/models--timm--mobilenetv3_large_100.ra_in1k"
    for folder in (cached.parent, snapshot / "refs", snapshot / "snapshots/abc"):
        folder.mkdir(parents=True)
    shutil.copy(files / "squeezenet.pth", cached)
    shutil.copy(files / "mobilenetv3.safetensors", snapshot / "snapshots/abc/model.safetensors")
    (snapshot / "refs/main").write_text("abc")
    environment = os.environ | {"TORCH_HOME": str(torch_home), "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    # `-o`: the environment is this one; a test must not install another, nor point this one to another checkout
    make = ("make", "-o", ".venv/ready", f"BIN={Path(sys.executable).parent}")
    command = (*make, "weights", "BACKBONE=SqueezeNet MobileNetV3-Large ResNet50")
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.count("ImageNet weights are in the cache") == 2, done.stdout + done.stderr
    assert done.returncode and "make weights BACKBONE=ResNet50" in done.stderr and "Traceback" not in done.stderr

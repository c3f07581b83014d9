"""Every model in one table: parameters exactly, forward and backward, sizes and arguments taken and refused."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from models import BACKBONES, LOCALISERS, MODELS, MULTITASK, SEGMENTERS, AttentionUNet, MultiTaskUNet
from models.backbones import TIMM
from models.heads import HEADS
from utils.recipes import get_recipe

EVERY = {**BACKBONES, **MODELS, **SEGMENTERS, **MULTITASK, **LOCALISERS}  # of VGG16 S2's, without weights
STEPS = {name: get_recipe(name, "OutlineClassifier").model_args for name in ("name-only", "with-masks", "from-outline")}
# Network, what it is built with besides defaults → parameters: S2's, S0's and MONAI's as reported or chosen; of
# backbones with a linear head of four classes.
COUNTS = [
    *[("CustomCNN", {}, 3_001_156), ("AlexNet", {}, 4_589_316), ("VGG16", {}, 65_070_916), ("ViT", {}, 21_459_460)],
    *[("ClassicUNet", {"n_filters": n}, count) for n, count in ((8, 344_227), (16, 1_375_043), (32, 5_496_451))],
    *[("ImprovedUNet", {"n_filters": n}, count) for n, count in ((8, 214_043), (16, 799_075), (32, 3_082_739))],
    *[("AttentionUNet", {"n_filters": n}, count) for n, count in ((8, 225_287), (16, 843_319), (32, 3_258_263))],
    ("ResidualUNet", {}, 840_195),  # chosen to have as many as AttentionUNet
    ("MobileNetUNet", {"in_channels": 1, "out_channels": 1}, 699_185),
    ("MultiTaskUNet", {}, 31_299_909),
    ("OutlineClassifier", {"healthy": 2} | STEPS["name-only"], 4_083_396),
    ("OutlineClassifier", {"healthy": 2} | STEPS["with-masks"], 4_369_288),
    ("OutlineClassifier", {"healthy": 2} | STEPS["from-outline"], 4_369_304),
    *[("VGG19", {}, 20_026_436), ("ResNet50", {}, 23_516_228), ("ResNet50-v2", {}, 8_543_812)],
    *[("ResNeXt50", {}, 22_988_100), ("DenseNet121", {}, 6_957_956), ("InceptionV3", {}, 21_793_764)],
    *[("Xception", {}, 20_815_148), ("MobileNetV2", {}, 2_228_996), ("MobileNetV3-Large", {}, 2_975_796)],
    *[("Swin-B", {"image_size": 64}, 86_702_524), ("ViT-B16", {"image_size": 64}, 85_663_492)],
    *[("ViT-L32", {"image_size": 64}, 305_468_420), ("EfficientNetV2-S", {}, 20_182_612)],
    *[("EfficientNetV2-B1", {}, 6_865_176), ("ResNetRS152", {}, 84_580_772), ("ConvNeXt-S", {}, 49_457_764)],
    ("SqueezeNet", {}, 724_548),
]
SMALL = {  # a small one of each, with its number of channels
    **{name: ({"image_size": 64, "in_channels": 3}, 3) for name in MODELS},
    **{name: ({"image_size": 64, "in_channels": 3}, 3) for name in BACKBONES if name not in MODELS},
    "InceptionV3": ({"image_size": 96}, 3),
    **{name: ({"n_filters": 8, "in_channels": 4, "out_channels": 3}, 4) for name in SEGMENTERS},
    "MultiTaskUNet": ({"width": 4, "in_channels": 3}, 3),
    "OutlineClassifier": ({"healthy": 2, "image_size": 64}, 1),
}


def named(outputs: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    return outputs if isinstance(outputs, dict) else {"logits": outputs}


@pytest.mark.parametrize(("name", "arguments", "count"), COUNTS)
def test_parameter_count_is_the_reported_one(name, arguments, count):
    with torch.device("cpu" if name == "OutlineClassifier" else "meta"):
        assert sum(p.numel() for p in EVERY[name](**arguments).parameters()) == count


@pytest.mark.parametrize("name", SMALL)
def test_forward_and_backward_reach_every_parameter_and_an_image_counts_alone_as_in_a_batch(name):
    """Of timm's large networks shapes alone are computed, not the numbers."""
    torch.manual_seed(0)
    arguments, channels = SMALL[name]
    shapes = name in TIMM.keys() - MODELS - {"ResNet50-v2", "MobileNetV2"}
    with torch.device("meta" if shapes else "cpu"):
        net, side = EVERY[name](**arguments), arguments.get("image_size", 64)
        x = torch.rand(4, channels, side, side)
        outputs = named(net.train()(x))
    assert all(len(value) == 4 for value in outputs.values())
    sum(value.square().mean() for value in outputs.values()).backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None]
    if shapes:
        return
    assert all(value.isfinite().all() for value in (*outputs.values(), *(p.grad for p in net.parameters())))
    with torch.no_grad():
        together, alone = named(net.eval()(x)), named(net(x[1:2]))
    assert all(torch.allclose(together[n][1:2], alone[n], atol=1e-3, rtol=1e-3) for n in alone)


@pytest.mark.parametrize("name", MODELS)
def test_every_size_from_64_and_1_to_4_channels_are_taken_or_refused(name):
    with torch.device("meta"):
        for size in (*range(60, 84), *range(88, 260, 24)):
            if size < 64 or (name == "ViT" and size % 16):
                with pytest.raises(ValueError, match=f"image_size={size}"):
                    MODELS[name](image_size=size)
            else:
                channels = 1 + size % 4
                net = MODELS[name](image_size=size, in_channels=channels, num_classes=3)
                assert net(torch.empty(2, channels, size, size)).shape == (2, 3)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_height_and_width_stay_whatever_the_channels(name):
    with torch.device("meta"):
        for channels, masks, height, width in ((1, 1, 32, 32), (2, 3, 48, 80), (5, 2, 240, 240)):
            net = SEGMENTERS[name](in_channels=channels, out_channels=masks)
            assert net(torch.empty(1, channels, height, width)).shape == (1, masks, height, width)


CHANNELS_5, CLASSES_1 = ({"in_channels": 5}, None, "in_channels=5"), ({"num_classes": 1}, None, "num_classes=1")
SHAPES = [({"image_size": 64}, s, "built for B×3×64×64") for s in ((2, 3, 64, 80), (2, 2, 64, 64), (3, 64, 64))]
MAPS = [
    *[({bad: 0}, None, f"{bad}=0") for bad in ("in_channels", "out_channels", "n_filters")],
    ({}, (1, 4, 100, 96), "input of 100×96 pixels: 16 must divide both sides"),
    ({}, (1, 3, 96, 96), "input of shape 1×3×96×96: this model was built for B×4×H×W"),
    ({}, (4, 96, 96), "input of shape 4×96×96"),
]
REFUSED = {
    **{name: [CHANNELS_5, CLASSES_1, ({"in_channels": 0}, None, "in_channels=0"), *SHAPES] for name in MODELS},
    "SqueezeNet": [
        ({"in_channels": 2}, None, "1 or 3"),
        CLASSES_1,
        ({"image_size": 32}, None, "image_size=32"),
        *SHAPES,
    ],
    "ViT-B16": [({"image_size": 72}, None, "that 16 divides")],
    "InceptionV3": [({"image_size": 64}, None, "at least 75")],
    "OutlineClassifier": [
        *[CLASSES_1, ({"image_size": 72}, None, "image_size=72"), *SHAPES],
        ({"named_from": "somewhere"}, None, "unknown named_from"),
        ({"outline": False}, None, "there is none"),
    ],
    **dict.fromkeys(SEGMENTERS, MAPS),
    "MultiTaskUNet": [
        *[({"width": 0}, None, "width=0: at least 1"), ({"width": 4}, (1, 1, 40, 32), "16 must divide both sides")],
        ({"width": 4}, (1, 3, 32, 32), "B×1×H×W"),
    ],
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_and_other_inputs_than_built_for_are_named(name):
    for arguments, shape, message in REFUSED[name]:
        with pytest.raises(ValueError, match=message):
            EVERY[name](**arguments)(torch.empty(shape or (1,)))


@pytest.mark.parametrize(("name", "rate"), [("VGG16", 1e-4), ("ViT", 1e-3)])
def test_one_batch_is_learned_by_heart_however_deep_the_network(name, rate):
    torch.manual_seed(0)
    net = MODELS[name](image_size=64, **({"dim": 64, "depth": 2} if name == "ViT" else {"dropout": 0.0}))
    x, y, optimizer = torch.rand(8, 3, 64, 64), torch.arange(8) % 4, torch.optim.Adam(net.parameters(), rate)
    for _ in range(250):
        optimizer.zero_grad()
        z = net(x)
        if (z.argmax(1) == y).all():
            return
        nn.functional.cross_entropy(z, y).backward()
        optimizer.step()
    pytest.fail("the batch was not learned")


def test_attention_maps_come_on_request_and_a_closed_gate_lets_nothing_of_its_skip_through():
    net, x = AttentionUNet(n_filters=8).eval(), torch.rand(2, 4, 64, 96)
    before, maps = net(x, return_attention=True)
    assert torch.equal(before, net(x)) and all(((m > 0) & (m < 1)).all() for m in maps)
    assert [tuple(m.shape) for m in maps] == [(2, 1, 8, 12), (2, 1, 16, 24), (2, 1, 32, 48), (2, 1, 64, 96)]
    with torch.no_grad():
        net.gates[-1].score[1].weight.zero_()
        net.gates[-1].score[1].bias.fill_(-100)
    logits, maps = net(x, return_attention=True)
    assert maps[-1].max() < 1e-20 and not torch.allclose(logits, before)


@pytest.mark.parametrize("normalised", [False, True])
def test_normalised_gates_cannot_be_stuck(normalised):
    net = AttentionUNet(n_filters=4, normalised=normalised).eval()
    for gate in net.gates:
        nn.init.constant_(gate.score[1].bias, 20)  # what training drove S2's deep gates to
    maps = net(torch.rand(2, 4, 64, 64), return_attention=True)[1]
    assert all((gate > 0.95).all() != normalised for gate in maps)


def test_outputs_of_the_multi_task_network_by_name_and_parts_left_out():
    x = torch.rand(2, 1, 32, 48)
    outputs = MultiTaskUNet(width=4)(x)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"latent": (2, 256), "tumour": (2,), "subtype": (2, 3), "reconstruction": (2, 1, 32, 48)}
    assert (outputs["latent"] >= 0).all(), "behind a ReLU"
    assert set(MultiTaskUNet(width=4, reconstruct=False)(x)) == {"latent", "tumour", "subtype"}
    flat = MultiTaskUNet(width=4, hierarchical=False)(x)
    assert set(flat) == {"latent", "classes", "reconstruction"} and flat["classes"].shape == (2, 4)


def test_heads_have_the_parameters_of_their_sources_and_see_average_and_maximum():
    for name, sizes, count in (("dual", (1280, 4), 1_450_244), ("two-layers", (768, 44), 536_364)):  # S3, S4
        assert sum(p.numel() for p in HEADS[name](*sizes).parameters()) == count
    x, seen = torch.rand(2, 8, 3, 5), []
    assert all(head(8, 5).eval()(x).shape == (2, 5) for head in HEADS.values())
    head = HEADS["dual"](8, 4).eval()
    head.layers.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    head(x)
    assert torch.equal(seen[0], torch.cat([x.flatten(2).mean(2), x.flatten(2).max(2).values], 1))


def test_narrow_networks_train_in_channels_last():
    """A strided 1×1 convolution of 4 channels corrupted memory: run apart, since it takes the process with it."""
    code = """
import torch
from models import MULTITASK, SEGMENTERS
for name, model in (SEGMENTERS | MULTITASK).items():
    print(name, flush=True)
    net = model(**{"width" if name in MULTITASK else "n_filters": 4}).to(memory_format=torch.channels_last)
    for _ in range(3):
        y = net(torch.rand(4, net.in_channels, 32, 32).contiguous(memory_format=torch.channels_last))
        sum(v.square().mean() for v in (y.values() if isinstance(y, dict) else [y])).backward()
"""
    environment = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert not done.returncode, f"died in {done.stdout.split()[-1:]}: {done.stderr[-500:]}"

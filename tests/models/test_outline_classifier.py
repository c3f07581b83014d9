"""OutlineClassifier: size, shapes, one step of training, and a name that follows from the outline alone."""

import pytest
import torch
from safetensors.torch import save_file

from models import OutlineClassifier
from models.backbones import WeightsError
from models.gluon import build_gluon
from models.outline_classifier import InsideOutline
from utils.recipes import get_recipe
from utils.recipes.localisation import STEPS
from utils.training.optimisation import freeze, parameter_groups
from utils.training.tasks import Outlining

# Step of the ablation → parameters with 4 classes, one of them healthy.
PARAMETERS = {"name-only": 4_083_396, "with-masks": 4_369_288, "from-outline": 4_369_304}
steps = pytest.mark.parametrize("name", STEPS)


def network(name: str, **arguments) -> OutlineClassifier:
    return OutlineClassifier(
        **{"healthy": 2, "image_size": 64} | arguments, **get_recipe(name, "OutlineClassifier").model_args
    )


def batch(size: int = 64) -> dict[str, torch.Tensor]:
    """One image of each class; the mask of the last is not known, that of the healthy one is empty."""
    mask = torch.zeros(4, 2, size, size, dtype=torch.uint8)
    mask[0, 0, 8:24, 8:24] = mask[1, 1, 30:50, 20:40] = 1
    image = (50 + 150 * mask.amax(1, keepdim=True)).to(torch.uint8)
    known = torch.tensor([True, True, True, False])
    return {"image": image, "mask": mask, "label": torch.arange(4), "outlined": known}


@steps
def test_parameters_and_shapes(name):
    net = network(name)
    count = sum(p.numel() for p in net.parameters())
    print(f"{name}: {count:,}")
    assert count == PARAMETERS[name] < 5_000_000
    out = net(torch.rand(2, 1, 64, 64))
    assert out["classes"].shape == (2, 4)
    assert ("outline" in out) == (name != "name-only")
    if "outline" in out:
        assert out["outline"].shape == (2, 4, 64, 64), "background and three kinds"
    assert network(name, num_classes=3, healthy=None)(torch.rand(2, 3, 64, 64))["classes"].shape == (2, 3)


@steps
def test_one_step_of_training_moves_what_is_unfrozen_and_nothing_else(name):
    torch.manual_seed(0)
    recipe = get_recipe(name, "OutlineClassifier")
    net, task = network(name), Outlining(4, 2, recipe.balance, outline=recipe.model_args["outline"])
    freeze(net, recipe)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(net, recipe), 1e-3)
    net.train()
    x, y = task.example(batch())
    task.loss(net(x), y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)
    optimizer.step()
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert not [key for key in moved if key.startswith(("backbone.stem", "backbone.stages.0", "backbone.stages.1"))]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert not [key for key in moved if key.startswith("backbone") and key.endswith(statistics)], "freeze_bn"
    assert "backbone.stages.2.blocks.0.conv1.weight" in moved and "head.name.out.weight" in moved
    assert ("head.decoder.out.weight" in moved) == (name != "name-only")


@steps
def test_training_and_evaluation_compute_the_same(name):
    """Averages over augmented batches, as of a batch norm, would not fit the images as they are."""
    torch.manual_seed(0)
    net, x = network(name), torch.rand(3, 1, 64, 64)
    freeze(net, get_recipe(name, "OutlineClassifier"))
    with torch.no_grad():
        training, evaluated = net.train()(x), net.eval()(x)
    assert all(torch.allclose(training[key], evaluated[key], atol=1e-4) for key in evaluated)


def test_what_is_outside_the_outline_does_not_name_the_image():
    torch.manual_seed(0)
    head = InsideOutline(8, 2, 3).eval()
    outline = torch.zeros(1, 3, 16, 16)
    outline[:, 0] = 40  # the background everywhere …
    outline[:, :, 4:8, 4:8] = torch.tensor([0.0, 40.0, 0.0])[:, None, None]  # … but here
    features = torch.rand(1, 8, 4, 4)
    outside, inside = features.clone(), features.clone()
    outside[:, :4, 2:] += 5
    inside[:, :4, 1, 1] += 5
    named = head(features, outline)
    assert torch.allclose(head(outside, outline), named, atol=1e-5)
    assert not torch.allclose(head(inside, outline), named, atol=1e-2)
    nothing = outline.clone()
    nothing[:, 0] = 40
    nothing[:, 1:] = 0
    assert not torch.allclose(head(features, nothing), named, atol=1e-2), "whether anything is outlined counts as well"


def test_weights_are_those_of_the_file_and_another_file_is_refused(tmp_path):
    torch.manual_seed(0)
    whole = build_gluon("ResNet50-v2", "resnetv2_50.a1h_in1k", None, 3)
    for module in whole.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_()
    save_file({k: v for k, v in whole.state_dict().items() if "tracked" not in k}, tmp_path / "resnet.safetensors")
    net = OutlineClassifier(image_size=64, healthy=2, pretrained=tmp_path / "resnet.safetensors").eval()
    whole.eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        stage_two = whole.stages[1](whole.stages[0](whole.stem(x)))
        third = whole.stages[2].blocks
        wanted = third[2].norm1(third[1](third[0](stage_two)))  # the stream behind two blocks, as the third reads it
        maps = net.backbone(x)
    assert torch.allclose(maps[3], wanted, atol=1e-5) and torch.allclose(maps[2], third[0].norm1(stage_two), atol=1e-5)
    assert [m.shape[1:] for m in maps] == [(64, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)]
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not ResNet50-v2 in Gluon's layout"):
        OutlineClassifier(pretrained=tmp_path / "other.safetensors")
    state = {"stem.norm.weight": torch.zeros(64)}
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match="not the weights of ResNet50-v2"):
        OutlineClassifier(pretrained=tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match="name a weight file"):
        OutlineClassifier(pretrained=True)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"image_size": 72}, "image_size=72"),
        ({"named_from": "somewhere"}, "unknown named_from"),
        ({"outline": False}, "there is none"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_what_it_cannot_take_is_named(bad, said):
    with pytest.raises(ValueError, match=said):
        OutlineClassifier(**bad)
    with pytest.raises(ValueError, match="built for"):
        network("with-masks")(torch.rand(1, 1, 96, 96))


def test_a_name_from_an_outline_that_is_certainly_empty_is_finite():
    torch.manual_seed(0)
    head, outline = InsideOutline(8, kinds=3, num_classes=4), torch.zeros(2, 4, 16, 16)
    outline[:, 0] = 40.0  # 1 minus its share rounds to 0 in float32
    assert head(torch.rand(2, 8, 4, 4), outline).isfinite().all()

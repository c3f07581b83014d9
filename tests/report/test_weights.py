"""Saved weights come back as the network that they were saved from."""

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from whole_records import whole

from datasets.catalog import REPO
from models.backbones import TIMM, build_backbone
from models.gluon import SIGNS, build_gluon
from utils.recipes import get_recipe
from utils.report.weights import LIMIT, PATIENT_LIMIT, limits_of, load_weights, save_weights
from utils.run import Run
from utils.saved_models import CARD, README, SPLIT_LIMIT, about, model_card, read_card


@pytest.mark.parametrize("name", SIGNS)
def test_a_backbone_that_began_with_weights_in_gluons_layout(name, roots):
    """As ResNet50-v2 and MobileNetV2 from the ONNX model zoo: timm's networks of these names have other layers."""
    torch.manual_seed(0)
    file = roots / "imagenet.safetensors"
    save_file(build_gluon(name, TIMM[name], None, 3).state_dict(), file)
    recipe = get_recipe("probe-first", name)
    net = build_backbone(name, pretrained=file, image_size=64, **recipe.model_args).eval()
    run = Run(dataset="phantom", split="published", model=name, recipe="probe-first", image_size=64, pretrained=True)
    names = ("name", "source", "epochs", "lr", "batch_size", "augmentation", "model_args")
    record = whole(run, recipe={key: getattr(recipe, key) for key in names}, data={})
    again = load_weights(save_weights(net, run, record))
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


@pytest.mark.parametrize("path", [*REPO.glob(f"saved_models/*/*/*/{CARD}")], ids=lambda path: path.parent.name)
def test_a_saved_model_is_a_model_card_of_the_hub_that_says_what_its_card_says(path):
    card, text = read_card(path), path.with_name(README).read_text()
    assert text == model_card(path.parent.name, card), "make tables"
    page = ModelCard(text)
    assert (page.data.license == "other" and page.data.license_name) or page.data.license.startswith("cc-by-")
    assert page.data.pipeline_tag == ("image-classification" if "classes" in card else "image-segmentation")
    assert page.data.library_name and page.data.tags and page.data.datasets == [card["trained_on"]["dataset"]]
    assert {one.metric_type for one in page.data.eval_results} == {*page.data.metrics} <= {*card["test"]}
    assert all(sentence in text for sentence in about(card)) and "Not a medical device" in text


@pytest.mark.parametrize(("how", "groups", "limits"), [
    ({"split": "published"}, 40, [SPLIT_LIMIT]),
    ({"split": "cleaned"}, 1, [PATIENT_LIMIT, SPLIT_LIMIT]),
    ({"split": "patient"}, 40, []),
    ({"split": "external", "test_on": "navoneel"}, 40, []),
    ({"split": "published", "target": "findings", "dataset": "chest-xray14"}, 40, []),
])  # fmt: skip
def test_a_card_says_of_which_split_the_patients_are_on_both_sides(how, groups, limits):
    run = Run(**{"dataset": "brain-tumor-mri"} | how)
    assert limits_of(run, ["glioma"], groups) == [LIMIT, *limits]
    assert len(limits_of(run, ["glioma", "notumor"], groups)) == 2 + len(limits), "sources of the healthy"

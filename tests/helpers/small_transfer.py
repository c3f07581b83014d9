"""A short training of a backbone on a few phantom images."""

import torch

from models import build_backbone
from utils.recipes import get_recipe
from utils.training.loop import fit
from utils.training.tasks import Classification

NAME = "MobileNetV3-Large"  # small, with batch norms


def run_fit(parts, folder, name=NAME, recipe="ours", seed=0, **changes):
    recipe = get_recipe(recipe, name, **{"epochs": 1, "batch_size": 16, "warmup": 0} | changes)
    torch.manual_seed(seed)
    net = build_backbone(name, image_size=64, **recipe.model_args)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    return net, before, fit(net, Classification(4), *parts, recipe, folder=folder)

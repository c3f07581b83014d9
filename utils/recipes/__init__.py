"""Recipes, one file a source: how it trained, in plain values. `get_recipe` finds one. Start at `recipe.py`."""

from dataclasses import replace

from datasets.catalog import lookup
from utils.recipes import chexnet, localisation, ours, s0, s1, s2, s3, s4
from utils.recipes.recipe import ANY_BACKBONE, Recipe

# recipe → model → recipe of that model; `ANY_BACKBONE` stands for every backbone without a line of its own.
RECIPES: dict[str, dict[str, Recipe]] = {
    **s2.RECIPES,
    **s0.RECIPES,
    **ours.RECIPES,
    **localisation.RECIPES,
    **s1.RECIPES,
    **s3.RECIPES,
    **s4.RECIPES,
    **chexnet.RECIPES,
}

# Quick mode shows every step in a minute or two; its numbers are no evidence. The learning rate is raised, so that a
# few epochs suffice to learn something.
QUICK = {"epochs": 6, "lr": 5e-4}
QUICK_SEGMENTATION = {"epochs": 6, "batch_size": 16, "lr": 4e-3, "unfreeze": "all", "backbone_lr_mult": 1.0}
QUICK_TRANSFER = {"epochs": 4, "batch_size": 16}
QUICK_LOCALISATION = {
    "epochs": 3,
    "batch_size": 16,
    "lr": 1e-3,
    "unfreeze": "all",
    "freeze_bn": False,
    "backbone_lr_mult": 1.0,
}
QUICK_MULTITASK = {"epochs": 5, "batch_size": 16, "lr": 3e-3}


def get_recipe(name: str, model: str, **changes: object) -> Recipe:
    """Recipe `name` for `model`, with `changes` (such as `epochs=15`) applied.

    Raises:
        UnknownName: a recipe, model or field that does not exist; the message suggests the nearest.
    """
    of_models = dict(lookup(RECIPES, name, "recipe"))
    if model not in of_models and ANY_BACKBONE in of_models:
        from models import BACKBONES  # here, so that importing a recipe loads no network

        of_models = dict.fromkeys(BACKBONES, of_models.pop(ANY_BACKBONE)) | of_models
    recipe = lookup(of_models, model, f"model of recipe {name}")
    for change in changes:
        lookup(Recipe.__dataclass_fields__, change, "recipe value")
    return replace(recipe, **changes)

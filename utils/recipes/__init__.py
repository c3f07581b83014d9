"""Recipes, one file a source: how it trained, in plain values. `get_recipe` finds one. Start at `recipe.py`."""

from dataclasses import replace

from datasets.catalog import lookup
from utils.recipes import ours, s0, s1, s2, s3, s4
from utils.recipes.recipe import ANY_CLASSIFIER, FROM_SCRATCH, NOTHING_FROZEN, Recipe

# recipe → model → recipe of that model; `ANY_CLASSIFIER` stands for every classifier without a line of its own.
RECIPES: dict[str, dict[str, Recipe]] = {}
for source in (s2, s0, ours, s1, s3, s4):
    RECIPES |= source.RECIPES

# Quick mode shows every step in a minute or two; its numbers are no evidence. The learning rate is raised, so that a
# few epochs suffice to learn something.
QUICK = {"epochs": 6, "lr": 5e-4}
QUICK_SEGMENTATION = {"epochs": 6, "batch_size": 16, "lr": 4e-3, **NOTHING_FROZEN}
QUICK_TRANSFER = {"epochs": 4, "batch_size": 16}
QUICK_LOCALISATION = {"epochs": 3, "batch_size": 16, "lr": 1e-3, "freeze_bn": False, **NOTHING_FROZEN}
QUICK_MULTITASK = {"epochs": 5, "batch_size": 16, "lr": 3e-3}


def get_recipe(name: str, model: str, **changes: object) -> Recipe:
    """Recipe `name` for `model`, with `changes` (such as `epochs=15`) applied.

    A classifier that the recipe does not name receives the recipe's default. One of `models.MODELS` has no backbone:
    of a default that fine-tunes it takes all values but those of fine-tuning (`FROM_SCRATCH`).

    Raises `UnknownName`: a recipe or field that does not exist, or a network that is no classifier and has no line of
    its own; the message suggests the nearest.
    """
    from models import BACKBONES, LOCALISERS, MODELS, MULTITASK, SEGMENTERS  # here: importing a recipe loads no network

    of_models = lookup(RECIPES, name, "recipe")
    classifier = model not in SEGMENTERS | MULTITASK | LOCALISERS
    named = ANY_CLASSIFIER if classifier and model not in of_models and ANY_CLASSIFIER in of_models else model
    recipe = lookup(of_models, named, f"model of recipe {name}")
    if named == ANY_CLASSIFIER and model in MODELS and model not in BACKBONES:
        recipe = replace(recipe, **FROM_SCRATCH)
    for change in changes:
        lookup(Recipe.__dataclass_fields__, change, "recipe value")
    return replace(recipe, **changes)

"""A recipe as a table."""

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from utils.recipes.recipe import Recipe

NAMED = ("name", "source", "stages", "stage")  # `source` is a sentence; each of `stages` has a row


def recipe_values(recipe: Recipe) -> pd.DataFrame:
    """What a recipe states, a row a value; what it leaves out (nothing, 0, False) has no row."""
    stated = {name: _written(value) for name, value in asdict(recipe).items() if value and name not in NAMED}
    stated |= {f"stage {number}": _written(stage) for number, stage in enumerate(recipe.stages, start=1)}
    return pd.DataFrame({"value": stated})


def _written(value: object) -> object:
    """A mapping as `step_size 10, gamma 0.5`; anything else as it is."""
    return ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, Mapping) else value

"""Recipes of the network that outlines and names: the same training thrice, with one thing added each time."""

from dataclasses import replace

from utils.recipes.ours import ONE_CYCLE
from utils.recipes.recipe import Recipe

# Stem and two stages stay as ImageNet left them: an epoch on Cheng's slices at 128 pixels takes a minute on one core.
FROM_OUTLINE = replace(
    ONE_CYCLE,
    name="from-outline",
    source="onecycle, for the encoder's last two blocks and a decoder; the losses balanced as in S0",
    epochs=24,
    lr=3e-4,
    unfreeze=14,  # layers: the two blocks of the third stage, and the norm behind them
    balance="ema",
    tta="",
    model_args={"outline": True, "named_from": "outline"},
)
# What each adds to the one before it, and what that leaves out.
STEPS: dict[str, dict[str, object]] = {
    "name-only": {"model_args": {"outline": False, "named_from": "image"}, "balance": "fixed"},
    "with-masks": {"model_args": {"outline": True, "named_from": "image"}},
    "from-outline": {},
}


def _step(name: str, changes: dict[str, object]) -> Recipe:
    return replace(FROM_OUTLINE, name=name, **changes)


# Beside the three steps: the augmentation that was best for fine-tuning (`claims.fine_tuning_choice`).
BEYOND: dict[str, dict[str, object]] = {"from-outline-turned": {"augmentation": "turned"}}
RECIPES: dict[str, dict[str, Recipe]] = {
    name: {"OutlineClassifier": _step(name, changes)} for name, changes in (STEPS | BEYOND).items()
}

"""Freezes and unfreezes layers of a backbone and sets their rates: policies, batch-norm statistics, parameter groups.

A policy is a value of a recipe (`Recipe.unfreeze`): "all"; "none" of the backbone; a whole number N, its last N layers;
a fraction f, the last f of its layers. The head is always unfrozen. `loop.fit` applies the policy of each stage.
"""

import pandas as pd
from torch import nn

from datasets.catalog import DataError
from models.backbones import Transfer
from utils.recipes.recipe import Recipe


def layers(backbone: nn.Module) -> list[nn.Module]:
    """Modules that have parameters of their own (convolution, norm, linear; tokens of a ViT), from input to output.

    Activations and poolings, which Keras counts as layers too, have nothing to freeze.
    """
    return [module for module in backbone.modules() if list(module.parameters(recurse=False))]


def unfrozen_count(unfreeze: str | float, count: int) -> int:
    """Number of unfrozen layers, from the end, among `count`; a fraction is rounded up.

    Raises:
        DataError: not a policy.
    """
    if unfreeze == "all":
        return count
    if unfreeze == "none":
        return 0
    if isinstance(unfreeze, int) and not isinstance(unfreeze, bool) and unfreeze > 0:
        return min(unfreeze, count)
    if isinstance(unfreeze, float) and 0 < unfreeze <= 1:
        return -int(-unfreeze * count // 1)
    raise DataError(f"unfreeze={unfreeze!r}: 'all', 'none', a number of layers or a fraction such as 0.3 is accepted")


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Freeze all but the layers that `recipe.unfreeze` names, in place, and batch-norm statistics with `freeze_bn`.

    In models without a backbone all layers are unfrozen.

    Raises:
        DataError: not a policy, or one that is not "all" for a model without a backbone.
    """
    if not isinstance(model, Transfer):
        if recipe.unfreeze != "all":
            raise DataError(f"unfreeze={recipe.unfreeze!r}: only a network with a backbone can be frozen in part")
        return
    every = layers(model.backbone)
    first = len(every) - unfrozen_count(recipe.unfreeze, len(every))
    for i, layer in enumerate(every):
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(i >= first)
    model.freeze_bn = recipe.freeze_bn


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """The unfrozen parameters as an optimiser takes them: of a `Transfer` the head, its hidden weights with their own
    decay (`recipe.head_l2`), then the backbone with its share of the rate (`recipe.backbone_lr_mult`)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not isinstance(model, Transfer):
        return [{"params": trained}]
    linear = [module.weight for module in model.head.modules() if isinstance(module, nn.Linear)]
    hidden = linear[:-1] if recipe.head_l2 else []
    special = {id(p) for p in (*hidden, *model.backbone.parameters())}
    groups = [
        {"params": [p for p in trained if id(p) not in special]},
        # Keras adds l2·w² to the loss; its gradient is what a weight decay of 2·l2 adds in torch's Adam.
        {"params": hidden, "weight_decay": 2 * recipe.head_l2},
        {
            "params": [p for p in model.backbone.parameters() if p.requires_grad],
            "lr": recipe.lr * recipe.backbone_lr_mult,
        },
    ]
    return [group for group in groups if group["params"]]


def unfrozen_layers(model: Transfer, recipe: Recipe) -> pd.DataFrame:
    """A row a stage of `recipe`: its unfrozen layers and parameters; changes nothing.

    Raises:
        DataError: see `freeze`.
    """
    every = layers(model.backbone)
    head = sum(p.numel() for p in model.head.parameters())
    rows = []
    for stage in recipe.in_stages():
        count = unfrozen_count(stage.unfreeze, len(every))
        trained = sum(p.numel() for m in every[len(every) - count :] for p in m.parameters(recurse=False))
        rows.append(
            {
                "stage": stage.stage or "only one",
                "epochs": stage.epochs,
                "rate": stage.lr,
                "backbone's rate": stage.lr * stage.backbone_lr_mult if count else None,
                "unfrozen layers": f"{count} of {len(every)}",
                "unfrozen parameters": head + trained,
                "of all": f"{(head + trained) / sum(p.numel() for p in model.parameters()):.0%}",
                "batch-norm statistics": "kept"
                if stage.freeze_bn or not count
                else "updated where layers are unfrozen",
            }
        )
    return pd.DataFrame(rows)

"""What is trained, and at which rate: unfrozen layers, parameter groups, optimiser and schedule of a recipe.

`Recipe.unfreeze` is "all"; "none" of the backbone; a whole number N, its last N layers; a fraction f, the last f of its
layers. The head is always unfrozen. `loop.fit` applies the policy of each stage.
"""

import math
from collections.abc import Iterable
from functools import partial

import pandas as pd
import torch
from torch import nn
from torch.optim import lr_scheduler

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
    if unfreeze in ("all", "none"):
        return count if unfreeze == "all" else 0
    if isinstance(unfreeze, int) and not isinstance(unfreeze, bool) and unfreeze > 0:
        return min(unfreeze, count)
    if isinstance(unfreeze, float) and 0 < unfreeze <= 1:
        return math.ceil(unfreeze * count)
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
    backbone = [p for p in model.backbone.parameters() if p.requires_grad]
    special = {id(p) for p in (*hidden, *backbone)}
    groups = [
        {"params": [p for p in trained if id(p) not in special]},
        # Keras adds l2·w² to the loss; its gradient is what a weight decay of 2·l2 adds in torch's Adam.
        {"params": hidden, "weight_decay": 2 * recipe.head_l2},
        {"params": backbone, "lr": recipe.lr * recipe.backbone_lr_mult},
    ]
    return [group for group in groups if group["params"]]


def unfrozen_layers(model: Transfer, recipe: Recipe) -> pd.DataFrame:
    """A row a stage of `recipe`: its unfrozen layers and parameters; changes nothing. Raises as `freeze` does."""
    every, rows = layers(model.backbone), []
    for stage in recipe.in_stages():
        count = unfrozen_count(stage.unfreeze, len(every))
        trained = [*model.head.parameters()]
        trained += [p for layer in every[len(every) - count :] for p in layer.parameters(recurse=False)]
        parameters, kept = sum(p.numel() for p in trained), stage.freeze_bn or not count
        rows.append(
            {
                "stage": stage.stage or "only one",
                "epochs": stage.epochs,
                "rate": stage.lr,
                "backbone's rate": stage.lr * stage.backbone_lr_mult if count else None,
                "unfrozen layers": f"{count} of {len(every)}",
                "unfrozen parameters": parameters,
                "of all": f"{parameters / sum(p.numel() for p in model.parameters()):.0%}",
                "batch-norm statistics": "kept" if kept else "updated where layers are unfrozen",
            }
        )
    return pd.DataFrame(rows)


def make_optimizer(
    recipe: Recipe, groups: list[dict], of_balance: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimiser over groups of parameters, which may have rates of their own, and over those of the balance, which
    have no weight decay."""
    if of_balance := list(of_balance):
        groups = [*groups, {"params": of_balance, "lr": recipe.balance_lr, "weight_decay": 0.0}]
    return getattr(torch.optim, recipe.optimizer)(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)


def make_scheduler(
    recipe: Recipe, optimizer: torch.optim.Optimizer, batches: int = 1
) -> lr_scheduler.LRScheduler | None:
    """The schedule of `optimizer`, to be stepped after each `recipe.schedule_step`, or None; `batches`: of an epoch."""
    if recipe.schedule is None:
        return None
    numbers = {"epochs": recipe.epochs, "steps": recipe.epochs * batches}
    arguments = {name: numbers.get(value, value) for name, value in recipe.schedule_args.items()}
    if recipe.schedule == "OneCycleLR":  # one highest rate for each group: a slower backbone stays slower
        arguments["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    if recipe.schedule == "warmup_cosine":
        return lr_scheduler.LambdaLR(optimizer, partial(warmup_cosine, recipe, **arguments))
    return getattr(lr_scheduler, recipe.schedule)(optimizer, **arguments)


def warmup_cosine(recipe: Recipe, epoch: int, floor: float) -> float:
    """Rate of `epoch`, from 0, as a share of the highest: equal steps up, then half a cosine down to `floor`.

    By hand, since torch's `SequentialLR` of `LinearLR` and `CosineAnnealingLR` gives the same rates only where there is
    one: its floor is one number for all parameter groups, whereas here a slower backbone keeps its share to the end.
    """
    if epoch < recipe.warmup:
        return (epoch + 1) / recipe.warmup
    done = (epoch - recipe.warmup) / max(1, recipe.epochs - recipe.warmup)
    lowest = floor / recipe.lr
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

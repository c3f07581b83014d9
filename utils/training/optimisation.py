"""Optimiser and schedule of a recipe, by the names of torch's own classes."""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from utils.recipes.recipe import Recipe


def make_optimizer(
    recipe: Recipe, parameters: Iterable[torch.nn.Parameter | dict], of_balance: Iterable[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimiser over `parameters` (or groups of them, which may have rates of their own), and over those of the
    balance, which are not pulled towards 0."""
    parameters = list(parameters)
    groups = parameters if isinstance(parameters[0], dict) else [{"params": parameters}]
    if of_balance := list(of_balance):
        groups.append({"params": of_balance, "lr": recipe.balance_lr, "weight_decay": 0.0})
    return getattr(torch.optim, recipe.optimizer)(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)


def make_scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, batches: int = 1) -> LRScheduler | None:
    """The schedule of `optimizer`, to be stepped after each `recipe.schedule_step`, or None.

    Args:
        batches: of an epoch, for a schedule that asks for the number of all steps.
    """
    if recipe.schedule is None:
        return None
    numbers = {"epochs": recipe.epochs, "steps": recipe.epochs * batches}
    arguments = {name: numbers.get(value, value) for name, value in recipe.schedule_args.items()}
    if recipe.schedule == "OneCycleLR":  # one highest rate for each group: a slower backbone stays slower
        arguments["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    if recipe.schedule == "warmup_cosine":
        return LambdaLR(optimizer, partial(warmup_cosine, recipe, **arguments))
    return getattr(lr_scheduler, recipe.schedule)(optimizer, **arguments)


def warmup_cosine(recipe: Recipe, epoch: int, floor: float) -> float:
    """Rate of `epoch`, from 0, as a share of the highest: equal steps up, then half a cosine down to `floor`.

    By hand, since torch's `SequentialLR` of `LinearLR` and `CosineAnnealingLR` gives other rates: its floor is one
    number for all parameter groups, here a slower backbone keeps its share of the rate to the end.
    """
    if epoch < recipe.warmup:
        return (epoch + 1) / recipe.warmup
    done = (epoch - recipe.warmup) / max(1, recipe.epochs - recipe.warmup)
    lowest = floor / recipe.lr
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

"""What a training depends on, by name, so that no checkpoint is taken up by another training than the one it is of."""

import dataclasses
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import nn

from datasets.store.images import ImageDataset
from datasets.store.index import short_digest
from utils.recipes.recipe import Recipe

# The weights that a network had when its training began: interrupted in a notebook and called again with the same
# network, a training finds it trained in part.
_starts: WeakKeyDictionary[nn.Module, dict[str, list[float]]] = WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Identity:
    """Facts of a training, and its starting weights.

    Attributes:
        facts: name → value as text.
        start: name of a weight → its sum and norm, see `starting_weights`.
    """

    facts: Mapping[str, str]
    start: Mapping[str, list[float]]

    def plus(self, facts: Mapping[str, object]) -> "Identity":
        """The same with further facts."""
        return Identity({**self.facts, **{name: str(value) for name, value in facts.items()}}, self.start)

    def as_dict(self) -> dict[str, dict]:
        return {"facts": dict(self.facts), "start": dict(self.start)}

    def differences(self, saved: Mapping[str, Mapping]) -> str:
        """What `saved`, an `as_dict` of before, says otherwise, as "name: before → now, …"; "" where nothing."""
        found = [changed(saved["facts"], self.facts)]
        if saved["start"].keys() == self.start.keys():  # else the model differs, which its facts say
            others = [name for name, values in self.start.items() if not _alike(values, saved["start"][name])]
            found += [f"starting weights: others in {name}" for name in others[:1]]
        return ", ".join(filter(None, found))


def changed(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Where two sets of facts differ: "name: before → now, …", "" where nowhere."""
    names = [*now, *(name for name in was if name not in now)]
    return ", ".join(f"{n}: {was.get(n)} → {now.get(n)}" for n in names if was.get(n) != now.get(n))


def identity_of(model: nn.Module, task: nn.Module, train: ImageDataset, val: ImageDataset, precision: str) -> Identity:
    """The identity of a training; recipe and seed are added where they are known (`plus`).

    The images say themselves what they are, and of which run (`ImageDataset.identity`), so no caller can forget it.
    """
    images, other, own = train.identity(), val.identity(), ("rows", "turns")
    facts = {f"train {name}" if name in own else name: value for name, value in images.items()}
    facts |= {f"val {name}": v for name, v in other.items() if name in own or images.get(name) != v}
    parameters = sum(p.numel() for p in model.parameters())
    facts["model"] = f"{type(model).__name__} of {parameters:,} parameters"
    shapes = [f"{name} {list(tensor.shape)}" for name, tensor in model.state_dict().items()]
    facts["names and shapes of weights"] = short_digest("\n".join(shapes).encode())
    facts |= {"task": type(task).__name__, "precision": precision}
    return Identity(facts, starting_weights(model))


def recipe_facts(recipe: Recipe, seed: int) -> dict[str, object]:
    """All values of a recipe that training depends on, and the seed."""
    values = dataclasses.asdict(recipe)
    left_out = {"source"} | ({"accumulate"} if recipe.accumulate == 1 else set())  # older checkpoints do not name it
    return {name: value for name, value in values.items() if name not in left_out} | {"seed": seed}


def starting_weights(model: nn.Module) -> dict[str, list[float]]:
    """Sum and Euclidean norm of each weight of `model`, as it was when first asked for.

    They stand in for a digest, since the same seed gives weights that differ in the last bit on another processor,
    where a job that was requeued must go on.
    """
    if model not in _starts:
        weights = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        _starts[model] = {name: _summary(tensor.cpu()) for name, tensor in weights.items()}
    return _starts[model]


def _summary(weights: torch.Tensor) -> list[float]:
    return [weights.sum(dtype=torch.float64).item(), torch.linalg.vector_norm(weights, dtype=torch.float64).item()]


def _alike(now: list[float], before: list[float]) -> bool:
    """Whether sums and norms agree but for rounding: the sum of N weights drawn anew moves by the order of the norm,
    rounding by 1e-7 of it, or that times √N if all are rounded to one side."""
    (total, norm), (total_before, norm_before) = now, before
    return abs(total - total_before) <= 1e-3 * norm_before and abs(norm - norm_before) <= 1e-5 * norm_before

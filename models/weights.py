"""The one loader of pretrained weights: from a file, or from the hub's cache. Nothing in a file is ever run."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# First bytes of what is saved under the name of a weight file → what it is, and what to do.
OTHERS = {
    b"<": "a web page; fetch the file itself, not the page about it",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes; take weights of PyTorch",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with git lfs pull",
}
WRAPPERS = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}  # what each puts before all names


class WeightsError(Exception):
    """A weight file that is missing, unreadable, or another network's; the message says what to do."""


class Weights:
    """Weights that a network starts from. Raises `WeightsError` as `read_weights`.

    Args:
        pretrained: False: random ones. True: ImageNet's, from the hub or its cache. A path: a weight file
            (.safetensors, or .pth that holds nothing but tensors), either of a backbone with its classifier, or of a
            whole network of ours (`whole`), whose tensors are named `backbone.…` and `head.…`.
    """

    def __init__(self, pretrained: bool | str | Path):
        self.source, self.from_hub = pretrained, pretrained is True
        self.state = None if isinstance(pretrained, bool) else read_weights(pretrained)
        self.whole = bool(self.state) and all(key.startswith(("backbone.", "head.")) for key in self.state)
        self.of_backbone = None if self.whole else self.state  # None where a backbone's tensors come from elsewhere

    def load_whole(self, model: nn.Module) -> None:
        """Give `model` the tensors of a file that holds a whole network."""
        if self.whole:
            model.load_state_dict(self.state)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Within the block, tensors of a file that do not fit are refused: they are not those of `what`."""
        try:
            yield
        except (RuntimeError, KeyError) as error:
            if self.state is None:
                raise
            reason = " ".join(str(error).split()).replace("copying a param with shape torch.Size", "the file has ")
            raise WeightsError(
                f"{self.source}: not the weights of {what} ({reason[:300]}). "
                "Name the file of this network, or leave it out."
            ) from error


def fetched(get: Callable[[], Any], name: str, what: str) -> Any:
    """What `get` brings from the hub or its cache; raises `WeightsError` with the command that fetches it."""
    try:
        return get()
    except Exception as error:  # each version of the hub's client has its own errors for being offline
        raise WeightsError(
            f"the ImageNet weights of {name} ({what}) are not in the cache and cannot be fetched "
            f"({type(error).__name__}). On a machine with network, such as a login node: make weights BACKBONE={name}"
        ) from error


def check_classes(state: dict[str, Tensor], classifier: str, classes: int = 1000) -> None:
    """Raise `RuntimeError` where the last layer in a file, named `classifier`, knows other classes than ImageNet's."""
    found = state.get(f"{classifier}.weight")
    if found is not None and len(found) != classes:
        raise RuntimeError(f"its classifier knows {len(found)} classes, those of ImageNet are {classes}")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name. A .pth is unpickled as tensors only: code in it is refused, never run.

    What `WRAPPERS` put before all names is taken off, with a warning.  Raises `WeightsError`: no such file, half of
    one, something else than real tensors, none at all, or NaN among them.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if what := next((what for first, what in OTHERS.items() if start.startswith(first)), ""):
        raise WeightsError(f"{path}: no weight file but {what}")
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}). Fetch it again.") from error
    except Exception as error:  # torch raises what the half of a zip or a pickle happens to raise
        why = "it holds more than tensors" if "Unsupported" in str(error) or "GLOBAL" in str(error) else "half a file?"
        if not start.startswith((b"PK\x03\x04", b"\x80")) or "TorchScript" in str(error):
            why = "no file that torch.save writes"
        raise WeightsError(
            f"{path}: not readable as weights, nothing of it was run ({why}). Fetch it again, or take a .safetensors."
        ) from error
    for key in ("state_dict", "model"):  # where training scripts put it
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(key, str) and _is_plain(state[key]) for key in state):
        raise WeightsError(f"{path}: holds no table of named real tensors; give the state_dict of a network")
    if not state:  # timm would take it for none, and bring ImageNet's
        raise WeightsError(f"{path}: holds no tensor at all; give the state_dict of a network")
    while wrapped := [first for first in WRAPPERS if all(key.startswith(first) for key in state)]:
        state = {key.removeprefix(wrapped[0]): value for key, value in state.items()}
        warnings.warn(f"{path}: '{wrapped[0]}', as {WRAPPERS[wrapped[0]]} puts it, was taken off names", stacklevel=2)
    if lost := [key for key, value in state.items() if not value.float().isfinite().all()]:
        raise WeightsError(f"{path}: NaN or infinite numbers in {lost[0]}; take those of a training that did not fail")
    return state


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor whose numbers a network can start from: real, and all of them there."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
        return False
    return not (value.is_complex() or value.is_quantized)

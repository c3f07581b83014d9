"""The networks of S2 and S0 are the authors': with the same weights they give the same numbers.

`authors.json` holds what the authors' own classes answer (evaluation mode, float64) to one image, when each parameter
has values of a rule (`values`). Theirs and ours list their parameters in the same order, but for the ViT.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import MODELS, MULTITASK, SEGMENTERS

AUTHORS = json.loads(Path(__file__).with_name("authors.json").read_text())

# Parts of theirs in the order of ours, where that differs.
S0 = ("downs", "bottleneck", "cls_proj", "head_bin", "head_sub", *(f"ups.{k}." for k in (0, 2, 4, 6, 1, 3, 5, 7)))
PARTS = {"S0": (*S0, "final_conv"), "S2": tuple(f"attention_residual{gate}." for gate in (4, 3, 2, 1))}


def noise(count: int, number: int) -> np.ndarray:
    wave = np.sin(np.arange(count) * 12.9898 + number * 78.233) * 43758.5453
    return 2 * (wave - np.floor(wave)) - 1


def values(key: str, shape: list[int], number: int) -> Tensor:
    found = noise(int(np.prod(shape)), number).reshape(shape)
    word = key.split(".")[-1]
    if word == "running_var":
        found = 1 + 0.3 * found
    elif word == "running_mean" or word.endswith("bias"):
        found = 0.1 * found
    elif len(shape) == 1:
        found = 1 + 0.1 * found
    elif word in ("pos_embedding", "cls_token"):
        found = 0.5 * found
    else:
        found = found * np.sqrt(3 / np.prod(shape[1:]))
    return torch.from_numpy(found)


def build(name: str) -> nn.Module:
    words = name.split()
    if words[0] == "S0":
        return MULTITASK["MultiTaskUNet"]()
    if len(words) == 3:
        return SEGMENTERS[words[1]](n_filters=int(words[2].split("=")[1]))
    return MODELS[words[1]]()


@pytest.mark.parametrize("name", AUTHORS)
def test_a_network_answers_as_the_authors_own_class_does(name):
    facts, net = AUTHORS[name], build(name).double().eval()
    theirs = {key: values(key, shape, n) for n, (key, shape) in enumerate(facts["state"]) if shape}
    rank = {part: k for k, part in enumerate(PARTS[name[:2]])}
    order = sorted(theirs, key=lambda key: next((k for part, k in rank.items() if key.startswith(part)), -1))
    for key in theirs:  # S0 puts the skip first, ours the upsampled map: the same channels in another order
        if name.startswith("S0") and key in (f"ups.{k}.0.weight" for k in (1, 3, 5, 7)):
            theirs[key] = torch.cat(theirs[key].chunk(2, dim=1)[::-1], dim=1)
    own = [key for key, tensor in net.state_dict().items() if tensor.shape]
    net.load_state_dict(dict(zip(own, (theirs[key] for key in order), strict=True)), strict=False)
    x = torch.from_numpy(0.5 + 0.5 * noise(int(np.prod(facts["input"])), 1000)).reshape(facts["input"])
    with torch.no_grad():
        answer = net(x)
    if name.startswith("S0"):
        assert answer["tumour"].numpy() == pytest.approx(np.ravel(facts["output"]["logit_bin"]), abs=1e-6)
        assert answer["subtype"].numpy() == pytest.approx(np.array(facts["output"]["logits_sub"]), abs=1e-6)
        answer, facts = answer["reconstruction"], {"output": facts["output"]["recon"]}
    if isinstance(facts["output"], list):
        assert answer.numpy() == pytest.approx(np.array(facts["output"]), abs=1e-6)
    else:
        at = facts["output"]["at"]
        assert answer[:, :, at][..., at].numpy() == pytest.approx(np.array(facts["output"]["values"]), abs=1e-6)
        assert answer.abs().mean().item() == pytest.approx(facts["output"]["abs_mean"], abs=1e-9)

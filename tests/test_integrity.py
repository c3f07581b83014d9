"""Damaged files: a checkpoint or a weight file with other bytes is never loaded, and no prediction is NaN."""

import hashlib
import json
import os
import warnings

import numpy as np
import pytest
import torch
from test_checkpoint import train
from test_training import run_fit, same

from datasets import catalog
from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import SEGMENTERS, CustomCNN
from utils import files
from utils.evaluation.mask_predictions import predict_masks
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.reporting.records import save_run, training_facts
from utils.reporting.runs import Run
from utils.reporting.weights import CARD, WEIGHTS, load_weights
from utils.training import environment
from utils.training.checkpoint import TrainingPaused
from utils.training.loop import TrainingDiverged
from utils.training.metrics import MeanLoss
from utils.training.tasks import Classification, Segmentation


def mutations(content: bytes, tries: int = 60):
    """Copies of a file with a flipped bit, a run of zeros, a missing piece or end, or a doubled piece; seeded."""
    rng = np.random.default_rng(0)
    for i in range(tries):
        place, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
        changed = bytearray(content)
        if i % 5 == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif i % 5 == 1:
            changed[place : place + length] = bytes(len(changed[place : place + length]))
        elif i % 5 == 2:
            del changed[place : place + length]
        elif i % 5 == 3:
            del changed[place:]
        else:
            changed[place:place] = content[place : place + length]
        if changed != content:
            yield bytes(changed)


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.fixture
def paused(roots):
    """A training of four epochs, paused after the second: its folder, with two checkpoints."""
    for _ in range(2):
        with pytest.raises(TrainingPaused):
            run_fit(roots / "run", epochs=4, time_budget=0)
    return roots / "run"


def test_no_mutated_checkpoint_is_taken_up(paused):
    path, tried = paused / "checkpoint.pt", 0
    for content in mutations(path.read_bytes()):
        path.write_bytes(content)
        assert files.damage(path), "its bytes are not those that were written"
        tried += 1
    assert tried > 50


def test_of_a_damaged_checkpoint_the_one_before_goes_on_to_the_same_bytes(paused, roots):
    path = paused / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1000] + bytes(1000))
    with pytest.warns(UserWarning, match=r"run/checkpoint\.pt: damaged .* epoch 1, .*checkpoint\.before\.pt"):
        model, trained = run_fit(paused, epochs=4)
    straight, other = run_fit(roots / "straight", epochs=4)
    assert same(model.state_dict(), straight.state_dict()) and list(trained.history.epoch) == [1, 2, 3, 4]
    assert trained.history.drop(columns="seconds").equals(other.history.drop(columns="seconds"))
    assert not files.damage(paused / "checkpoint.pt") and not files.damage(paused / "checkpoint.before.pt")


def test_a_damaged_checkpoint_never_becomes_the_one_before(paused):
    """Killed right after it went on from the one before, it must find a good one again."""
    path = paused / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(TrainingPaused):
        run_fit(paused, epochs=4, time_budget=0)
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(TrainingPaused, match="after epoch 2"):
        run_fit(paused, epochs=4, time_budget=0)


def test_without_a_good_one_both_are_named_and_nothing_is_trained(paused):
    for name in ("checkpoint.pt", "checkpoint.before.pt"):
        (paused / name).write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"checkpoint\.pt: not a readable checkpoint .*checkpoint\.before\.pt.* delete"):
        run_fit(paused, epochs=4)


def test_killed_between_two_names_it_goes_on_from_the_one_before(paused, roots):
    (paused / "checkpoint.pt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing is damaged
        model, _ = run_fit(paused, epochs=4)
    assert same(model.state_dict(), run_fit(roots / "straight", epochs=4)[0].state_dict())


def test_two_checkpoints_are_kept_whatever_the_number_of_epochs(roots):
    train(roots / "one")
    assert sorted(p.name for p in (roots / "one").glob("check*")) == ["checkpoint.pt"]
    run_fit(roots / "run", epochs=4)
    kept = [torch.load(roots / "run" / name)["history"] for name in ("checkpoint.pt", "checkpoint.before.pt")]
    assert [len(history) for history in kept] == [4, 3]
    assert len(list((roots / "run").glob("check*"))) == 2


# ---- conditions -----------------------------------------------------------------------------------------------------

CONDITIONS = {"processes": "2", "threads": "64", "code": "0123abc", "torch": "2.0.0", "cpu": "another"}


@pytest.mark.parametrize("what", CONDITIONS)
def test_other_conditions_are_told_and_kept_in_the_record(paused, monkeypatch, what):
    now = environment.conditions()
    monkeypatch.setattr(environment, "conditions", lambda: now | {what: CONDITIONS[what]})
    with pytest.warns(UserWarning, match=rf"goes on under other conditions \({what}: .* → {CONDITIONS[what]}\)"):
        _, trained = run_fit(paused, epochs=4)
    assert trained.changes == [f"epoch 3: {what}: {now[what]} → {CONDITIONS[what]}"]
    assert training_facts(trained)["changes"] == trained.changes
    _, again = run_fit(paused, epochs=4)
    assert again.changes == trained.changes, "a finished run is not resumed under the conditions of its reader"


def test_equal_conditions_leave_no_trace(paused, recwarn):
    _, trained = run_fit(paused, epochs=4)
    assert trained.changes == [] and "changes" not in training_facts(trained)
    assert not [w for w in recwarn if "conditions" in str(w.message)]
    assert {"processes", "threads", "cpu", "gpu", "code", "torch", "python"} <= environment.conditions().keys()


def test_a_checkout_without_git_has_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    environment.git_revision.cache_clear()
    try:
        assert environment.git_revision() == ""
    finally:
        environment.git_revision.cache_clear()


# ---- weights and predictions ----------------------------------------------------------------------------------------


@pytest.fixture
def weights(roots):
    """Weights and card of a trained CustomCNN on the small phantom: the path of the weights."""
    run, (net, trained) = Run(dataset="phantom", image_size=64), run_fit(roots / "fit", epochs=1)
    rows = ImageDataset("phantom", make_split("phantom").test, image_size=64)
    from utils.evaluation.classification import evaluate, prediction_table

    groups = make_split("phantom").test_groups
    table = prediction_table("phantom", rows.rows, groups, catalog.CLASSES, predict(net, Classification(4), rows))
    save_run(
        run, evaluate(table, catalog.CLASSES, 20), table, model=net, recipe=get_recipe("s2", "CustomCNN"), fit=trained
    )
    return run.weights_folder / WEIGHTS


def test_no_mutated_weight_file_is_loaded(weights):
    load_weights(weights)
    for content in mutations(weights.read_bytes()):
        weights.write_bytes(content)
        with pytest.raises(DataError, match=r"model\.safetensors: its SHA-256 is not that of the card"):
            load_weights(weights)


def test_a_card_without_a_checksum_is_refused(weights):
    path = weights.with_name(CARD)
    card = json.loads(path.read_text())
    assert card.pop("weights_sha256") == hashlib.sha256(weights.read_bytes()).hexdigest()
    path.write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"card\.json: .*no weights_sha256"):
        load_weights(weights)


def test_the_committed_weights_are_those_of_their_cards():
    paths = sorted((catalog.REPO / "saved_models").glob(f"*/*/*/{WEIGHTS}"))
    assert paths, "no weights are committed"
    for path in paths:
        wanted = json.loads(path.with_name(CARD).read_text())["weights_sha256"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted, path


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_refused(roots, value):
    rows = make_split("phantom").test[:6]
    net = CustomCNN(image_size=64)
    with torch.no_grad():
        net.classifier[-1].bias[1] = value
    with pytest.raises(DataError, match=r"CustomCNN: its outputs are not finite, first for row \d+ of 'phantom'"):
        predict(net, Classification(4), ImageDataset("phantom", rows, image_size=64))
    unet = SEGMENTERS["ClassicUNet"](in_channels=4, out_channels=3, n_filters=2)
    with torch.no_grad():
        unet.head.bias[0] = value
    masked = ImageDataset("phantom", rows, image_size=32, channels="all", masks=True)
    with pytest.raises(DataError, match="outputs are not finite"):
        list(predict_masks(unet, Segmentation(3), masked))


# ---- epochs that are poisoned ---------------------------------------------------------------------------------------


class Poisoned(CustomCNN):
    """Turns to NaN in its second epoch of four batches: in validation, or in weights that only a later epoch would
    notice."""

    def __init__(self, where: str):
        super().__init__(image_size=64)
        self.where, self.trained, self.validated = where, 0, 0
        self.spare = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out = super().forward(x) + 0 * self.spare
        if self.training:
            self.trained += 1
        elif self.trained >= 8:
            self.validated += 1
            if self.where == "outputs" and self.validated == 1:
                out = out * float("nan")
            if self.where == "statistics" and self.validated == 1:
                next(m for m in self.modules() if isinstance(m, torch.nn.BatchNorm2d)).running_var[0] = float("inf")
            if self.where == "spare weight" and self.validated == 1:
                self.spare.data[0] = float("inf")
                out = out.detach()
        return out


@pytest.mark.parametrize("where", ["outputs", "statistics", "spare weight"])
def test_a_poisoned_epoch_is_never_saved(roots, where):
    torch.manual_seed(0)
    model = Poisoned(where)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    what = r"epoch 2/3: (the validation loss is inf|weights are not finite, .*(running_var|spare) first)"
    with pytest.raises(TrainingDiverged, match=what):
        run_fit(roots / "run", epochs=3, model=model)
    assert len(torch.load(roots / "run/checkpoint.pt")["history"]) == 1
    ends = []
    for folder in ("run", "straight"):
        healed = Poisoned("nowhere")
        healed.load_state_dict(first)
        ends.append(run_fit(roots / folder, epochs=3, model=healed)[0].state_dict())
    assert same(*ends), "a restart begins from the last good epoch"


def test_one_nan_among_the_batches_of_validation_is_not_left_out():
    """torchmetrics' mean drops NaN by default: a poisoned epoch had a finite validation loss."""
    metric = MeanLoss(lambda outputs, targets: (outputs - targets).mean())
    for value in (1.0, float("nan"), 2.0):
        metric.update(torch.full((4,), value), torch.zeros(4))
    assert not torch.isfinite(metric.compute())

"""The linear probe: nothing of the network trains, validation chooses, every split gets its record."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import build_backbone
from utils.evaluation.baselines import fit_probe, frozen_features, probe_probabilities, start_from_probe
from utils.evaluation.predict import predict
from utils.report import probes
from utils.report.records import load_evidence
from utils.training.tasks import Classification


def test_features_are_average_and_maximum_and_the_network_stays_as_it_was(roots):
    torch.manual_seed(0)
    net, data = build_backbone("SqueezeNet", image_size=64), ImageDataset("phantom", np.arange(7), image_size=64)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    features = frozen_features(net, data)
    maps = net.features((data.batch(range(7))["image"].float() / 255 - net.mean) / net.std).detach()
    assert np.allclose(features, torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1), atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not net.map._forward_hooks


@pytest.mark.parametrize("classes", [4, 2])
def test_a_head_that_starts_from_the_probe_answers_as_the_probe_does(parts, classes):
    torch.manual_seed(0)
    net = build_backbone("SqueezeNet", num_classes=classes, image_size=64, head="standardised")
    train, val = parts
    for data in parts:
        data.labels = data.labels.clamp_max(classes - 1)
    accuracy = start_from_probe(net, train, val)
    _, alone, of_each = fit_probe(frozen_features(net, train), train.labels, frozen_features(net, val), val.labels)
    expected = probe_probabilities(alone, frozen_features(net, val), classes)
    probs = predict(net, Classification(classes), val)
    assert np.allclose(probs, expected, atol=1e-4) and accuracy == max(of_each.values())
    assert (probs.argmax(1) == val.labels.numpy()).mean() == accuracy
    before = net.head.mean.clone()  # standardisation does not move when the network trains
    net.train()(torch.rand(4, 3, 64, 64)).sum().backward()
    assert torch.equal(net.head.mean, before) and net.head.out.weight.grad is not None


@pytest.mark.parametrize(
    ("head", "message"),
    [({}, "this head cannot start as a linear probe"), ({"head": "standardised"}, "2 of 4 classes")],
)
def test_a_head_that_cannot_start_from_a_probe_is_said(parts, head, message):
    train, val = parts
    train.labels = train.labels.clamp_max(1)
    with pytest.raises(DataError, match=message):
        start_from_probe(build_backbone("SqueezeNet", image_size=64, **head), train, val)


def test_validation_chooses_and_a_class_that_training_lacks_has_no_chance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400) * 2
    features = rng.normal(size=(400, 30)) + (labels[:, None] == 2) * 0.6
    probe, alone, accuracy = fit_probe(features[:300], labels[:300], features[300:], labels[300:], (1e-6, 1e-2, 1e2))
    best = max(accuracy, key=accuracy.get)
    assert list(accuracy) == [1e-6, 1e-2, 1e2] and best == probe[-1].C and accuracy[best] > 0.85
    probs = probe_probabilities(probe, features, 4)
    assert probs.shape == (400, 4) and (probs[:, [1, 3]] == 0).all() and np.allclose(probs.sum(1), 1)
    assert alone.score(features[300:], labels[300:]) == accuracy[best], "it has not seen validation images"
    assert not np.allclose(alone[-1].coef_, probe[-1].coef_)
    easy = np.where(labels[:, None] == 2, 5.0, -5.0) + rng.normal(size=(400, 3))
    strongest = fit_probe(easy[:300], labels[:300], easy[300:], labels[300:], (1e-2, 1.0))[0]
    assert strongest[-1].C == 1e-2, "of equally good values the strongest regularisation"


@pytest.fixture
def words(tmp_path):
    torch.manual_seed(0)
    save_file(squeezenet1_1().state_dict(), tmp_path / "w.safetensors")
    return ["phantom", "--backbone", "SqueezeNet", "--weights", str(tmp_path / "w.safetensors"), "--image-size", "64"]


def test_one_command_probes_every_split_with_every_question_and_keeps_what_is_there(roots, words, monkeypatch, capsys):
    assert probes.splits_of("phantom") == [{"split": "published"}, *({"split": "patient", "fold": f} for f in range(5))]
    monkeypatch.setattr(probes, "splits_of", lambda name: [{"split": "published"}, {"split": "patient", "fold": 3}])
    assert probes.main([*words, "--target", "label", "tumour"]) == 0
    records = [json.loads(path.read_text()) for path in roots.glob("saved_metrics/*/*/*/metrics.json")]
    made = {(r["run"]["split"], r["run"]["fold"], r["run"]["target"]) for r in records}
    assert made == {(*split, target) for split in (("published", 0), ("patient", 3)) for target in ("label", "tumour")}
    assert capsys.readouterr().out.count("phantom: features of") == 1, "one pass for all"
    for record in records:
        run, kept = record["run"], load_evidence(roots / "saved_metrics").validation(record["id"])
        assert run["recipe"] == "probe" and record["training"] is None and "tumour_or_none" in record
        assert record["images"] == len(make_split("phantom", run["split"], run["fold"]).test)
        assert (len(record["per_class"]) == 2) == ("-tumour." in record["id"]) == (run["target"] == "tumour")
        assert len(kept) == record["parts"]["val"]
        assert (kept.label == kept.predicted).mean() == pytest.approx(record["probe"]["val_accuracy"])
    assert probes.main(words) == 0 and "nothing to do" in capsys.readouterr().out


def test_what_is_missing_is_one_line(roots, capsys):
    assert probes.main(["phantom", "--backbone", "SqueezeNet", "--weights", "nowhere.safetensors"]) == 1
    assert probes.main(["sartaj", "--backbone", "SqueezeNet", "--weights", "nowhere.safetensors"]) == 1
    error = capsys.readouterr().err
    assert "nowhere.safetensors: no such weight file" in error and "python datasets/download.py sartaj" in error

"""Temperature, threshold and familiarity: what validation chooses, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from saved_model import save_model
from small_training import run_fit

from datasets.catalog import HEALTHY, REPO, DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import predict
from utils.evaluation.thresholds import calibrated, calibration_error, fit_temperature
from utils.predict import calibrate as command
from utils.predict import evidence, out_of_distribution
from utils.predict.model import SavedModel
from utils.predict.out_of_distribution import FAMILIARITY, Familiarity
from utils.recipes import get_recipe
from utils.report.records import VALIDATION, save_run, write_predictions
from utils.report.weights import CARD, WEIGHTS
from utils.run import Run
from utils.training.data import load_data
from utils.training.tasks import Classification

SHARE = 0.25  # of the small phantom, so that some validation images show no tumour


def test_temperature_is_found_again_and_takes_the_error_away():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(4000, 4)) * 2)
    truth = np.array([rng.choice(4, p=p) for p in logits.softmax(1).numpy()])
    overconfident = (3 * logits).softmax(1).numpy()
    temperature = fit_temperature(overconfident, truth)
    assert temperature == pytest.approx(3, rel=0.1)
    again = calibrated(overconfident, temperature)
    assert again == pytest.approx((3 * logits / temperature).softmax(1).numpy(), abs=5e-4)
    assert calibration_error(again, truth) < 0.03 < 0.1 < calibration_error(overconfident, truth)
    assert (again.argmax(1) == overconfident.argmax(1)).all()


def test_familiarity_knows_its_own_and_comes_back_from_its_file(tmp_path):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 80))
    train, val, same = (rng.normal(size=(n, 6)) @ mixing + rng.normal(size=(n, 80)) * 0.1 for n in (600, 400, 400))
    found = Familiarity.fit(train, val)
    assert found.unlike(val).mean() == pytest.approx(0.05, abs=0.003)
    assert found.unlike(same).mean() < 0.1
    outside = same + rng.normal(size=80) * 0.5  # a direction that no training image has
    far = rng.normal(size=(400, 6)) * 20 @ mixing
    assert found.unlike(outside).mean() > 0.95 and found.unlike(far).mean() > 0.9
    entry = found.save(tmp_path / FAMILIARITY)
    again = Familiarity.load(tmp_path / FAMILIARITY, entry)
    assert again.distance(same) == pytest.approx(found.distance(same), rel=1e-5)
    (tmp_path / FAMILIARITY).write_bytes(b"x" + (tmp_path / FAMILIARITY).read_bytes())
    with pytest.raises(DataError, match=r"familiarity\.safetensors: its SHA-256 is not that of the card"):
        Familiarity.load(tmp_path / FAMILIARITY, entry)


@pytest.mark.parametrize("name", ["CustomCNN", "MultiTaskUNet", "AttentionUNet"])
def test_features_do_not_depend_on_the_batch(name, roots):
    model = SavedModel(save_model("phantom", name))
    channels = len(model.preparation.channels)
    pixels = torch.randint(0, 256, (5, channels, 64, 64), dtype=torch.uint8)
    together = model.predict(pixels).features
    one = np.concatenate([model.predict(pixels[i : i + 1]).features for i in range(5)])
    assert together == pytest.approx(one, abs=1e-5)
    assert not [m for m in model.network.modules() if m._forward_hooks], "nothing listens after the block"


@pytest.fixture
def trained(roots):
    """A short training on the phantom with its evidence and weights; the model."""
    run = Run(dataset="phantom", split="patient", image_size=64)
    network, fitted = run_fit(run.folder, epochs=2)
    recipe = get_recipe("s2", "CustomCNN", epochs=2, batch_size=8, val_fraction=SHARE)
    data = load_data(run, recipe.val_fraction)
    probs = predict(network, Classification(4, 3), data.test)
    table = prediction_table("phantom", data.split.test, data.split.test_groups, data.facts.classes, probs)
    # the training saw the first 32 rows of each part only, so the validation metric is taken again, on all of them
    found = predict(network, Classification(4, 3), data.val)
    right = float((found.argmax(1) == data.val.labels.numpy()).mean())
    fitted.history["val_accuracy"] = right
    save_run(run, evaluate(table, data.facts.classes, 20), table, model=network, recipe=recipe, fit=fitted)
    return SavedModel(run.weights_folder)


def test_a_model_is_calibrated_on_its_validation_images(trained, capsys):
    assert command.main([trained.name]) == 0
    record = json.loads(capsys.readouterr().out)
    model = SavedModel(trained.folder)
    assert model.card["sha256"] == trained.card["sha256"], "the weights stay as they are"
    assert model.temperature == record["calibration"]["temperature"] and model.familiarity is not None
    split = make_split("phantom", "patient", val_fraction=SHARE)
    assert record["validation_images"] == len(split.val)
    val = ImageDataset("phantom", split.val, image_size=64)
    found = model.predict(val.batch(range(len(val)))["image"])
    assert model.familiarity.unlike(found.features).mean() <= 0.05
    after = model.calibrated(found.probabilities)
    healthy = val.labels.numpy() == model.healthy
    called = 1 - after[:, model.healthy] >= model.threshold
    assert (~called[healthy]).mean() >= 0.95, "the specificity that the threshold was chosen for"
    assert set(record["familiarity"]["strangers"]) == set(out_of_distribution.GENERATED)
    assert record["command"] == f"python -m utils.predict.calibrate {trained.name}"
    entry = record["familiarity"]["strangers"]["white noise"]
    assert entry["low"] <= entry["value"] <= entry["high"] and entry["images"] == out_of_distribution.NOISE


def test_what_calibration_gives_on_the_test_set_is_asked_of_the_network_and_counted_by_groups(trained, roots, capsys):
    def calibration() -> dict:
        assert command.main([trained.name]) == 0
        return json.loads(capsys.readouterr().out)["calibration"]

    found, path = calibration(), roots / "saved_metrics/classification/phantom" / trained.name / "predictions.csv.gz"
    table, kept = pd.read_csv(path, dtype={"group": str}), path.read_bytes()
    model = SavedModel(trained.folder)
    place = {name: row for row, name in enumerate(read_manifest("phantom").path)}
    test = ImageDataset("phantom", table.path.map(place).to_numpy(), image_size=64)
    after = model.calibrated(model.predict(test.batch(range(len(test)))["image"]).probabilities)
    fine = table.label.eq(HEALTHY).to_numpy()
    passed = 1 - after[fine, model.healthy] < model.threshold
    by_group = mean_interval(passed, table.group[fine])
    assert found["at_threshold_on_test"]["specificity"] == by_group | {"images": int(fine.sum())}
    probabilities = [name for name in table if name.startswith("p_")]
    table.assign(**dict.fromkeys(probabilities, 0.25)).to_csv(path, index=False)
    assert calibration() == found, "the rounded table decides nothing"
    path.write_bytes(kept)


def test_other_images_than_those_of_its_validation_are_refused(trained, roots, tmp_path, capsys):
    history = roots / "saved_metrics/classification/phantom" / trained.name / "history.csv"
    text = history.read_text()
    value = text.splitlines()[-1].split(",")[text.splitlines()[0].split(",").index("val_accuracy")]
    history.write_text(text.replace(value, "0.123"))
    assert command.main([trained.name]) == 1
    assert "are not those that it was validated on" in capsys.readouterr().err
    history.write_text(text)
    split, manifest = make_split("phantom", "patient", val_fraction=SHARE), read_manifest("phantom")
    rows = [f"{manifest.path[r]},{name}" for name in ("train", "val") for r in getattr(split, name)]
    parts = tmp_path / "parts.csv"
    parts.write_text("\n".join(["path,set", *rows]))
    assert command.main([trained.name, "--parts", str(parts)]) == 0
    parts.write_text("path,set\nelsewhere,val\n")
    capsys.readouterr()
    assert command.main([trained.name, "--parts", str(parts)]) == 1
    assert "1 images are not in 'phantom', first elsewhere" in capsys.readouterr().err
    for text, fault in {
        "image,part\na,val\n": "its column 'path' is missing",
        f"path,set\n{manifest.path[0]},train\n": "names no image of the set 'val'",
    }.items():
        parts.write_text(text)
        assert command.main([trained.name, "--parts", str(parts)]) == 1
        assert fault in capsys.readouterr().err
    for pattern, fault in {"nowhere/*.png": "no file is named so", "/nowhere/*.png": "relative to the data"}.items():
        assert command.main([trained.name, "--strangers", f"X={pattern}"]) == 1
        assert fault in capsys.readouterr().err


def test_kept_predictions_of_validation_images_say_whether_images_and_weights_are_the_run_s(trained, roots, capsys):
    folder = roots / "saved_metrics/classification/phantom" / trained.name
    split, manifest = make_split("phantom", "patient", val_fraction=SHARE), read_manifest("phantom")
    val = ImageDataset("phantom", split.val, image_size=64)
    found = trained.predict(val.batch(range(len(val)))["image"]).probabilities
    groups = split.groups[split.val]
    kept = prediction_table("phantom", split.val, groups, val.classes, found)
    write_predictions(folder / VALIDATION, kept)
    (folder / "history.csv").write_text((folder / "history.csv").read_text().replace("val_accuracy", "val_other"))
    assert command.main([trained.name]) == 0, "these say more than the accuracy"
    others = [c for c in val.classes if c != kept.predicted[0]]
    write_predictions(folder / VALIDATION, kept.assign(predicted=others[0]))
    capsys.readouterr()
    assert command.main([trained.name]) == 1 and "of its answers are others than in" in capsys.readouterr().err
    write_predictions(folder / VALIDATION, kept.assign(path=[manifest.path[r] for r in split.train[: len(kept)]]))
    assert command.main([trained.name]) == 1 and "not those that it was validated on" in capsys.readouterr().err


def test_a_model_of_earlier_folds_needs_its_own_images(trained, monkeypatch, capsys):
    monkeypatch.setattr("utils.predict.saved_models.folds_digest", lambda name: "other")
    assert command.main([trained.name]) == 1
    assert "trained on earlier folds; name its own images with --parts" in capsys.readouterr().err


def test_a_run_that_was_tested_on_another_set_is_refused(trained, roots, capsys):
    """Its test images are others', and may not even have the model's classes."""
    run = Run(dataset="phantom", split="external", test_on="sartaj", image_size=64)
    folder = roots / "saved_metrics/classification/phantom"
    record = json.loads((folder / trained.name / "metrics.json").read_text())
    record |= {"id": run.id, "run": record["run"] | {"split": "external", "test_on": "sartaj"}}
    (folder / run.id).mkdir()
    (folder / run.id / "metrics.json").write_text(json.dumps(record))
    (trained.folder / CARD).write_text(json.dumps(trained.card | {"trained_on": record["run"]}))
    assert command.main([trained.name]) == 1
    assert f"error: {trained.name}: tested on 'sartaj';" in capsys.readouterr().err


def test_several_models_are_calibrated_one_after_the_other(trained, capsys):
    assert command.main([f"{trained.name},{trained.name}"]) == 1
    assert capsys.readouterr().err.endswith(": 2 models; calibrate one after the other\n")


def test_the_committed_calibrations_are_those_of_their_cards():
    """Figures of saved_metrics/calibration/ and cards agree, and the command that made them is named."""
    paths = sorted((REPO / "saved_metrics/calibration").glob("*.json"))
    assert paths
    for path in paths:
        record = json.loads(path.read_text())
        (card_path,) = (REPO / "saved_models").glob(f"*/*/{path.stem}/{CARD}")
        card = json.loads(card_path.read_text())
        assert record["command"].startswith(f"python -m utils.predict.calibrate {path.stem}")
        assert (card_path.parent / WEIGHTS).is_file() and SavedModel(card_path.parent).familiarity is not None
        assert card["familiarity"]["false_alarms"] == record["familiarity"]["false_alarms"]
        if "calibration" in record:
            assert card["calibration"]["temperature"] == record["calibration"]["temperature"]
            ece = record["calibration"]["ece"]["validation"]
            assert ece["after"] <= ece["before"] + 0.01


def test_chapter_9_shows_something_before_anything_was_measured():
    """Where `$BRAIN_MRI_OUTPUT` holds no record, its figure says so."""
    assert evidence.summary([]) == ""
    assert [text.get_text() for text in evidence.detections([]).texts] == ["not measured yet"]


def test_the_sentence_counts_the_models_that_flag_a_kind_of_image():
    def record(name: str, **shares: float) -> dict:
        entries = {kind: {"value": value, "low": value, "high": value} for kind, value in shares.items()}
        return {"model": name, "familiarity": {"test": entries.pop("test"), "strangers": entries}}

    found = [
        record("d.s.m.r.1", test=0.04, noise=1.0, other=0.2),
        record("d.s.m.r.2", test=0.08, noise=0.95, other=0.96),
    ]
    text = evidence.summary(found)
    assert (
        "How many of 2 models" in text
        and "noise: 2; other: 1." in text
        and "the median of these models flags 6 %" in text
        and text.endswith("and the worst 8 %.")
    )
    (axis,) = evidence.detections(found).axes
    assert [text.get_text() for text in axis.texts] == ["4", "100", "20", "8", "95", "96"]
    fewer = [*found, record("d.s.m.r.3", test=0.05, noise=0.99), record("d.s.m.r.4", test=0.02)]
    assert "How many of 3 models" in (text := evidence.summary(fewer)), "the fourth was measured on none"
    assert "noise: 3; other: 1 of 2 measured" in text and "the median of these models flags 5 %" in text
    assert text.endswith("`d.s.m.r.4`, measured on its own test set alone, flags 2 % of it.")


def test_the_sentence_on_calibration_counts_test_sets_on_which_it_helped():
    def record(before: float, after: float) -> dict:
        return {"calibration": {"ece": {"test": {"before": before, "after": after}}}}

    found = [record(0.1, 0.05), record(0.02, 0.03), record(0.02, 0.02), {"model": "a U-Net"}]
    assert "with the temperature than without it for 1 of 3 classifiers" in evidence.calibration_summary(found)
    assert evidence.calibration_summary([{"model": "a U-Net"}]) == ""

"""Temperature, threshold and familiarity: what validation chooses, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from own_images import head
from PIL import Image
from saved_model import save_model
from small_training import run_fit

from datasets import catalog
from datasets.catalog import HEALTHY, REPO, DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.evaluation import thresholds
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import predict
from utils.evaluation.thresholds import calibrated, calibration_error, fit_temperature
from utils.predict import calibrate, calibration, out_of_distribution, survey
from utils.predict.model import SavedModel
from utils.predict.out_of_distribution import FAMILIARITY, Familiarity
from utils.recipes import get_recipe
from utils.report.records import (
    METRICS,
    PREDICTIONS,
    VALIDATION,
    load_evidence,
    read_predictions,
    read_whole,
    save_run,
    write_predictions,
    write_record,
)
from utils.report.tables.audits import verdicts
from utils.report.weights import CARD, WEIGHTS
from utils.run import Run
from utils.saved_models import about, best, percent, read_card
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
    path = tmp_path / FAMILIARITY
    entry = found.save(path)
    assert Familiarity.load(path, entry).distance(same) == pytest.approx(found.distance(same), rel=1e-5)
    path.write_bytes(b"x" + path.read_bytes())
    with pytest.raises(DataError, match=r"familiarity\.safetensors: .* its SHA-256 is not that of the card"):
        Familiarity.load(path, entry)


def test_images_of_other_kinds_are_those_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path))
    monkeypatch.setattr(out_of_distribution, "FILES", {"heads": "heads/*", "nothing": "nowhere/*"})
    (tmp_path / "heads").mkdir()
    Image.fromarray(head(1)).save(tmp_path / "heads/1.png")
    (tmp_path / "heads/2.png").write_text("no image")
    found = out_of_distribution.strangers()
    assert [*found] == [*out_of_distribution.GENERATED, "heads"] and len(found["heads"]) == 1


@pytest.mark.parametrize("name", ["CustomCNN", "MultiTaskUNet", "AttentionUNet"])
def test_features_do_not_depend_on_the_batch(name, roots):
    model = SavedModel(save_model("phantom", name))
    channels = len(model.preparation.channels)
    pixels = torch.randint(0, 256, (5, channels, 64, 64), dtype=torch.uint8)
    one = np.concatenate([model.predict(pixels[i : i + 1]).features for i in range(5)])
    assert model.predict(pixels).features == pytest.approx(one, abs=1e-5)
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
    fitted.history["val_accuracy"] = float((found.argmax(1) == data.val.labels.numpy()).mean())
    save_run(run, evaluate(table, data.facts.classes, 20), table, model=network, recipe=recipe, fit=fitted)
    return SavedModel(run.weights_folder)


def evidence(roots, model: SavedModel):
    return roots / "saved_metrics/classification/phantom" / model.name


def refused(capsys, *args: str) -> str:
    """What a calibration says that must fail, in one line."""
    capsys.readouterr()
    assert calibrate.main([*args]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_model_is_calibrated_on_its_validation_images(trained, roots, monkeypatch, capsys):
    monkeypatch.setattr(thresholds, "FEWEST_HEALTHY", 1)  # the phantom shows fewer in validation
    assert calibrate.main([trained.name]) == 0
    record, model = json.loads(capsys.readouterr().out), SavedModel(trained.folder)
    assert model.card["sha256"] == trained.card["sha256"], "the weights stay as they are"
    assert model.temperature == record["calibration"]["temperature"]
    split = make_split("phantom", "patient", val_fraction=SHARE)
    assert record["validation_images"] == len(split.val)
    val = ImageDataset("phantom", split.val, image_size=64)
    found = model.predict(val.batch(range(len(val)))["image"])
    assert model.familiarity.unlike(found.features).mean() <= 0.05
    passed = 1 - model.calibrated(found.probabilities)[:, model.healthy] < model.threshold
    measured = passed[val.labels.numpy() == model.healthy].mean()
    assert record["calibration"]["specificity_on_validation"] == pytest.approx(measured, abs=1e-6) and measured >= 0.95
    assert set(record["familiarity"]["strangers"]) == set(out_of_distribution.GENERATED)
    assert record["command"] == f"python -m utils.predict.calibrate {trained.name}"
    entry = record["familiarity"]["strangers"]["white noise"]
    assert entry["low"] <= entry["value"] <= entry["high"] and entry["images"] == out_of_distribution.NOISE
    # what it gives on the test set is asked of the network, counted by groups
    table = read_predictions(evidence(roots, trained) / PREDICTIONS)
    test = ImageDataset("phantom", pd.Index(read_manifest("phantom").path).get_indexer(table.path), image_size=64)
    after = model.calibrated(model.predict(test.batch(range(len(test)))["image"]).probabilities)
    fine = table.label.eq(HEALTHY).to_numpy()
    by_group = mean_interval(1 - after[fine, model.healthy] < model.threshold, table.group[fine])
    specificity = record["calibration"]["at_threshold_on_test"]["specificity"]
    assert specificity == by_group | {"images": int(fine.sum())}
    monkeypatch.setattr(thresholds, "FEWEST_HEALTHY", 20)
    assert calibrate.main([trained.name]) == 0
    unknown = json.loads(capsys.readouterr().out)["calibration"]
    assert unknown["threshold"] is None and unknown["healthy_groups_on_validation"] < thresholds.FEWEST_HEALTHY
    assert "at_threshold_on_test" not in unknown and SavedModel(trained.folder).threshold is None
    assert calibration.calibration_table().threshold[trained.name] == "–"


def test_a_committed_model_is_calibrated_in_the_output(trained, roots, monkeypatch, capsys):
    monkeypatch.setattr(catalog, "REPO", roots)
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(roots / "elsewhere"))
    before = (trained.folder / CARD).read_bytes()
    assert calibrate.main([trained.name]) == 0
    assert (trained.folder / CARD).read_bytes() == before and not (trained.folder / FAMILIARITY).exists()
    copy = roots / "elsewhere" / trained.folder.relative_to(roots)
    assert SavedModel(copy).familiarity is not None
    assert [record["model"] for record in calibration.records()] == [trained.name]


def test_what_does_not_fit_a_model_is_refused_in_one_line(trained, roots, monkeypatch, capsys):
    folder, other = evidence(roots, trained), "are not those that it was validated on, or its weights are others"
    record = json.loads((folder / METRICS).read_text())
    write_record(folder / METRICS, record | {"training": record["training"] | {"val_accuracy": 0.123}})
    assert other in refused(capsys, trained.name)
    # kept predictions say more than the accuracy
    split, paths = make_split("phantom", "patient", val_fraction=SHARE), read_manifest("phantom").path
    val = ImageDataset("phantom", split.val, image_size=64)
    found = trained.predict(val.batch(range(len(val)))["image"]).probabilities
    kept = prediction_table("phantom", split.val, split.groups[split.val], val.classes, found)
    write_predictions(folder / VALIDATION, kept)
    write_record(folder / METRICS, record)
    assert calibrate.main([trained.name]) == 0
    wrong = kept.label.map(lambda name: "glioma" if name != "glioma" else "pituitary")
    for changes in ({"predicted": wrong}, {"path": paths.iloc[split.train[: len(kept)]].to_numpy()}):
        write_predictions(folder / VALIDATION, kept.assign(**changes))
        write_record(folder / METRICS, record)
        assert other in refused(capsys, trained.name)
    # a run that was tested on another set, whose images do not have the model's classes
    other = SimpleNamespace(classes=["glioma", "notumor"], test_classes=["tumour", "notumor"])
    monkeypatch.setattr(calibration, "load_data", lambda *_: other)
    assert f"error: {trained.name}: tested on other classes" in refused(capsys, trained.name)


def test_a_survey_counts_the_verdicts_on_every_kind_of_image(classifier, roots, monkeypatch, capsys):
    monkeypatch.setattr(survey, "NEW", ())
    monkeypatch.setitem(out_of_distribution.FILES, out_of_distribution.X_RAYS, "phantom/*.csv")  # which is no image
    monkeypatch.setattr(out_of_distribution, "NOISE", 20)
    assert calibrate.main([classifier.name, "--survey"]) == 0
    record = json.loads(Path(capsys.readouterr().out.strip()).read_text())
    assert record["asked"].pop("X-rays of chests")["flagged or refused"]["value"] == 1
    manifest = read_manifest("phantom").query("published_split == 'test'")
    counts = {kind: asked["images"] for kind, asked in record["asked"].items()}
    healthy = int(manifest.label.eq(HEALTHY).sum())
    noise = {"photographs, made grey": 40, "white noise": 20, "cloudy noise": 20}
    assert counts == {"phantom, tumours": len(manifest) - healthy, "phantom, healthy": healthy} | noise
    for asked in record["asked"].values():  # an untrained model without a threshold
        assert asked["undecided"]["value"] == 1 and asked["flagged or refused"]["value"] == 0
    table = verdicts(load_evidence(roots / "saved_metrics")).set_index("asked about")
    assert table["undecided %"]["white noise"] == "100.0 (83.9–100.0)"


def test_the_committed_survey_is_of_the_weights_and_the_threshold_that_are_asked_by_default():
    card, record = read_card(best() / CARD), read_whole(REPO / f"saved_metrics/survey/{best().name}.json")
    rerun = "python -m utils.predict.calibrate best --survey"
    assert (record["sha256"], record["threshold"]) == (card["sha256"], card["calibration"]["threshold"]), rerun
    shares = [one["value"] for kind in record["asked"].values() for name, one in kind.items() if name != "images"]
    assert len(shares) == 4 * 8 and all(0 <= value <= 1 for value in shares)
    assert card["survey"] == {kind: record["asked"][kind] for kind in card["survey"]}, rerun
    assert [*card["survey"]] == ["new tumours of navoneel", "new healthy of navoneel"], "of 20 images at least"
    run, runs = card["trained_on"], pd.read_csv(REPO / "saved_metrics/runs.csv")
    same = runs[(runs.split == "source") & (runs.recipe == run["recipe"]) & (runs.model == run["model"])]
    assert sorted(one["value"] for one in card["left_out"].values()) == sorted(same.tumour_auc) and len(same) == 3
    assert all(f"{percent(one)} ('{name}')" in "".join(about(card)) for name, one in card["left_out"].items())
    assert f"'none found' to {percent(card['survey']['new tumours of navoneel']['none found'])}" in "".join(about(card))


def test_what_the_default_finds_at_its_threshold_is_counted_again_from_its_predictions():
    """It was tested on another data set, so the rows of its test set are of that one."""
    card, run = read_card(best() / CARD), best().name
    table = read_predictions(REPO / "saved_metrics/transfer" / card["trained_on"]["dataset"] / run / PREDICTIONS)
    after = calibrated(table[["p_notumor", "p_tumour"]].to_numpy(), card["calibration"]["temperature"])[:, 1]
    called, sick = after >= card["calibration"]["threshold"], table.label.eq("tumour").to_numpy()
    found = card["calibration"]["at_threshold_on_test"]
    for name, right in (("sensitivity", called[sick]), ("specificity", ~called[~sick])):
        assert found[name]["images"] == len(right) and found[name]["value"] == pytest.approx(right.mean(), abs=0.007)


def test_the_committed_calibrations_are_those_of_their_cards_and_of_the_tables():
    """Figures of saved_metrics/calibration/ and cards agree, and the command that made them is named."""
    paths = sorted((REPO / "saved_metrics/calibration").glob("*.json"))
    table, shares = calibration.calibration_table(), calibration.shares()
    assert list(shares.index) == [path.stem for path in paths] and len(calibration.detections().axes) == 1
    for path in paths:
        record = json.loads(path.read_text())
        (card_path,) = (REPO / "saved_models").glob(f"*/*/{path.stem}/{CARD}")
        card = json.loads(card_path.read_text())
        assert record["command"].startswith(f"python -m utils.predict.calibrate {path.stem}")
        assert (card_path.parent / WEIGHTS).is_file() and SavedModel(card_path.parent).familiarity is not None
        assert card["familiarity"]["false_alarms"] == record["familiarity"]["false_alarms"]
        assert shares.loc[path.stem, calibration.TEST] == 100 * record["familiarity"]["test"]["value"]
        assert shares.loc[path.stem].count() == 1 + len(record["familiarity"]["strangers"])
        if "calibration" in record:
            temperature, ece = record["calibration"]["temperature"], record["calibration"]["ece"]
            assert card["calibration"]["temperature"] == temperature and table["T"][path.stem] == f"{temperature:.2f}"
            assert table["ECE after %"][path.stem] == f"{100 * ece['test']['after']:.1f}"
            assert ece["validation"]["after"] <= ece["validation"]["before"] + 0.01

"""`python -m utils.audit`: what is worth nothing is exposed, and the report says why."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
from saved_model import save_model

from datasets.splitting import make_split
from datasets.store.preprocess import put_back
from models import build_backbone
from utils.audit import baselines, sections
from utils.audit.__main__ import main
from utils.audit.images import UNRELATED, Images, covered, relatives, trained_by, trained_on
from utils.report import load_evidence

NEW, COVERED = "phantom, other patients", "tumour covered"


def report(here, name, *args) -> tuple[dict, list[str]]:
    """The record of an audit of the phantom, which must succeed, and the five answers of its verdict."""
    assert main([*args, "--data-set", "phantom"]) == 0
    record = json.loads((here / "output/runs/audit" / name / "report.json").read_text())
    return record, [line["answer"] for line in record["verdict"]]


def test_a_cheat_that_knows_the_test_set_by_heart_is_exposed(here):
    record, answers = report(here, "cheats.by_digest", "cheats:by_digest")
    assert record["home"]["metrics"]["accuracy"]["value"] == 1
    assert record["new"][NEW]["sensitivity"]["value"] == 0 and record["new"][NEW]["specificity"]["value"] == 1
    assert record["shortcuts"]["mirrored"]["after"]["value"] < 0.4
    assert answers[2:] == ["no", "no", "cannot be told"], record["verdict"]


def test_a_detector_of_the_source_is_exposed(here, tmp_path, monkeypatch):
    """Images with a tumour have a bright border here: they are of another source."""
    shutil.copytree(here / "data", tmp_path / "data")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    with h5py.File(tmp_path / "data/phantom/images.h5", "r+") as store:
        for row in np.flatnonzero(Images("phantom").manifest.label != "notumor"):
            inside = store["image"][row][2:-2, 2:-2]
            store["image"][row] = np.pad(inside, ((2, 2), (2, 2), (0, 0)), constant_values=200)
    record, answers = report(here, "cheats.by_border", "cheats:by_border")
    assert record["home"]["metrics"]["tumour_sensitivity"]["value"] == 1
    assert record["new"][NEW]["sensitivity"]["value"] == 0
    stay = {name: one["stay"]["value"] for name, one in record["shortcuts"].items()}
    assert stay[COVERED] == stay["mirrored"] == 1 and stay["border cut off"] < 0.5, "it does not need the tumour"
    assert answers[2:4] == ["no", "no"], record["verdict"]


def test_a_network_of_ours_is_audited_and_the_report_is_whole(here, capsys):
    name = save_model("phantom").parent.name
    record, answers = report(here, name, name, "--quick")
    text, page = ((here / "output/runs/audit" / name / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert text in capsys.readouterr().out and "Not a medical device" in text
    assert page.count("data:image/png;base64") == 4 and "<table>" in page and 'src="http' not in page
    assert len(answers) == 5 and len(record["confidence"]["errors"]) <= 20 and record["quick"]
    assert record["trained_on"] == "patient fold 0" and "itself in training" not in record["relatives"]
    assert {"calibration_error", "brier", "confidence"} <= record["home"]["metrics"].keys()
    assert set(record["shortcuts"]) >= {"mirrored", "transposed", COVERED, "all but the tumour covered"}


def test_a_table_has_no_shortcuts_and_what_it_lacks_is_skipped(here, tmp_path):
    test = Images("phantom").manifest.query("published_split == 'test'").rename(columns={"label": "class"})
    test[["path", "class"]].to_csv(tmp_path / "mine.csv", index=False)
    record, answers = report(here, "mine", "--predictions", str(tmp_path / "mine.csv"), "--trained-on", "all")
    assert record["shortcuts"] == {} and record["new"] == {} and len(record["skipped"]) > 50
    assert [*record["relatives"]] == ["itself in training"], "as --trained-on says"
    assert answers[1:] == ["cannot be told"] * 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("absent.onnx --data-set brats2020", "absent.onnx: no such file"),  # before a set is asked for
        ("x.onnx --data-set phantom", "x.onnx: not a readable ONNX model"),
        ("x.onnx --data-set phantom --trained-on x.csv", "x.csv: not readable as a table"),
        ("x.onnx --data-set phantom --trained-on empty.csv", "names no image of 'phantom'"),
        ("x:y --data-set phantom --python no-python", "no-python: cannot be started"),
        ("nothing --data-set phantom", "unknown model 'nothing'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(args, message, here, capsys):
    (here / "empty.csv").write_text("file\nunknown.png\n")
    (here / "x.onnx").touch()
    assert main(args.split()) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and len(error.splitlines()) == 1


def test_what_a_model_was_trained_on_decides_who_is_a_relative(here, tmp_path):
    images = Images("phantom")
    published, test = trained_on(images, "published"), np.flatnonzero(images.manifest.published_split == "test")
    careless = np.isin(images.groups[test], images.groups[published])
    assert (relatives(images, test, published) != UNRELATED).tolist() == careless.tolist() and 0 < careless.mean() < 1
    images.manifest.iloc[test[:3]][["sha256"]].to_csv(tmp_path / "seen.csv", index=False)
    seen = trained_on(images, str(tmp_path / "seen.csv"))
    assert seen.sum() < 9 and set(relatives(images, test[:3], seen)) == {"itself in training"}


def test_relatives_of_validation_images_alone_are_none_of_training(here, monkeypatch):
    images, card = Images("phantom"), {"trained_on": {"dataset": "phantom", "split": "published", "model": "CustomCNN"}}
    published = trained_on(images, "published")
    trained, seen = trained_by(images, card)
    assert (trained == seen).all() and (seen == published).all(), "its record keeps no validation images"
    kept = images.manifest.iloc[make_split("phantom", "published").val]
    kept_record = SimpleNamespace(runs=pd.DataFrame(index=[run := "phantom.published.CustomCNN.s2.seed0"]))
    kept_record.validation = {run: kept}.get
    monkeypatch.setattr("utils.audit.images.load_evidence", lambda: kept_record)
    trained, seen = trained_by(images, card)
    assert (seen == published).all() and np.flatnonzero(seen & ~trained).tolist() == kept.index.tolist()
    test = np.flatnonzero(~seen)
    apart = np.isin(images.groups[test], images.groups[kept.index])
    assert apart.any() and (relatives(images, test, trained)[apart] == UNRELATED).all()


def test_a_covered_tumour_is_gone_and_the_rest_is_as_before():
    image = np.full((100, 100), 50, np.uint8)
    image[40:60, 40:60] = 250
    alone = covered(image, mask := image > 200, inside=False)
    assert (covered(image, mask) == 50).all() and (alone[mask] == 250).all() and (alone[~mask] == 50).all()
    assert put_back(np.ones((8, 8), np.uint8), (10, 30, 20, 70), image.shape).sum() == 20 * 50


def test_the_simple_methods_know_the_images_that_they_were_trained_on(here, known, tmp_path, monkeypatch):
    for name, value in (("DATA", "phantom"), ("BACKBONE", "SqueezeNet"), ("SIDE", 64)):
        monkeypatch.setattr(baselines, name, value)
    untrained = partial(build_backbone, "SqueezeNet", image_size=64)
    monkeypatch.setattr(baselines, "build_backbone", lambda name, **how: untrained())
    for cached in (baselines._training, baselines._thumbnails, baselines._probed):
        cached.cache_clear()
    paths = [tmp_path / f"{k}.png" for k in range(len(known.shown))]
    for path, one in zip(paths, known.shown, strict=True):
        path.write_bytes(one.content)
    truth = [known.classes[k] for k in known.truth]
    probed = [max(found, key=found.get) for found in map(baselines.probe, paths)]
    assert np.mean([a == b for a, b in zip(probed, truth, strict=True)]) > 0.45, "on features of random weights"
    assert np.mean([baselines.nearest(path) == one for path, one in zip(paths, truth, strict=True)]) > 0.9
    assert len({baselines.majority(path) for path in paths}) == 1


def test_a_verdict_follows_from_its_numbers_and_says_yes_only_where_a_large_fall_is_excluded():
    for name, record in load_evidence().audits.items():
        assert record["verdict"] == sections.verdict(record), name
    home = {"value": 0.9, "low": 0.85, "high": 0.95}
    for low, value, high, answer in ((0.82, 0.88, 0.93, "yes"), (0.6, 0.88, 0.97, "not shown"), (0.6, 0.7, 0.8, "no")):
        share = {"value": value, "low": low, "high": high}
        assert sections._holds([(home, home), (share, home)]) == answer
    rates = {"sensitivity": home, "specificity": None}
    found = {"new": {"navoneel": rates | {"tumours": 99, "healthy": 2}}, "home": {"screened": rates}}
    assert sections._promise(found)[0] == "cannot be told", "a sensitivity alone, however high"
    blind = load_evidence().audits["majority class"]["verdict"][2]
    assert blind["answer"] == "no" and blind["because"].startswith("sensitivity 0.0 (0.0–2.0) % on 254 new images, 0.0")

"""`python -m utils.audit`: what is worth nothing is exposed, and the report says why."""

import json

import numpy as np
import pandas as pd
import pytest
from saved_model import save_model

from utils.audit.__main__ import main
from utils.audit.images import Images, covered, relatives, trained_on, without_border
from utils.audit.pages import leaderboard

NEW, COVERED = "phantom, other patients", "tumour covered"


def report(here, *args) -> dict:
    """The record of an audit of the phantom, which must succeed."""
    assert main([*args, "--data-set", "phantom"]) == 0
    (path,) = (here / "output/runs/audit").glob(f"{args[0].replace(':', '.')}/report.json")
    return json.loads(path.read_text())


def answers(record) -> list[str]:
    return [one["answer"] for one in record["verdict"]]


def test_a_cheat_that_knows_the_test_set_by_heart_is_exposed(here):
    record = report(here, "cheats:by_digest")
    assert record["home"]["metrics"]["accuracy"]["value"] == 1
    assert all(part["accuracy"]["value"] == 1 for part in record["relatives"].values())
    assert record["new"][NEW]["sensitivity"]["value"] == 0 and record["new"][NEW]["specificity"]["value"] == 1
    assert record["shortcuts"]["mirrored"]["after"]["value"] < 0.4
    assert answers(record)[2:] == ["no", "no", "cannot be told"], record["verdict"]


def test_a_detector_of_the_source_is_exposed(here, bordered):
    record = report(here, "cheats:by_border")
    assert record["home"]["metrics"]["tumour_sensitivity"]["value"] == 1
    assert record["new"][NEW]["sensitivity"]["value"] == 0
    changed = record["shortcuts"]
    assert changed[COVERED]["stay"]["value"] == 1, "it does not need the tumour"
    assert changed["border cut off"]["stay"]["value"] < 0.5 and changed["mirrored"]["stay"]["value"] == 1
    assert answers(record)[2:4] == ["no", "no"], record["verdict"]


def test_a_network_of_ours_is_audited_and_the_report_is_whole(here, capsys):
    name = save_model("phantom").parent.name
    record = report(here, name, "--quick")
    said = capsys.readouterr().out
    folder = here / "output/runs/audit" / name
    assert (folder / "report.md").read_text() in said and "Not a medical device" in said
    page = (folder / "report.html").read_text()
    assert (
        page.count("data:image/png;base64") == 4 and "<table>" in page and "http" not in page.split("<body>")[1][:500]
    )
    assert len(record["verdict"]) == 5 and len(record["confidence"]["errors"]) <= 20 and record["quick"]
    assert {"calibration_error", "brier", "confidence"} <= record["home"]["metrics"].keys()
    assert set(record["shortcuts"]) >= {"mirrored", "transposed", COVERED, "all but the tumour covered"}


def test_a_table_has_no_shortcuts_and_what_it_lacks_is_skipped(here, tmp_path):
    manifest = Images("phantom").manifest
    test = manifest[manifest.published_split == "test"]
    test.rename(columns={"label": "class"})[["path", "class"]].to_csv(tmp_path / "mine.csv", index=False)
    assert main(["--predictions", str(tmp_path / "mine.csv"), "--data-set", "phantom", "--trained-on", "all"]) == 0
    record = json.loads((here / "output/runs/audit/mine/report.json").read_text())
    assert record["shortcuts"] == {} and record["new"] == {} and len(record["skipped"]) > 50
    assert [*record["relatives"]] == ["itself in training"], "as --trained-on says"
    assert answers(record)[1:] == ["cannot be told"] * 4


def test_wrong_arguments_are_refused_in_one_line(here, capsys):
    for args, message in (
        (["x.onnx", "--data-set", "phantoms"], "did you mean 'phantom'"),
        (["x.onnx", "--data-set", "sartaj"], "the data set 'sartaj' is not here yet"),
        (["x.onnx", "--data-set", "phantom"], "x.onnx: not a readable ONNX model"),
        (["x.onnx", "--data-set", "phantom", "--trained-on", "x.csv"], "x.csv: not readable as a table"),
        (["no such model", "--data-set", "phantom"], "unknown model 'no such model'"),
    ):
        assert main(args) == 1
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: ") and len(error.splitlines()) == 1
    for args in ([], ["x.onnx", "--predictions", "y.csv"]):
        with pytest.raises(SystemExit):
            main(args)


def test_what_a_model_was_trained_on_decides_who_is_a_relative(here, tmp_path):
    images = Images("phantom")
    published, test = trained_on(images, "published"), np.flatnonzero(images.manifest.published_split == "test")
    assert published.sum() == (images.manifest.published_split == "train").sum()
    kin = pd.Series(relatives(images, test, published))
    careless = np.isin(images.groups[test], images.groups[published])
    assert (kin.eq("patient or duplicate in training") == careless).all() and 0 < careless.sum() < len(test)
    images.manifest.iloc[test[:3]][["sha256"]].to_csv(tmp_path / "seen.csv", index=False)
    seen = trained_on(images, str(tmp_path / "seen.csv"))
    assert set(images.manifest.sha256[seen]) == set(images.manifest.sha256[test[:3]])
    assert set(relatives(images, test[:3], seen)) == {"itself in training"}


def test_a_covered_tumour_is_gone_and_the_rest_is_as_before():
    image = np.full((100, 100), 50, np.uint8)
    image[40:60, 40:60] = 250
    mask = image > 200
    assert (covered(image, mask) == 50).all()
    alone = covered(image, mask, inside=False)
    assert (alone[mask] == 250).all() and (alone[~mask] == 50).all()
    framed = np.zeros((100, 100), np.uint8)
    framed[20:80, 30:70] = 180
    assert min(without_border(framed).shape) > 30 and without_border(framed).min() > 100


def test_a_leaderboard_is_sorted_by_what_is_found_in_new_images():
    def record(name, sensitivity, specificity, at_home):
        rates = zip(("sensitivity", "specificity"), (sensitivity, specificity), strict=True)
        new = {rate: None if v is None else {"value": v, "low": None, "high": None} for rate, v in rates}
        known = {"metrics": {"accuracy": {"value": at_home, "low": None, "high": None}}}
        return {
            "model": name,
            "new": {"navoneel": new | {"auc": None}},
            "home": known,
            "trained_on": "all",
            "about": {},
        }

    table = leaderboard([record("all", 1, 0, 1.0), record("half", 0.5, None, 0.9), record("good", 0.8, 0.9, 0.5)])
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| good", "| all", "| half"]
    assert "| good | navoneel | 80.0 | 90.0 | – | 50.0 | all | – | – |" in table

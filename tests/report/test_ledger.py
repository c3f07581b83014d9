"""The ledger of runs: its list names what exists, states and costs follow the records."""

import json
import os
import re
from dataclasses import asdict, replace

import pytest
import torch
from ledger_rows import published_row, quick_row, record, write

from datasets.catalog import CATALOG, REPO
from datasets.store.index import folds_digest
from models import BACKBONES, LOCALISERS, MODELS, MULTITASK, PRETRAINABLE, SEGMENTERS
from utils.parameters import overrides, read_parameters
from utils.recipes import RECIPES
from utils.report.ledger import states
from utils.report.ledger.__main__ import main
from utils.report.ledger.costs import cost
from utils.report.ledger.entries import entries
from utils.report.ledger.plan import PLAN, PROBES
from utils.report.ledger.rows import CALLED, EVERY_SPLIT, XRAYS, Row, row_of
from utils.report.ledger.states import lacks, state_of, unknown, weights_of
from utils.run import Run


def test_every_row_of_the_plan_names_what_exists():
    recipes = set(RECIPES) | {"probe"}
    for row in PLAN:
        assert row["model"] in BACKBONES | LOCALISERS | MODELS | MULTITASK | SEGMENTERS, row
        assert row["recipe"] in recipes, row
        assert {row["dataset"], row["test_on"] or row["dataset"]} <= set(CATALOG), row
        assert not unknown(row), row.name
    names = [row.name for row in PLAN]
    assert len(set(names)) == len(names)
    groups = [row.group for row in PLAN]
    assert groups == sorted(groups, key=lambda group: int(group.split(".")[0])) and groups[0] == PROBES


@pytest.mark.parametrize("row", [row for row in PLAN if not row.is_probe], ids=lambda row: row.name)
def test_the_command_of_a_row_makes_the_run_of_its_name(row):
    """The parameters that the chapter gets are put together as its cell does it."""
    words = row.command("w.safetensors", minutes=7)
    assert words[:3] == ["-m", "utils.headless", row.chapter]
    pairs = [words[i + 1 : i + 3] for i in range(3, len(words), 3)]
    defaults = read_parameters(REPO / row.chapter)
    given = {name: parameter.default for name, parameter in defaults.items()} | overrides(defaults, pairs)
    fields = {f: given.get(CALLED[row.chapter].get(f, f)) for f in Run.__dataclass_fields__}
    fields = {f: v for f, v in fields.items() if v is not None and f != "pretrained"}
    if "weights" in defaults and row["model"] in PRETRAINABLE:
        fields["pretrained"] = bool(given["weights"])
        assert given.get("trials", 0) == 0
    if row.chapter == XRAYS:
        fields["target"] = "findings"
    if row["model"] in MULTITASK | LOCALISERS:
        fields["model"] = row["model"]
    assert Run(**fields).id == row.name
    assert given["quick"] is False and given["time_budget"] == 7 and given["epochs"] == row.epochs


def test_names_and_the_command_of_a_probe():
    names = {row.name for row in PLAN}
    assert "cheng.patient-f3.ResNet50-v2.probe-first-turned-pretrained-224px.seed0" in names
    assert "sartaj.patient-f0.ResNet50-v2.probe-first-turned-pretrained-224px.seed2" in names
    assert "cheng.patient-f4.AttentionUNet.ours-n16-256px.seed0" in names
    assert "sartaj.published.MultiTaskUNet.s0-n8.seed0" in names
    probe = PLAN[0]
    words = "-m utils.report.probes cheng --backbone ResNet50-v2 --weights w --image-size 224 --precision bf16"
    assert probe.command("w") == words.split()
    of_type = next(row for row in PLAN if row.is_probe and row["target"] == "type")
    assert of_type.command("w")[-2:] == ["--target", "type"]
    ids = [run.id for run in probe.runs()]
    assert ids == [f"cheng.patient-f{fold}.ResNet50-v2.probe-pretrained-224px.seed0" for fold in range(5)]


def test_states_follow_the_records(elsewhere):
    row, by_patient = published_row(), published_row(split="patient", fold=3)
    assert state_of(row) == state_of(by_patient) == "missing"
    write(row, epochs=15)
    assert state_of(row) == "fewer epochs"
    write(row, data={})  # an older record of a published split, whose images have not changed
    write(by_patient)
    assert state_of(row) == state_of(by_patient) == "done"
    write(by_patient, data={"folds": "0123456789ab"})
    assert state_of(by_patient) == "old folds"
    write(by_patient, data={})
    assert state_of(by_patient) == "old folds"
    assert state_of(replace(row, epochs=60)) == "fewer epochs"


def test_a_row_is_begun_where_a_checkpoint_is_newer_than_the_record(elsewhere):
    row = published_row(split="patient")
    checkpoint = row.runs()[0].folder / "checkpoint-head.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert state_of(row) == "begun"
    write(row, data={})
    assert state_of(row) == "begun"
    states.forget_finished(row)
    assert checkpoint.exists(), "what is begun is never deleted"
    os.utime(checkpoint, (0, 0))  # of the training on old folds
    assert state_of(row) == "old folds"
    states.forget_finished(row)
    assert not checkpoint.exists()
    checkpoint.touch()
    write(row)
    assert state_of(row) == "done"


def test_probes_of_some_splits_are_begun(elsewhere):
    row = Row(
        group="test",
        run={"dataset": "cheng", "split": EVERY_SPLIT, "model": "SqueezeNet", "recipe": "probe", "pretrained": True},
    )
    for count, run in enumerate(row.runs(), start=1):
        assert state_of(row) == ("begun" if count > 1 else "missing")
        path = run.metrics_folder / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps(
                record(published_row())
                | {"id": run.id, "run": asdict(run), "recipe": None}
                | {"data": {"folds": folds_digest("cheng")}}
            )
        )
    assert state_of(row) == "done"


def test_what_a_row_lacks_is_named(elsewhere, monkeypatch, capsys):
    strange = published_row(dataset="nowhere")
    assert unknown(strange) == "data set 'nowhere' is not in the catalogue"
    assert "no such field" in unknown(published_row(colour="red"))
    assert "did you mean 's2'" in unknown(published_row(recipe="s22"))
    assert "no table of what 'sartaj' and 'phantom' share" in unknown(
        published_row(dataset="sartaj", split="external", test_on="phantom")
    )
    assert (
        lacks(published_row()) == "data set 'brain-tumor-mri' is not here: python datasets/download.py brain-tumor-mri"
    )
    assert main([], plan=[strange, published_row()]) == 0
    out = capsys.readouterr().out
    assert "lacks: data set 'nowhere' is not in the catalogue" in out and "download.py brain-tumor-mri" in out


def test_weights_are_found_by_the_name_of_the_file(elsewhere, roots, monkeypatch):
    monkeypatch.setattr(states, "_in_cache", lambda backbone: False)
    row = quick_row(model="ResNet50-v2", recipe="onecycle", pretrained=True)
    assert "ImageNet weights of ResNet50-v2 are not here: make weights BACKBONE=ResNet50-v2" in lacks(row)
    folder = elsewhere / "weights"
    folder.mkdir()
    names = {
        "squeezenet1_1_imagenet1k": "SqueezeNet",
        "resnetv2_50_stages1-3_imagenet1k": "ResNet50-v2",
        "mobilenetv2_gluon_imagenet1k": "MobileNetV2",
        "resnet50-a1": "ResNet50",
        "resnet50-v2_other": "ResNet50-v2",
        "mobilenetv3_large_100": "MobileNetV3-Large",
        "tf_efficientnetv2_s": "EfficientNetV2-S",
        "vgg19": "VGG19",
        "notes": "",
    }
    assert {stem: states.whose(stem) for stem in names} == names
    for stem in names:
        (folder / f"{stem}.safetensors").touch()
    monkeypatch.setenv("BRAIN_MRI_WEIGHTS", str(folder))
    assert weights_of("ResNet50") == str(folder / "resnet50-a1.safetensors")
    assert weights_of("ResNet50-v2") == str(folder / "resnet50-v2_other.safetensors")
    assert lacks(row) == "" and weights_of("VGG16") == ""
    monkeypatch.setattr(states, "_in_cache", lambda backbone: True)
    assert weights_of("VGG16") == "imagenet"
    assert weights_of("OutlineClassifier") == weights_of("ResNet50-v2"), "its encoder's"
    monkeypatch.delenv("BRAIN_MRI_WEIGHTS")
    assert weights_of("ResNet50-v2") == "imagenet" and weights_of("OutlineClassifier") == "", "of a file alone"


def test_the_cache_is_asked_without_a_network(elsewhere, monkeypatch):
    states._in_cache.cache_clear()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(elsewhere))
    assert not states._in_cache("SqueezeNet")
    (elsewhere / "checkpoints").mkdir()
    (elsewhere / "checkpoints/squeezenet1_1-b8a52dc0.pth").touch()
    states._in_cache.cache_clear()
    assert states._in_cache("SqueezeNet")
    assert states._in_cache("Xception") is False  # timm knows it by an address alone
    states._in_cache.cache_clear()


def test_costs_by_hand():
    row = published_row(image_size=256)
    measured = record(published_row())
    # 1,100 images of which a tenth is for validation; .1 s an image and epoch, 50 epochs, (256/128)² times, 2 threads
    found = cost(row, [measured])
    assert found.value == pytest.approx(0.1 * 990 * 50 * 4 * 2 / 3600) and found.source == measured["id"]
    assert cost(row, [measured], gpu=True) is None
    on_gpu = record(published_row(), hardware={"threads": 8, "processes": 2, "gpu": "H100"})
    assert cost(row, [measured, on_gpu], gpu=True).value == pytest.approx(0.1 * 990 * 50 * 4 * 2 / 60)
    assert cost(row, [measured, on_gpu]).value == found.value
    near = record(published_row(image_size=224), training={"epochs": 10, "seconds": 10.0})
    assert cost(row, [measured, near]).source == near["id"], "the nearest image size counts"
    assert cost(row, [measured | {"pooled": {"a": "b"}}]) is None
    assert cost(published_row(model="ViT"), [measured]) is None
    unet = {"dataset": "cheng", "split": "patient", "model": "ClassicUNet", "recipe": "ours"}
    thin, wide = (Row(group="", run=unet | {"n_filters": n}) for n in (16, 32))
    assert cost(wide, [record(thin)]) is None and cost(thin, [record(thin)]) is not None
    # Of a split without a run the catalogue knows the number: four of five folds of Cheng's 3,064 slices.
    by_patient = Row(group="", run=unet | {"n_filters": 16}, epochs=3)
    elsewhere = record(replace(thin, run=dict(thin.run) | {"dataset": "brats-mini"}))
    assert cost(by_patient, [elsewhere]).value == pytest.approx(0.1 * 3064 * 0.8 * 0.9 * 3 * 2 / 3600)


def test_the_cost_of_a_probe_is_one_pass_and_its_regressions():
    row = PLAN[0]
    measured = record(
        row, recipe=None, training=None, probe={"seconds": 20, "features": {"images": 100, "seconds": 50}}
    )
    assert cost(row, [measured]).value == pytest.approx((0.5 * 3064 + 5 * 20) * 2 / 3600)
    del measured["probe"]["features"]  # an older one
    assert cost(row, [measured]) is None


def test_other_runs_of_the_tables_follow_the_plan():
    other = record(published_row(model="CustomCNN", image_size=64), epochs=8)
    baseline, pooled = other | {"id": "b", "recipe": None}, other | {"id": "p", "pooled": {"a": "b"}}
    found = entries([published_row()], [other, baseline, pooled, record(published_row())])
    assert [e.row.name for e in found] == [published_row().name, other["id"]]
    row = row_of(other, "others")
    assert row.epochs == 8 and row.parameters()["epochs"] == "8" and row.runs() == [Run(**other["run"])]


def test_what_no_record_had_is_why_a_row_was_not_done():
    """Weights and files that were never at hand, by the records; else it is computing time."""
    tuned = {"recipe": "s1", "image_size": 224, "pretrained": True}
    plan = [
        published_row(model="ResNet50-v2", **tuned),
        published_row(model="VGG19", **tuned),
        published_row(dataset="remind", split="patient", fold=0, model="ResNet50-v2", **tuned),
        published_row(split="external", test_on="br35h"),
    ]
    known = record(published_row(model="ResNet50-v2", **tuned | {"recipe": "s3"}))
    assert [entry.obstacle for entry in entries(plan, [known])][:4] == [
        "computing time",
        "ImageNet weights of VGG19 were not at hand",
        "the files of `remind` were not at hand",
        "the files of `br35h` were not at hand",
    ]


def test_the_committed_list_does_not_depend_on_the_machine(elsewhere, monkeypatch):
    row, path = published_row(), elsewhere / "ledger.md"
    (row.runs()[0].folder).mkdir(parents=True)
    (row.runs()[0].folder / "checkpoint.pt").touch()
    write(published_row(model="ViT"))
    main(["--markdown", str(path)], plan=[row, published_row(model="ViT")])
    assert re.findall(r"^\| \d \| `.*?` \| (\w+) \|", path.read_text(), re.MULTILINE) == ["missing", "missing"]
    monkeypatch.setattr(states, "COMMITTED", elsewhere / "saved_metrics")
    main(["--markdown", str(path)], plan=[row, published_row(model="ViT")])
    assert re.findall(r"^\| \d \| `.*?` \| (\w+) \|", path.read_text(), re.MULTILINE) == ["missing", "done"]


def test_the_committed_records_are_all_in_the_ledger_and_can_be_made_anew(tmp_path):
    """Each by a command that this version takes."""
    path = tmp_path / "ledger.md"
    assert main(["--markdown", str(path)]) == 0
    text = path.read_text()
    ids = {p.parent.name for p in REPO.glob("saved_metrics/*/*/*/metrics.json") if json.loads(p.read_text())["recipe"]}
    pooled = re.compile(r"\.patient\.")
    assert {one for one in ids if not pooled.search(one)} <= set(re.findall(r"`([^`]+)`", text))
    assert "has no parameter" not in text and "not in the catalogue" not in text

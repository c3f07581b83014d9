"""The evidence of backbones: its weights, its tables, and pooled folds."""

import json

import numpy as np
import pandas as pd
import torch
from small_transfer import run_fit

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import build_backbone
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.report import figures, tables
from utils.report.pooling import pool_folds
from utils.report.records import load_evidence, save_run
from utils.report.weights import find_weights, load_weights
from utils.run import Run
from utils.training.loop import Fit
from utils.training.optimisation import freeze
from utils.training.tasks import Classification


def test_evidence_of_a_backbone_comes_back_as_a_network(parts, roots):
    net, _, fitted = run_fit(parts, roots / "fit", "SqueezeNet")
    values = {"model": "SqueezeNet", "recipe": "ours", "image_size": 64, "pretrained": False}
    run = Run(dataset="phantom", split="patient", **values)
    assert run.id == "phantom.patient-f0.SqueezeNet.ours-scratch-64px.seed0" and run.task == "transfer"
    probs = predict(net, Classification(4), parts[0])
    table = prediction_table("phantom", parts[0].rows, np.arange(32).astype(str), parts[0].facts.classes, probs)
    recipe = get_recipe("ours", "SqueezeNet", epochs=1)
    save_run(run, evaluate(table, parts[0].facts.classes, 20), table, model=net, recipe=recipe, fit=fitted)
    again = load_weights(find_weights(run.id))
    assert np.array_equal(predict(again, Classification(4), parts[0]), probs)


def saved(roots, start, recipe="ours", split="patient", fold=0):
    """A saved run of an untrained SqueezeNet on the phantom: its record."""
    values = {"model": "SqueezeNet", "recipe": recipe, "image_size": 64, "pretrained": start == "pretrained"}
    run = Run(dataset="phantom", split=split, fold=fold, **values)
    test = make_split("phantom", split, fold)
    changed_recipe = get_recipe(recipe, "SqueezeNet", epochs=1)
    torch.manual_seed(20 * (start == "pretrained") + len(recipe))
    net = build_backbone("SqueezeNet", image_size=64, **changed_recipe.model_args)
    freeze(net, changed_recipe)
    data = ImageDataset("phantom", test.test, image_size=64)
    probs = predict(net, Classification(4), data)
    table = prediction_table("phantom", test.test, test.test_groups, data.facts.classes, probs)
    result = evaluate(table, data.facts.classes, 20) | {"tta": {"gain": mean_interval([0, 1], ["a", "b"])}}
    fitted = Fit(pd.DataFrame({"epoch": [1], "seconds": [90.0], "val_accuracy": [0.25 + len(recipe) / 100]}), 1)
    return json.loads(save_run(run, result, table, model=net, recipe=changed_recipe, fit=fitted).read_text())


def test_tables_set_pretrained_beside_scratch_and_recipes_beside_ours(roots):
    records = {
        name: saved(roots, *name.split())
        for name in ("pretrained ours", "scratch ours", "pretrained ours-frozen", "pretrained s1")
    }
    published = saved(roots, "pretrained", "ours", "published")
    evidence = load_evidence(roots / "saved_metrics")
    assert len(evidence.transfer) == 5 and not evidence.classification
    value = {name: record["metrics"]["accuracy"]["value"] for name, record in records.items()}

    starts = tables.pretraining_gain(evidence)
    assert starts[["split", "backbone", "recipe"]].to_numpy().tolist() == [["patient fold 0", "SqueezeNet", "ours"]]
    gain = 100 * (value["pretrained ours"] - value["scratch ours"])
    assert gain and starts["gain by pretraining, points"].iloc[0].startswith(f"{gain:+.1f} (")

    rows = tables.backbone_runs(evidence).set_index(["weights", "recipe"])
    assert set(rows.index) == {("pretrained", "ours"), ("from scratch", "ours")}, (
        "the others stand beside ours in `recipes`"
    )
    pretrained = rows.loc[("pretrained", "ours")]
    assert pretrained["published split"] == tables.format_ci(published["metrics"]["accuracy"])
    assert pretrained["by patient"] == tables.format_ci(records["pretrained ours"]["metrics"]["accuracy"])
    assert pretrained["minutes a training"] == "2 / 2"
    assert rows.loc[("from scratch", "ours")]["minutes a training"] == "– / 2"

    assert [pair.keys() for pair in tables.pretraining_pairs(evidence)] == [{"pretrained", "scratch"}]

    shown = tables.recipe_runs(evidence).set_index("recipe")
    assert list(shown.index) == ["ours-frozen", "ours", "s1"], "validation orders"
    assert int(shown.loc["ours-frozen", "unfrozen"].replace(",", "")) == records["pretrained ours-frozen"]["trainable"]
    lost = 100 * (value["pretrained s1"] - value["pretrained ours"])
    assert shown.loc["s1", "difference to ours, points"].startswith(f"{lost:+.1f} (") and not shown.loc["ours"].iloc[7]
    drawn = figures.cost(evidence.transfer)
    assert len(drawn.axes[0].get_yticklabels()) == len(evidence.transfer)


def test_folds_of_backbones_are_pooled_by_their_weights(roots):
    for fold in range(5):
        for start in ("pretrained", "scratch"):
            saved(roots, start, fold=fold)
    written = pool_folds(roots / "saved_metrics", resamples=20)
    assert [path.parent.name for path in written] == [
        f"phantom.patient.SqueezeNet.ours-{s}-64px.seed0" for s in ("pretrained", "scratch")
    ]
    evidence = load_evidence(roots / "saved_metrics")
    assert tables.pretraining_gain(evidence).split.tolist() == ["patient, all folds"], (
        "the folds stand in it, not beside it"
    )
    rows = tables.backbone_runs(evidence)
    assert rows.tested.tolist() == ["patient, all folds"] * 2
    assert set(rows["minutes a training"]) == {"– / 2"}, "90 s, not five times as many"
    pooled = [record for record in evidence.transfer if record.get("pooled")]
    *_, pace = figures.cost(pooled).axes
    assert [line.get_xdata()[0] for line in pace.lines] == [90, 90], "an epoch of one training"

"""Tables of what was reported: each result, ours beside it, or why there is none."""

import numpy as np
import pandas as pd
from whole_records import whole

from datasets.catalog import REPO
from utils.parameters import overrides, read_parameters
from utils.recipes.published import published_table
from utils.report import reported
from utils.report.records import load_evidence, write_predictions, write_record
from utils.report.tables import BLOCKS
from utils.run import Run

ENTRY = {"value": 0.5, "low": 0.4, "high": 0.6}
METRICS = dict.fromkeys(("accuracy", "macro_precision", "macro_recall", "macro_f2", "macro_auc"), ENTRY)
EMPTY = pd.DataFrame({"path": ["a"], "group": ["g"]})


def test_s4s_table_says_what_was_not_run_and_why(put, tmp_path):
    shown = BLOCKS["s4"](load_evidence(tmp_path))
    assert shown[["network", "asked"]].iloc[0].tolist() == ["ResNetRS152", "all classes"]
    named = shown[shown["accuracy %: reported"] != "–"]
    assert len(named) == 6 and named.remark.str.startswith("not run here: ").all()
    of = {"dataset": "brain-tumor-44c", "recipe": "s4", "image_size": 224, "pretrained": True}
    ours = {"metrics": METRICS, "images": 896, "training": {"epochs": 80, "seconds": 600}}
    for model, split, fold in (("EfficientNetV2-B1", "random", 0), ("EfficientNetV2-B1", "patient", None)):
        put(Run(model=model, split=split, fold=fold, **of), EMPTY, **ours)
    evidence = put(Run(model="SqueezeNet", split="random", **of), EMPTY, **ours)
    shown = BLOCKS["s4"](evidence).set_index(["network", "asked"])
    ours = shown.loc[("EfficientNetV2-B1", "all classes")]
    assert ours["accuracy %: ours"] == ours["accuracy %: ours, by patient or group"] == "50.0 (40.0–60.0)"
    assert ours.remark == "–" and ours["epochs, pixels"] == "80, 224"
    assert shown.loc[("SqueezeNet (not in the report)", "all classes"), "accuracy %: ours"] == "50.0 (40.0–60.0)"


def test_s1s_table_shows_its_protocol_on_another_set_with_decisions_of_patients(put):
    run = Run(dataset="cheng", split="patient", model="SqueezeNet", recipe="s1", pretrained=True)
    training = {"epochs": 5, "seconds": 90, "val_loss": 0.25}
    whole = {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0}, "patients": 40}
    put(run, EMPTY, metrics=METRICS, training=training, by_patient=whole)
    shown = BLOCKS["s1"](put(run.baseline("1-NN"), EMPTY, metrics=METRICS)).set_index(["network", "data set"])
    row = shown.loc[("SqueezeNet (not in the report)", "cheng")]
    assert row["accuracy %: ours, a decision a patient"] == "75.0 (50.0–100.0)"
    assert (row["validation loss: ours"], row["minutes of training: ours"]) == ("0.25", "1.5")
    assert (row["macro F2 %: ours"], row.remark, row.split) == ("50.0 (40.0–60.0)", "–", "patient fold 0")
    assert shown.loc[("1-NN", "cheng"), "accuracy %: ours"] == "50.0 (40.0–60.0)"
    assert shown.loc[("ResNet50", "remind"), "validation loss: reported"] == "0.253"


def test_one_command_writes_the_table_and_the_curves(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    run = Run(dataset="cheng", split="patient", model="SqueezeNet", recipe="s1", pretrained=True)
    training = {"epochs": 2, "epoch_kept": 2, "seconds": 90, "val_loss": 0.25}
    write_record(run.metrics_folder / "metrics.json", whole(run, training=training))
    classes = ["glioma", "meningioma", "pituitary"]
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
    table = pd.DataFrame({"label": np.resize(classes, 30), "path": [f"{i}.png" for i in range(30)], "group": range(30)})
    write_predictions(
        run.metrics_folder / "predictions.csv.gz",
        table.assign(**{f"p_{c}": probs[:, i] for i, c in enumerate(classes)}),
    )
    epochs = {f"{part}_{name}": [0.5, 0.4] for part in ("train", "val") for name in ("loss", "accuracy")}
    pd.DataFrame({"epoch": [1, 2], "seconds": 1.0, **epochs}).to_csv(run.metrics_folder / "history.csv", index=False)
    assert reported.main(["s1", "--folder", str(tmp_path / "out")]) == 0
    assert "| SqueezeNet (not in the report) | cheng |" in (tmp_path / "out/s1.md").read_text()
    made = sorted(path.name.removeprefix(run.id) for path in (tmp_path / "out").glob(f"{run.id}*.png"))
    assert made == ["-curves.png", "-roc.png"]
    assert reported.main(["s5"]) == 1 and "did you mean" in capsys.readouterr().err


def test_every_reported_result_is_shown_or_named_with_its_command():
    evidence = load_evidence(REPO / "saved_metrics")
    keys = published_table()[["source", "model", "dataset", "protocol"]].drop_duplicates()
    shown, missing = BLOCKS["reported"](evidence), BLOCKS["not_run"](evidence)
    assert len(shown) == len(keys)
    assert shown["ours, same split %"].ne("–").sum() + len(missing) == len(keys), "either rebuilt or named as not run"
    for command in missing.command[missing.command != "–"]:
        _, _, module, notebook, *given = command.strip("`").split()
        assert module == "utils.headless"
        pairs = [given[i + 1 : i + 3] for i in range(0, len(given), 3)]
        assert overrides(read_parameters(REPO / notebook), pairs), "the chapter knows all its parameters"


def test_a_difference_is_not_taken_between_runs_of_other_length_or_size(put):
    of = {"dataset": "brain-tumor-mri", "model": "CustomCNN"}
    for epochs, split, fold in ((5, "published", 0), (6, "patient", None)):
        training = {"epochs": epochs, "seconds": 1.0}
        evidence = put(Run(split=split, fold=fold, **of), EMPTY, metrics=METRICS, training=training)
    row = BLOCKS["reported"](evidence).set_index(["project", "network"]).loc[("S2", "CustomCNN")]
    assert row["difference, points"] == "–" and row["epochs, pixels"] == "5, 128 / 6, 128"


def test_tumour_or_none_is_not_answered_by_a_network_of_all_classes(put):
    """S4's ResNet50 told tumour from none; a run of the same network that names 44 classes is another result."""
    run = Run(dataset="brain-tumor-44c", split="patient", model="ResNet50", recipe="s4", pretrained=True)
    shown = BLOCKS["reported"](put(run, EMPTY, metrics=METRICS, training={})).set_index(["network", "split"])
    assert shown.loc[("ResNet50", "random, binary"), "ours, by patient %"] == "–"

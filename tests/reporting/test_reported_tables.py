"""S1's and S4's tables: each network reported, our result beside it, or why there is none."""

from pathlib import Path

from utils.reporting.records import Evidence
from utils.reporting.tables import BLOCKS


def test_s4s_table_says_what_was_not_run_and_why():
    none = Evidence(Path(), [], [])
    shown = BLOCKS["s4"](none)
    assert shown[["network", "asked"]].iloc[0].tolist() == ["ResNetRS152", "all classes"]
    assert shown["accuracy %: reported"].iloc[:2].tolist() == ["94.0", "96.0"]
    named = shown[shown["accuracy %: reported"] != "–"]
    assert len(named) == 6 and named.remark.str.startswith("not run here: ").all()
    entry = {"value": 0.5, "low": 0.4, "high": 0.6}
    run = {"dataset": "brain-tumor-44c", "split": "random", "fold": 0, "recipe": "s4", "image_size": 224, "seed": 0}
    run |= {"pretrained": True, "test_on": ""}
    records = [
        {"id": m, "task": "transfer", "run": run | {"model": m}, "metrics": {"accuracy": entry}, "images": 896}
        | {"training": {"epochs": 80, "seconds": 600}}
        for m in ("EfficientNetV2-B1", "SqueezeNet")
    ]
    patient = records[0] | {"id": "x", "run": records[0]["run"] | {"split": "patient", "fold": None}}
    shown = BLOCKS["s4"](Evidence(Path(), [*records, patient], [])).set_index(["network", "asked"])
    ours = shown.loc[("EfficientNetV2-B1", "all classes")]
    assert ours["accuracy %: ours"] == ours["accuracy %: ours, by patient or group"] == "50.0 (40.0–60.0)"
    assert ours.remark == "–" and ours["epochs, pixels"] == "80, 224"
    assert shown.loc[("SqueezeNet (not in the report)", "all classes"), "accuracy %: ours"] == "50.0 (40.0–60.0)"


def test_s1s_table_names_its_six_networks_and_why_they_were_not_run():
    shown = BLOCKS["s1"](Evidence(Path(), [], []))
    named = shown[shown["accuracy %: reported"] != "–"]
    assert named.network.tolist() == ["VGG19", "InceptionV3", "DenseNet121", "Xception", "ResNet50", "ViT-B16"]
    assert named.remark.str.startswith("not run here: ").all()
    reported = ["accuracy", "macro precision", "macro recall", "macro F2"]
    assert all(f"{metric} %: reported" in shown for metric in reported)

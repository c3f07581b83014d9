"""What the chapters say of the runs follows from the runs."""

from datasets.catalog import REPO
from models import BACKBONES
from utils.analysis import ablation
from utils.reporting import tables
from utils.reporting.records import load_evidence
from utils.reporting.tables.common import find_run
from utils.reporting.tables.transfer import on_one_budget


def test_only_a_dozen_test_images_have_no_relative_in_training():
    nearest = find_run(
        load_evidence(REPO / "saved_metrics").classification, dataset="brain-tumor-mri", split="published", model="1-NN"
    )
    assert nearest["unseen"]["images"] == 12


def test_what_the_text_says_of_the_multi_task_network_follows_from_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    (runs,) = ablation.budgets(evidence.multitask)
    differences = {name: entry["difference"] for name, entry in ablation.compare(runs, evidence.predictions).items()}
    for name in ("s0-kendall", "s0-fixed", "s0-flat-classify"):
        assert differences[name]["low"] < 0 < differences[name]["high"], "does as well"
    one_to_two = [differences[name]["value"] for name in ("s0-classify", "s0-flat")]
    assert all(-0.02 < value < -0.01 for value in one_to_two) and differences["s0-flat-classify"]["value"] > -0.01
    shares = tables.balance_effects(evidence).set_index("recipe")["its gradient, weighted"].astype(float)
    assert shares["s0-fixed"] < 0.01 and all(0.19 < shares[name] < 0.34 for name in ("s0", "s0-kendall", "s0-flat"))
    own = {r["id"]: r for r in evidence.multitask if r["run"]["recipe"] == "s0" and r["run"]["image_size"] == 128}
    accuracy = {name.split(".Multi")[0]: r["metrics"]["accuracy"]["value"] for name, r in own.items()}
    nearest = {
        name: find_run(evidence.classification, dataset=name.split(".")[0], model="1-NN", **of)["metrics"]["accuracy"]
        for name, of in {
            "sartaj.published": {"split": "published"},
            "sartaj.cleaned": {"split": "cleaned"},
            "brain-tumor-mri.published": {"split": "published"},
            "brain-tumor-mri.patient-f0": {"split": "patient"},
        }.items()
    }
    assert nearest["sartaj.published"]["low"] < 0.7775 < nearest["sartaj.published"]["high"]
    assert accuracy["sartaj.patient"] > accuracy["sartaj.published"] > 2 * accuracy["sartaj.cleaned"]
    assert round(100 * accuracy["sartaj.cleaned"]) == 30
    assert nearest["sartaj.cleaned"]["low"] < accuracy["sartaj.cleaned"] < nearest["sartaj.cleaned"]["high"]
    level, above = (
        accuracy[n] - nearest[n]["value"] for n in ("brain-tumor-mri.published", "brain-tumor-mri.patient-f0")
    )
    assert abs(level) < 0.01 and 0.19 < above < 0.21
    glioma = own["sartaj.published.MultiTaskUNet.s0-n8.seed0"]["per_class"]["glioma"]["recall"]["value"]
    assert 0.2 < glioma < 0.3, "three of four test gliomas are lost"
    drawn = [r["anomaly"]["tumour"] for name, r in own.items() if name.startswith("brain-tumor-mri")]
    assert all(entry["high"] < 0.5 for entry in drawn), "tumours are drawn better"


def test_what_the_text_says_of_transfer_learning_follows_from_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    accuracy = {r["id"]: r["metrics"]["accuracy"] for r in evidence.transfer + evidence.classification}
    assert all(compare_starts(pair, evidence)["low"] > 0 for pair in tables.pretraining_pairs(evidence))
    never = {"VGG19", "Xception", "Swin-B", "ViT-B16", "ViT-L32", "ResNetRS152"}
    assert {r["run"]["model"] for r in evidence.transfer} == set(BACKBONES) - never
    pretrained = {
        split: accuracy[f"brain-tumor-mri.{split}.SqueezeNet.ours-pretrained.seed0"]
        for split in ("published", "patient")
    }
    nearest = {split: accuracy[f"brain-tumor-mri.{split}.1-NN.none.seed0"] for split in ("published", "patient")}
    assert pretrained["published"]["high"] < nearest["published"]["value"]
    assert pretrained["patient"]["value"] - nearest["patient"]["value"] > 0.2
    others = [r for r in evidence.transfer + evidence.classification + evidence.multitask if r["run"]["fold"] is None]
    best = max(
        (r for r in others if r["run"]["dataset"] == "brain-tumor-mri"), key=lambda r: r["metrics"]["accuracy"]["value"]
    )
    assert best["id"] == "brain-tumor-mri.patient.SqueezeNet.ours-pretrained.seed0"

    (runs,) = on_one_budget(evidence)
    found = ablation.compare(runs, evidence.predictions, reference="ours")
    assert max(found, key=lambda name: found[name]["validation"]) == "ours"
    lost = {name: entry["difference"] for name, entry in found.items()}
    assert -0.15 < lost["ours-frozen"]["value"] < -0.14
    assert all(lost[name]["high"] < 0 for name in ("ours-frozen", "ours-one-rate", "ours-s3-augmentation"))
    noise = ("ours-no-smoothing", "ours-unbalanced", "ours-linear-head", "ours-no-warmup")
    assert all(lost[name]["high"] > 0 and lost[name]["value"] > -0.02 for name in noise)
    tta = {name: record["tta"]["gain"]["value"] for name in runs for record in runs[name].values()}
    assert tta["ours-s3-augmentation"] == max(tta.values()) > 0.05 > 0.02 > tta["ours"]


def compare_starts(pair, evidence):
    runs = {start: {0: record} for start, record in pair.items()}
    return ablation.compare(runs, evidence.predictions, resamples=200, reference="scratch")["pretrained"]["difference"]

"""The README shows what saved_metrics/ holds, and its links lead somewhere."""

import json
import re

import pandas as pd

from datasets.catalog import CATALOG, REPO
from datasets.store import SPLITS
from models import BACKBONES
from utils import ablation, tables
from utils.readme import filled
from utils.recipes import get_recipe
from utils.runs import load_evidence, load_runs
from utils.tables import BLOCKS

TEXT = (REPO / "README.md").read_text()


def test_the_table_is_generated_from_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    assert evidence.classification and evidence.segmentation and evidence.multitask, "no run is committed"
    assert filled(TEXT, evidence) == TEXT, "run: make tables"
    assert set(BLOCKS) == set(re.findall(r"<!-- table (\w+) -->", TEXT))


def test_numbers_in_the_text_are_the_measured_ones():
    facts = json.loads((SPLITS / "facts.json").read_text())["brain-tumor-mri"]
    unseen = {r["id"]: r.get("unseen") for r in load_runs(REPO / "saved_metrics")}
    assert f"{facts['linked test images']} are slices of patients who can be named" in TEXT
    assert facts["linked test images"] == facts["linked test images with their patient in training"]
    assert f"{facts['images alike one in another fold beyond 4 bits']} pictures of `brain-tumor-mri`" in TEXT
    table = pd.read_csv(SPLITS / "brain-tumor-mri.csv", dtype=str, keep_default_na=False)
    unlinked = table.label[table.patient == ""].value_counts()
    assert f"{unlinked.meningioma} meningiomas, {unlinked.pituitary} pituitaries of `brain-tumor-mri`" in TEXT
    assert "a dozen" in TEXT and unseen["brain-tumor-mri.published.1-NN.none.seed0"]["images"] == 12


def test_what_brats_takes_is_what_the_benchmark_measured():
    found = json.loads((REPO / "saved_metrics/benchmarks/volumes.json").read_text())
    eight, sixteen = found["8 bits"], found["16 bits"]
    size, time = "GiB of BraTS 2020", "ms a slice"
    assert f"{eight['gzip-1'][size]:.1f} GiB with 8 bits and {sixteen['gzip-1'][size]:.1f} GiB with 16" in TEXT
    assert f"read in {eight['gzip-1'][time]:.1f} and {sixteen['gzip-1'][time]:.1f} ms" in TEXT
    assert f"by {eight['rms against 16 bits']:.4f} of its range" in TEXT and f"{eight['largest']:.2f} at most" in TEXT


def test_every_relative_link_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links and all((REPO / link).exists() for link in links)


def test_every_data_set_and_notebook_is_named():
    assert all(f"`{name}`" in TEXT for name in CATALOG)
    assert all(f"notebooks/{path.name}" in TEXT for path in (REPO / "notebooks").glob("*.ipynb"))


def test_what_the_text_says_of_the_multi_task_network_follows_from_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    (runs,) = ablation.budgets(evidence.multitask)
    differences = {name: entry["difference"] for name, entry in ablation.compare(runs, evidence.folder).items()}
    for name in ("s0-kendall", "s0-fixed", "s0-flat-classify"):
        assert differences[name]["low"] < 0 < differences[name]["high"], "does as well"
    one_to_two = [differences[name]["value"] for name in ("s0-classify", "s0-flat")]
    assert all(-0.02 < value < -0.01 for value in one_to_two) and differences["s0-flat-classify"]["value"] > -0.01
    shares = tables.balances(evidence).set_index("recipe")["its gradient, weighted"].astype(float)
    assert shares["s0-fixed"] < 0.01 and all(0.19 < shares[name] < 0.34 for name in ("s0", "s0-kendall", "s0-flat"))
    own = {r["id"]: r for r in evidence.multitask if r["run"]["recipe"] == "s0" and r["run"]["image_size"] == 128}
    accuracy = {name.split(".Multi")[0]: r["metrics"]["accuracy"]["value"] for name, r in own.items()}
    memoriser = {
        name: tables.chosen(evidence.classification, dataset=name.split(".")[0], model="1-NN", **of)["metrics"][
            "accuracy"
        ]
        for name, of in {
            "sartaj.published": {"split": "published"},
            "sartaj.cleaned": {"split": "cleaned"},
            "brain-tumor-mri.published": {"split": "published"},
            "brain-tumor-mri.patient-f0": {"split": "patient"},
        }.items()
    }
    assert memoriser["sartaj.published"]["low"] < 0.7775 < memoriser["sartaj.published"]["high"]
    assert accuracy["sartaj.patient"] > accuracy["sartaj.published"] > 2 * accuracy["sartaj.cleaned"]
    assert round(100 * accuracy["sartaj.cleaned"]) == 30
    assert memoriser["sartaj.cleaned"]["low"] < accuracy["sartaj.cleaned"] < memoriser["sartaj.cleaned"]["high"]
    level, above = (
        accuracy[n] - memoriser[n]["value"] for n in ("brain-tumor-mri.published", "brain-tumor-mri.patient-f0")
    )
    assert abs(level) < 0.01 and 0.19 < above < 0.21
    glioma = own["sartaj.published.MultiTaskUNet.s0-n8.seed0"]["per_class"]["glioma"]["recall"]["value"]
    assert 0.2 < glioma < 0.3, "three of four test gliomas are lost"
    drawn = [r["anomaly"]["tumour"] for name, r in own.items() if name.startswith("brain-tumor-mri")]
    assert all(entry["high"] < 0.5 for entry in drawn), "tumours are drawn better"


def test_what_the_text_says_of_transfer_learning_follows_from_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    accuracy = {r["id"]: r["metrics"]["accuracy"] for r in evidence.transfer + evidence.classification}
    assert all(compare_starts(pair, evidence)["low"] > 0 for pair in tables.pairs(evidence))
    never = {"VGG19", "Xception", "Swin-B", "ViT-B16", "ViT-L32", "ResNetRS152"}
    assert {r["run"]["model"] for r in evidence.transfer} == set(BACKBONES) - never
    warm = {
        split: accuracy[f"brain-tumor-mri.{split}.SqueezeNet.ours-warm.seed0"] for split in ("published", "patient")
    }
    nearest = {split: accuracy[f"brain-tumor-mri.{split}.1-NN.none.seed0"] for split in ("published", "patient")}
    assert warm["published"]["high"] < nearest["published"]["value"]
    assert warm["patient"]["value"] - nearest["patient"]["value"] > 0.2
    others = [r for r in evidence.transfer + evidence.classification + evidence.multitask if r["run"]["fold"] is None]
    best = max(
        (r for r in others if r["run"]["dataset"] == "brain-tumor-mri"), key=lambda r: r["metrics"]["accuracy"]["value"]
    )
    assert best["id"] == "brain-tumor-mri.patient.SqueezeNet.ours-warm.seed0"

    (runs,) = tables.on_one_budget(evidence)
    found = ablation.compare(runs, evidence.folder, reference="ours")
    assert max(found, key=lambda name: found[name]["validation"]) == "ours"
    lost = {name: entry["difference"] for name, entry in found.items()}
    assert -0.15 < lost["ours-frozen"]["value"] < -0.14
    assert all(lost[name]["high"] < 0 for name in ("ours-frozen", "ours-one-rate", "ours-s3-augmentation"))
    noise = ("ours-no-smoothing", "ours-unbalanced", "ours-linear-head", "ours-no-warmup")
    assert all(lost[name]["high"] > 0 and lost[name]["value"] > -0.02 for name in noise)
    tta = {name: record["tta"]["gain"]["value"] for name in runs for record in runs[name].values()}
    assert tta["ours-s3-augmentation"] == max(tta.values()) > 0.05 > 0.02 > tta["ours"]
    s3, s0 = get_recipe("s3", "EfficientNetV2-S").published, get_recipe("s0", "MobileNetV3-Large").published
    assert f"S3 {100 * s3['brain-tumor-mri/published']['accuracy']:.1f}" in TEXT
    assert f"S0 {100 * s0['brain-tumor-mri/five-fold of the cleaned']['accuracy']:.1f}" in TEXT


def compare_starts(pair, evidence):
    runs = {start: {0: record} for start, record in pair.items()}
    return ablation.compare(runs, evidence.folder, resamples=200, reference="cold")["warm"]["difference"]

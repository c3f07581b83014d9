"""ChestX-ray14: its archive as published, several findings an image, memory, and metrics by hand."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import real_archive
from torch.nn.functional import binary_cross_entropy_with_logits

from datasets import download
from datasets.catalog import REPO, DataError, UnknownName, get
from datasets.labels import classes_of
from datasets.splitting import make_split
from datasets.store.findings import strata
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from models import build_backbone
from utils.evaluation.baselines import neighbours_findings
from utils.evaluation.findings import evaluate_findings, findings_table, thresholds_for
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.reporting import figures, tables
from utils.reporting.pooling import pool_folds
from utils.reporting.records import load_evidence, save_run
from utils.reporting.runs import Run
from utils.reporting.weights import find_weights, load_weights
from utils.training.data import load_data
from utils.training.loop import Fit, fit
from utils.training.multilabel import MeanAUC, MultiLabel

FINDINGS = get("chest-xray14").findings
spec = importlib.util.spec_from_file_location("xrays", REPO / "benchmarks/xrays.py")
xrays = importlib.util.module_from_spec(spec)
spec.loader.exec_module(xrays)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root and an empty output root."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")
    return tmp_path / "data"


def published(folder: Path, images: int = 120, **changes: str | None) -> Path:
    """An archive in the publisher's form; `changes`: file name with its dot as `_` → text, None leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    xrays.archive(folder / "whole.zip", images, 32)
    with zipfile.ZipFile(folder / "whole.zip") as whole, zipfile.ZipFile(folder / "data.zip", "w") as other:
        for member in whole.namelist():
            content = changes.get(member.replace(".", "_"), whole.read(member))
            if content is not None:
                other.writestr(member, content)
    return folder / "data.zip"


def bring(archive: Path) -> int:
    return download.main(["chest-xray14", "--archive", str(archive), "--workers", "1", "--size", "32", "--partial"])


def test_the_whole_set_comes_in_by_patient_with_its_published_split(root, tmp_path, capsys):
    assert bring(published(tmp_path)) == 0
    table = read_manifest("chest-xray14")
    assert len(table) == 120 and table.patient.nunique() == 30
    assert {"follow_up", "age", "sex", "position"} <= set(table.columns) and set(table.position) == {"PA"}
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        tested = set(archive.read("test_list.txt").decode().split())
        assert len([m for m in archive.namelist() if m.startswith("images_012/images/")]) == 10
    assert set(table.path[table.published_split == "test"].str.rpartition("/")[2]) == tested
    split = make_split("chest-xray14", "published")
    assert not split.seen.any() and len(split.test) == len(tested), "the lists of the publisher share no patient"
    assert download.main(["chest-xray14", "--check"]) == 1
    assert "Hernia: " in capsys.readouterr().err, "fewer images than the whole set has"


def test_a_sample_has_no_published_split_and_no_counts_to_miss(root, tmp_path, capsys):
    with zipfile.ZipFile(published(tmp_path)) as archive, zipfile.ZipFile(tmp_path / "sample.zip", "w") as sample:
        table = archive.read("Data_Entry_2017.csv").decode().splitlines()
        few = [",".join(line.split(",")[:2] + line.split(",")[3:4]) for line in table]
        sample.writestr("sample_labels.csv", "\n".join(few))
        sample.writestr("sample/sample_labels.csv", "\n".join(few))
        for member in archive.namelist():
            if member.endswith(".png"):
                sample.writestr(f"sample/images/{Path(member).name}", archive.read(member))
    assert bring(tmp_path / "sample.zip") == 0
    assert download.main(["chest-xray14", "--check"]) == 0, capsys.readouterr().err
    assert set(read_manifest("chest-xray14").published_split) == {""} and set(read_manifest("chest-xray14").age) == {""}
    with pytest.raises(DataError, match="published without a test folder"):
        make_split("chest-xray14", "published")


TABLE = "Image Index,Finding Labels,Follow-up #,Patient ID\n"
FIRST = TABLE + "00000001_000.png,{},0,{}\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Data_Entry_2017_csv": None}, "neither Data_Entry_2017.csv nor"),
        ({"Data_Entry_2017_csv": "a,b\n1,2\n"}, "its columns should be Image Index, Finding Labels, Patient ID"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass", 1)}, "00000001_001.png has no row in the table of findings"),
        ({"Data_Entry_2017_csv": FIRST.format("Mas", 1)}, "'Mas' is not of the 14 findings"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass|No Finding", 1)}, "'Mass|No Finding' is not of the 14 findings"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass", "")}, "line 2: 00000001_000.png has no patient"),
        ({"Data_Entry_2017_csv": FIRST.format("Mass", 1) + "00000001_000.png,Mass,0,1\n"}, "line 3: 00000001_000"),
        ({"test_list_txt": None}, "train_val_list.txt is there without the other list"),
        ({"test_list_txt": "00000009_000.png\n"}, "is in neither of train_val_list.txt and test_list.txt"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_in_one_line(changes, said, root, tmp_path, capsys):
    assert bring(published(tmp_path, **changes)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not [path for path in root.iterdir() if not path.name.endswith(".lock")]


def test_thousands_of_xrays_pack_in_little_memory(tmp_path):
    """The twin of `benchmarks/xrays.py`: with 3,000 images what is held may hardly depend on their number."""
    held = {}
    for images in (300, 3000):
        path = tmp_path / f"{images}.zip"
        xrays.archive(path, images, 64)
        _, held[images] = xrays.bring_in(path, tmp_path / str(images))
    per_image = (held[3000] - held[300]) / 2700
    assert held[3000] < 2 * 2**30
    assert held[300] + 112_120 * per_image < 2 * 2**30, f"{per_image:.0f} bytes for each further X-ray"


def test_what_the_whole_set_takes_is_what_the_benchmark_measured():
    found = json.loads((REPO / "saved_metrics/benchmarks/xrays.json").read_text())
    memory = found["GiB of memory at most"]
    assert found["images"] == 112_120 and memory < 2
    text = (REPO / "datasets/README.md").read_text()
    assert f"take {found['seconds']:.0f} seconds on two cores ({found['images a second']} a second)" in text
    assert f"at most {memory:.2f} GiB of memory" in text


def test_findings_are_read_from_labels_or_masks(root, tmp_path):
    assert bring(published(tmp_path)) == 0
    table = read_manifest("chest-xray14")
    data = ImageDataset("chest-xray14", np.arange(40), image_size=32, target="findings")
    assert data.classes == FINDINGS and data.labels.shape == (40, 14) and data.labels.dtype == torch.float32
    for row in range(40):
        named = {f for f, is_shown in zip(FINDINGS, data.labels[row], strict=True) if is_shown}
        assert named == set(table.label[row].split("|")) - {"No Finding"}
    assert data.batch([3, 5])["label"].equal(data.labels[[3, 5]])
    with pytest.raises(DataError, match="may show several findings; take target='findings'"):
        ImageDataset("chest-xray14", np.arange(3), image_size=32)
    with pytest.raises(DataError, match="'sartaj' has neither findings nor masks"):
        classes_of("sartaj", "findings")


def test_of_a_set_with_masks_a_finding_is_a_mask_that_is_not_empty(roots):
    rows = np.arange(30)
    data = ImageDataset("phantom", rows, image_size=32, target="findings")
    assert data.classes == ("NCR", "ED", "ET")
    assert (data.labels.numpy() == read_masks("phantom", rows).any(axis=(2, 3))).all() and data.labels.any()


def test_folds_are_stratified_by_the_rarest_finding(root, tmp_path):
    assert bring(published(tmp_path, images=400)) == 0
    table = read_manifest("chest-xray14")
    kinds, often = strata("chest-xray14", table), table.label.str.split("|").explode().value_counts()
    assert all(often[k] == min(often[f] for f in names.split("|")) for k, names in zip(kinds, table.label, strict=True))
    parts = [make_split("chest-xray14", "patient", fold) for fold in range(5)]
    assert sorted(np.concatenate([p.test for p in parts])) == list(range(400))
    assert not any(p.seen.any() for p in parts)


# ---- learning and judging ------------------------------------------------------------------------------


def test_losses_by_hand():
    logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    positives = torch.tensor([25.0, 0.0])
    weighted = MultiLabel(2, positives, 100)
    wanted = binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor([3.0, 50.0]))
    assert weighted.loss(logits, targets) == pytest.approx(wanted.item())
    assert MultiLabel(2, positives, 100, loss="bce").loss(logits, targets) == pytest.approx(
        binary_cross_entropy_with_logits(logits, targets).item()
    )
    p = logits.sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    terms = torch.where(targets == 1, -(1 - p) * p.log(), -(shifted**4) * (1 - shifted).log())
    asymmetric = MultiLabel(2, positives, 100, loss="asymmetric").loss(logits, targets)
    assert asymmetric == pytest.approx(terms.mean().item(), rel=1e-4)
    with pytest.raises(UnknownName, match="did you mean 'asymmetric'"):
        MultiLabel(2, positives, 100, loss="asymetric")


def test_mean_auc_leaves_out_what_cannot_be_judged():
    metric = MeanAUC()
    logits = torch.tensor([[3.0, 0.0, 1.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0], [-1.0, 2.0, 3.0]])
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])  # the second none shows, the third all
    metric.update(logits[:2], targets[:2])
    metric.update(logits[2:], targets[2:])
    assert metric.compute() == 1.0
    metric.update(torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.0, 0, 1]]))
    assert metric.compute() == pytest.approx(3 / 4)
    empty = MeanAUC()
    empty.update(logits, targets[:, [1, 2, 2]])
    assert empty.compute().isnan()


def predictions(images: int = 200, seed: int = 0) -> pd.DataFrame:
    """Two findings with scores that overlap, a third that none shows; two images a patient."""
    rng = np.random.default_rng(seed)
    table = {"path": [f"{i}.png" for i in range(images)], "group": [f"p{i // 2}" for i in range(images)]}
    for name, share in (("a", 0.3), ("b", 0.05), ("c", 0.0)):
        shown = (rng.random(images) < share).astype(int)
        score = rng.normal(shown, 1)
        table |= {f"y_{name}": shown, f"p_{name}": score, f"called_{name}": (score > 0.8).astype(int)}
    return pd.DataFrame(table)


def test_metrics_of_findings_by_hand():
    table = predictions()
    found = evaluate_findings(table, ("a", "b", "c"), resamples=100)
    a, shown = found["per_class"]["a"], table.y_a == 1
    pairs = table.p_a[shown].to_numpy()[:, None] > table.p_a[~shown].to_numpy()
    assert a["auc"]["value"] == pytest.approx(pairs.mean(), abs=1e-6)
    ranked = table.sort_values("p_a", ascending=False).y_a.to_numpy()
    precision = ranked.cumsum() / np.arange(1, len(ranked) + 1)
    assert a["average_precision"]["value"] == pytest.approx(precision[ranked == 1].mean(), abs=1e-6)
    called = table.called_a == 1
    wanted = {"sensitivity": called[shown].mean(), "specificity": 1 - called[~shown].mean()}
    wanted["precision"] = shown[called].mean()
    wanted["f1"] = 2 / (1 / wanted["sensitivity"] + 1 / wanted["precision"])
    assert {m: a[m]["value"] for m in wanted} == pytest.approx(wanted, abs=1e-6)
    assert all(a[m]["low"] < a[m]["value"] < a[m]["high"] for m in wanted)
    assert a["images"] == shown.sum() and found["groups"] == 100 and found["images"] == 200
    assert found["per_class"]["c"]["auc"]["value"] is None and found["per_class"]["c"]["images"] == 0
    both = [found["per_class"][name]["auc"]["value"] for name in "ab"]
    assert found["metrics"]["macro_auc"]["value"] == pytest.approx(np.mean(both), abs=1e-6)
    json.dumps(found, allow_nan=False)


def test_intervals_are_over_patients():
    once = predictions(100)
    often = pd.concat([once] * 10)
    narrow = evaluate_findings(often.assign(group=range(1000)), ("a",), resamples=200)["per_class"]["a"]["auc"]
    whole, alone = (evaluate_findings(t, ("a",), resamples=200)["per_class"]["a"]["auc"] for t in (often, once))
    assert (whole["low"], whole["high"]) == (alone["low"], alone["high"]), "a patient's copies are no further patients"
    assert narrow["high"] - narrow["low"] < 0.6 * (whole["high"] - whole["low"])


def test_thresholds_have_the_best_f1_on_validation():
    table = predictions(300, seed=1)
    probs, shown = (table[[f"{kind}_{name}" for name in "abc"]].to_numpy() for kind in "py")
    chosen = thresholds_for(probs, shown)
    assert np.isnan(chosen[2]), "a finding that validation lacks has none"
    for k in (0, 1):

        def f1(threshold, k=k):
            called = probs[:, k] >= threshold
            return 2 * (called & (shown[:, k] == 1)).sum() / (called.sum() + shown[:, k].sum())

        assert f1(chosen[k]) == max(f1(t) for t in probs[:, k])


def test_the_neighbours_share_of_a_finding(roots):
    data = ImageDataset("phantom", np.arange(40), image_size=16, target="findings")
    own = neighbours_findings(data, data, neighbours=1)
    copies = np.array([int(np.flatnonzero((data.batch(range(40))["image"] == image).flatten(1).all(1))[0])
                       for image in data.batch(range(40))["image"]])  # fmt: skip
    assert (own == data.labels.numpy()[copies]).mean() > 0.95, "the nearest image is the image itself"
    assert np.allclose(neighbours_findings(data, data, neighbours=40), data.labels.numpy().mean(0))


@pytest.fixture
def finished(roots):
    """All five folds of a small network, one epoch each, on the phantom's findings; the last network."""
    for fold in range(5):
        how = {"recipe": "chexnet", "image_size": 64, "pretrained": False, "target": "findings"}
        run = Run(dataset="phantom", split="patient", fold=fold, model="SqueezeNet", **how)
        recipe = get_recipe("chexnet", "SqueezeNet", epochs=1)
        data = load_data(run)
        net = build_backbone("SqueezeNet", num_classes=3, in_channels=3, image_size=64, head="linear")
        task = MultiLabel(3, data.train.labels.sum(0), len(data.train), 3, recipe.loss, recipe.augmentation)
        if fold == 0:
            done = fit(net, task, data.train, data.val, recipe, folder=run.folder)
            assert {"val_auc", "val_loss", "train_auc"} <= set(done.history)
        else:
            done = Fit(pd.DataFrame({"epoch": [1], "seconds": [1.0], "val_auc": [0.5]}), 1)
        thresholds = thresholds_for(predict(net, task, data.val), data.val.labels.numpy())
        table = findings_table(data, predict(net, task, data.test), thresholds)
        result = evaluate_findings(table, data.classes, resamples=10)
        save_run(run, result, table, model=net, recipe=recipe, fit=done, sizes=data.sizes)
    return run, net


def test_a_run_of_findings_leaves_evidence_that_pools_and_loads(finished, roots):
    run, net = finished
    assert run.id == "phantom.patient-f4.SqueezeNet.chexnet-scratch-64px-findings.seed0" and run.task == "findings"
    record = next(r for r in load_evidence().of("findings") if r["id"] == run.id)
    again = evaluate_findings(load_evidence().predictions(record), ("NCR", "ED", "ET"), resamples=10)
    assert {key: record[key] for key in again} == again, "the predictions alone give the metrics"
    (path,) = pool_folds(roots / "saved_metrics", resamples=10)
    pooled = json.loads(path.read_text())
    assert pooled["images"] == len(read_manifest("phantom")) and len(pooled["folds"]) == 5
    assert pooled["metrics"]["macro_auc"]["value"] is not None
    shown = tables.findings_runs(load_evidence())
    assert shown[["split", "network"]].to_numpy().tolist() == [["patient, all folds", "SqueezeNet"]]
    loaded = load_weights(find_weights(run.id))
    image = torch.rand(2, 3, 64, 64)
    assert torch.allclose(loaded(image), net.eval()(image))


def test_figures_of_findings():
    found = evaluate_findings(predictions(), ("a", "b", "c"), resamples=10)
    drawn = figures.finding_bars(found["per_class"], found["images"])
    assert drawn.axes[0].get_yticklabels()[0].get_text() == "c (0)"
    shown = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    numbers = [t.get_text() for t in figures.together(shown, "abc").axes[0].texts]
    assert numbers == ["2", "1", "0", "1", "1", "0", "0", "0", "0"]
    assert tables.by_finding(found["per_class"]).loc["c", "AUC"] == "–"


@pytest.mark.real
def test_the_real_sample(root, capsys):
    assert download.main(["chest-xray14", "--archive", str(real_archive("chest-xray14")), "--size", "64"]) == 0
    assert download.main(["chest-xray14", "--check"]) == 0
    table = read_manifest("chest-xray14")
    assert len(table) == 1000 and table.patient.nunique() == 264
    split = make_split("chest-xray14", "patient", 0)
    data = ImageDataset("chest-xray14", split.test, image_size=64, target="findings")
    assert not split.seen.any() and data.labels.sum() > 100

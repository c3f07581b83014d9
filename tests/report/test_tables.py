"""Tables of the committed runs are those of the snapshot; how runs are found, compared and written."""

import numpy as np
import pandas as pd
import pytest

from datasets.catalog import REPO, DataError
from utils.evaluation.classification import by_scan, evaluate
from utils.evaluation.intervals import mean_interval
from utils.recipes.published import published_table
from utils.report.records import METRICS, VALIDATION, load_evidence, write_record
from utils.report.tables import BLOCKS
from utils.report.tables.audits import audits
from utils.report.tables.classification import by_relatives, external_tests
from utils.report.tables.common import (
    budgets,
    class_summary,
    compare,
    find_run,
    format_ci,
    markdown,
    matching,
    of_scans,
    show,
)
from utils.report.tables.transfer import differences_to_probe, ensembles
from utils.run import Run

SNAPSHOT = REPO / "tests/golden/tables"
EMPTY = pd.DataFrame({"path": ["a"], "group": ["g"]})
IMAGES = [f"g{i:03}" for i in range(100)]
PROBE = {"model": "ResNet50-v2", "recipe": "probe", "pretrained": True, "image_size": 224, "task": "transfer"}


def entry(value, spread=0.05):
    return {"value": value, "low": max(0, value - spread), "high": value + spread}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_committed_runs_give_the_tables_of_the_snapshot(name):
    made = BLOCKS[name](load_evidence(REPO / "saved_metrics")).to_csv(index=False)
    assert made == (SNAPSHOT / f"{name}.csv").read_text(), f"a result changed; if it should, write {name}.csv anew"


def test_no_table_is_lost():
    assert set(BLOCKS) == {path.stem for path in SNAPSHOT.glob("*.csv")}


@pytest.mark.parametrize("name", BLOCKS)
def test_without_a_run_a_table_says_so(name, tmp_path):
    text = markdown(BLOCKS[name](load_evidence(tmp_path)))
    assert any(words in text for words in ("*not run yet*", "–", "not run here"))


@pytest.mark.parametrize(
    ("numbers", "how", "text"),
    [
        ((0.9712, 0.96, 0.98), {}, "97.1 (96.0–98.0)"),
        ((0.9712, 0.96, 0.98), {"percent": False}, "0.971 (0.960–0.980)"),
        ((12.34, 10, 15), {"percent": False, "digits": 1}, "12.3 (10.0–15.0)"),
        ((0.01, -0.02, 0.04), {"sign": True}, "+1.0 (-2.0 to +4.0)"),
        ((1.0, None, None), {}, "100.0"),
        ((None, None, None), {}, "–"),
        ((np.nan, np.nan, np.nan), {}, "–"),
    ],
)
def test_a_value_is_written_with_its_interval(numbers, how, text):
    assert format_ci(dict(zip(("value", "low", "high"), numbers, strict=True)), **how) == text


@pytest.fixture
def put_share(put):
    """Writes a run that answers a share of 100 images rightly; returns the evidence so far."""

    def write(share, paths=IMAGES, seed=0, validation=None, **of):
        right = np.arange(len(paths)) < round(share * len(paths))
        predicted = np.where(right, "glioma", "notumor")
        table = pd.DataFrame({"path": paths, "label": "glioma", "group": paths, "predicted": predicted})
        table["p_glioma"], table["p_notumor"] = right.astype(float), 1.0 - right
        run = Run(**{"dataset": "brain-tumor-mri", "split": "published", "seed": seed} | of)
        known = run.recipe not in ("probe", "none")
        facts = {"recipe": {"name": run.recipe, "epochs": 3} if known else None, "images": len(paths)}
        facts |= {"training": {"epochs": 3, "seconds": 60.0, "val_accuracy": validation or share} if known else None}
        return put(run, table, metrics={"accuracy": mean_interval(right, paths)}, **facts)

    return write


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_summary_says_what_an_accuracy_is_to_be_compared_with(collapsed):
    """A network that calls every image by the name of the commonest class is right on 76.9 %, as is that name."""
    label = np.repeat(["well", "sick"], [30, 9])
    predicted = np.full(39, "well") if collapsed else label
    table = pd.DataFrame({"label": label, "predicted": predicted, "group": range(39), "p_sick": 0.4, "p_well": 0.6})
    result = evaluate(table, ["sick", "well"], resamples=20)
    said = class_summary(result)
    assert "sick 9, well 30" in said and "always 'well' would be right on 76.9 %" in said
    assert f"balanced accuracy {50 if collapsed else 100}.0 " in said
    assert ("ONE CLASS ONLY, 'well'" in said) == collapsed


def test_a_run_is_found_among_those_of_full_size_on_stored_images_asked_for_their_label(put_share):
    of = {"model": "CustomCNN", "split": "patient"}
    put_share(0.9, image_size=64, **of), put_share(0.8, view="upright", **of), put_share(0.7, target="tumour", **of)
    evidence = put_share(0.5, model="1-NN", recipe="none", split="patient", image_size=64)
    assert find_run(evidence.runs, **of) is None and find_run(evidence.runs, **of, image_size=64).accuracy == 0.9
    assert find_run(evidence.runs, title="1-NN", split="patient").accuracy == 0.5, "a baseline has no size"
    runs = put_share(0.6, **of, fold=None).runs
    assert find_run(runs, **of) is None and find_run(runs, **of, fold=None).tested == "patient, all folds"
    assert len(matching(runs, fold=None)) == 1 and len(matching(runs, fold=0)) == 4


def test_a_spec_of_columns_makes_a_table(put_share):
    runs = put_share(0.5, model="1-NN", recipe="none").runs
    shown = show(runs, "set = dataset | seed | epochs | accuracy | share = accuracy. | TTA = tta.gain")
    interval = mean_interval(np.arange(100) < 50, IMAGES)
    row = ["brain-tumor-mri", 0, "–", format_ci(interval), format_ci(interval, percent=False), "–"]
    assert shown.columns.tolist() == ["set", "seed", "epochs", "accuracy", "share", "TTA"]
    assert shown.iloc[0].tolist() == row


def test_better_worse_and_no_difference_to_the_probe_are_told_apart(put_share):
    put_share(0.6, **PROBE)
    put_share(0.9, model="CustomCNN"), put_share(0.2, model="AlexNet"), put_share(0.9, model="CustomCNN", seed=1)
    put_share(0.9, paths=IMAGES[:50], model="VGG16"), put_share(0.9, model="ViT", split="cleaned")
    evidence = put_share(0.61, model="ViT")
    table = BLOCKS["paired"](evidence)
    assert table.model.tolist() == ["CustomCNN", "ViT", "AlexNet"], "first seeds that tested the same images"
    assert table["minus linear probe, points"].str.split().str[0].tolist() == ["+30.0", "+1.0", "-40.0"]
    assert table["p, corrected"].tolist()[1] == "1.000"
    assert [one.verdict for one in differences_to_probe(evidence).difference] == [
        "better",
        "no difference shown",
        "worse",
    ]


def test_some_folds_stand_together_and_say_how_many(put_share):
    """Folds 0, 1 and 3 of a network; the probe is there whole, pooled from the folds."""
    of = {"model": "ResNet50-v2", "recipe": "probe-first", "pretrained": True, "split": "patient", "task": "transfer"}
    for fold, share in {0: 0.5, 1: 0.8, 3: 0.8}.items():
        put_share(share, paths=[f"{fold}-{name}" for name in IMAGES], fold=fold, **of)
    paths = [f"{fold}-{name}" for fold in range(5) for name in IMAGES]
    evidence = put_share(0.4, paths=paths, fold=None, split="patient", **PROBE)
    (row,) = BLOCKS["paired"](evidence).to_dict("records")
    assert row["split"] == "patient, 3 folds" and row["minus linear probe, points"].startswith("+3.3 (")


def test_the_primary_hypotheses_have_their_rows_and_are_named():
    evidence = load_evidence(REPO / "saved_metrics")
    tuned = {"title": "ResNet50-v2", "recipe": "probe-first-turned", "tested": "patient, all folds", "target": "label"}
    assert matching(differences_to_probe(evidence), **tuned).dataset.tolist() == ["brain-tumor-mri", "cheng", "sartaj"]
    assert len(BLOCKS["same_images"](evidence)) > 10
    for place in ("README.md", "notebooks/8_results.ipynb"):
        assert "Two hypotheses are primary" in (REPO / place).read_text(), place


def test_methods_are_compared_with_one_budget_and_the_same_seeds(put_share):
    of = {"model": "MultiTaskUNet", "split": "patient", "n_filters": 8}
    for seed in (0, 1, 2):
        put_share(0.5, seed=seed, recipe="s0", **of)
    put_share(0.6, seed=0, recipe="s0-flat", **of), put_share(0.7, seed=1, recipe="s0-flat", **of)
    evidence = put_share(0.9, recipe="s0-fixed", **of | {"image_size": 64})
    (runs,) = budgets(matching(evidence.runs, task="multitask"), "s0")
    assert runs.recipe.tolist() == ["s0"] * 2 + ["s0-flat"] * 2 and runs.seed.tolist() == [0, 1, 0, 1]
    found = compare(evidence, runs, "s0").set_index("recipe")
    assert found.difference["s0"] is None and found.difference["s0-flat"].by_seed == (0.1, 0.2)
    assert found.gain["s0"] == "–" and found.gain["s0-flat"].startswith("+15.0 (")
    assert found.validation["s0-flat"] == "65.0" and found.seeds["s0-flat"] == [0.6, 0.7]
    evidence = put_share(0.7, seed=1, paths=IMAGES[1:], recipe="s0-flat", **of)
    with pytest.raises(DataError, match=r"s0-flat.*its test images are not those of the runs beside it; run it again"):
        compare(evidence, runs, "s0")


def test_a_sensitivity_elsewhere_stands_beside_a_specificity(put):
    """Where the other set has no healthy images: at home, then on the images of the 44 classes once these were run."""
    of = {"dataset": "brain-tumor-mri", "model": "CustomCNN", "recipe": "s2"}

    def tested(tumours, healthy, rates, scores, **where):
        label = np.repeat(["tumour", "notumor"], [tumours, healthy])
        names = [f"{where} {i}" for i in range(len(label))]
        table = pd.DataFrame({"path": names, "label": label, "predicted": label, "group": names})
        table["p_notumor"] = 1 - np.repeat(scores, [tumours, healthy])
        metrics = {
            f"tumour_{name}": entry(value) for name, value in zip(("sensitivity", "specificity"), rates, strict=True)
        }
        counts = {"tumour": {"images": tumours}, "notumor": {"images": healthy}}
        facts = {"tumour_or_none": {"threshold": 0.9, "specificity_on_validation": 0.955}}
        facts["tumour_or_none"] |= {"sensitivity": entry(rates[0] - 0.1), "specificity": entry(rates[1] + 0.01)}
        metrics |= {"accuracy": entry(0.5), "tumour_auc": entry(0.8)}
        return put(Run(**of, **where), table, metrics=metrics, per_class=counts, training={}, **facts)

    tested(40, 40, (0.97, 0.94), (0.9, 0.2), split="patient", fold=None)
    evidence = tested(134, 2, (0.5, 0.5), (0.6, 0.1), split="external", test_on="navoneel")
    row = external_tests(evidence).iloc[0]
    assert row["healthy images"] == "at home" and row.AUC == "–"
    assert (row.sensitivity, row.specificity) == ("50.0 (45.0–55.0)", "94.0 (89.0–99.0)")
    chosen, promised = (
        "at the validation threshold: sensitivity / specificity",
        "at home, by patient: sensitivity / specificity",
    )
    assert row[chosen] == "40.0 (35.0–45.0) / 95.5 on validation" and row[promised].startswith(
        "97.0 (92.0–102.0) / 94.0"
    )
    evidence = tested(60, 30, (0.7, 0.8), (0.9, 0.7), split="external", test_on="brain-tumor-44c")
    every = external_tests(evidence)
    table = every[every.tumours != "not run here"].set_index("trained on → tested on")
    row, own = table.loc["brain-tumor-mri → navoneel"], table.loc["brain-tumor-mri → brain-tumor-44c"]
    assert (row["healthy images"], row.specificity) == ("30 of brain-tumor-44c", "80.0 (75.0–85.0)")
    assert row[chosen] == "40.0 (35.0–45.0) / 81.0 (76.0–86.0)"
    assert row.AUC.startswith("0.000") and own.AUC.startswith("0.800"), "tumours of one set, healthy of the other"
    planned = every.set_index("model").tumours
    assert "not run here" in planned["ResNet50-v2, probe-first-turned-pretrained-224px"].tolist()
    for one in external_tests(load_evidence(REPO / "saved_metrics")).itertuples():
        assert one.sensitivity == "–" or one.specificity != "–" or "– / –" not in one[-2], "it stands alone"


def test_an_ensemble_needs_the_validation_images_of_every_member(put):
    label = ["glioma", "notumor"] * 10
    table = pd.DataFrame({"path": [f"{i:02}" for i in range(20)], "label": label, "group": range(20)})
    for strength, of in enumerate(
        (
            {"model": "ResNet50-v2", "recipe": "probe-first-turned", "image_size": 224, "pretrained": True},
            PROBE,
            {"model": "CustomCNN"},
        )
    ):
        sure = 0.5 + 0.1 * (strength + 1)
        p = np.where(table.label == "glioma", sure, 1 - sure)
        made = table.assign(predicted=table.label, p_glioma=p, p_notumor=1 - p)
        run = Run(dataset="brain-tumor-mri", **of)
        recipe = None if of is PROBE else {"name": run.recipe}
        evidence = put(run, made, validation=made, metrics={"accuracy": entry(1.0)}, recipe=recipe)
        assert len(ensembles(evidence)) == (strength == 2)
    assert ensembles(evidence).gained[0].value == 0, "all members answer alike"
    member = find_run(evidence.runs, title="CustomCNN").id
    (evidence.path(member) / VALIDATION).unlink()
    write_record(evidence.path(member) / METRICS, evidence.record(member))
    assert ensembles(load_evidence(evidence.folders[0])).empty


def test_the_fourth_member_is_exploratory():
    found = ensembles(load_evidence(REPO / "saved_metrics"))
    assert found.exploratory.tolist() == [False, False, True, False, True]
    assert found.members.map(len).tolist() == [3, 3, 4, 3, 4]


def test_a_difference_is_not_taken_between_runs_of_other_length_or_size(put):
    of = {"dataset": "brain-tumor-mri", "model": "CustomCNN"}
    for epochs, split, fold in ((5, "published", 0), (6, "patient", None)):
        training = {"epochs": epochs, "seconds": 1.0}
        metrics = {"accuracy": entry(0.5)}
        evidence = put(Run(split=split, fold=fold, **of), EMPTY, metrics=metrics, training=training)
    row = BLOCKS["reported"](evidence).set_index(["project", "network"]).loc[("S2", "CustomCNN")]
    assert row["difference, points"] == "–" and row["epochs, pixels"] == "5, 128 / 6, 128"


def test_tumour_or_none_is_not_answered_by_a_network_of_all_classes(put):
    """S4's ResNet50 told tumour from none; a run of the same network that names 44 classes is another result."""
    run = Run(dataset="brain-tumor-44c", split="patient", model="ResNet50", recipe="s4", pretrained=True)
    evidence = put(run, EMPTY, metrics={"accuracy": entry(0.5)}, training={})
    shown = BLOCKS["reported"](evidence).set_index(["network", "split"])
    assert shown.loc[("ResNet50", "random, binary"), "ours, by patient %"] == "–"
    assert len(shown) == len(published_table().drop_duplicates(["source", "model", "dataset", "protocol"]))


def test_test_images_are_told_apart_by_where_their_relatives_were():
    """As an independent count from the committed split table and predictions: 98.5 % against 85.3 %."""
    evidence = load_evidence(REPO / "saved_metrics")
    run = find_run(evidence.runs, dataset="brain-tumor-mri", split="published", model="CustomCNN", recipe="s2")
    found = by_relatives(evidence, run)
    assert found.images.tolist() == [1166, 136, 9] and found.images.sum() == run.images
    assert [round(entry["value"], 3) for entry in found.accuracy[:2]] == [0.985, 0.853]
    assert found.accuracy["in training"]["low"] > found.accuracy["in validation alone"]["high"]


@pytest.mark.parametrize(("dataset", "slices", "scans"), [("cheng", 93.8, 95.7), ("brain-tumor-mri", 94.5, 96.2)])
def test_a_scan_has_one_answer_that_all_its_slices_give_together(dataset, slices, scans):
    """As counted by hand from the committed predictions: products of probabilities, patient by patient."""
    evidence = load_evidence(REPO / "saved_metrics")
    of = {"dataset": dataset, "split": "patient", "fold": None, "model": "ResNet50-v2", "recipe": "probe-first-turned"}
    run = find_run(evidence.runs, **of, image_size=224)
    table, right = evidence.predictions(run.id), 0
    for _, scan in table.groupby("group"):
        products = {name: np.prod(scan[name].to_numpy() ** (1 / len(scan))) for name in scan if name.startswith("p_")}
        right += (scan.label == max(products, key=products.get).removeprefix("p_")).sum()
    assert round(100 * run.accuracy, 1) == slices and round(100 * right / len(table), 1) == scans
    assert of_scans(table)["value"] == pytest.approx(right / len(table))
    assert set(by_scan(table).groupby("group").predicted.nunique()) == {1}


def test_a_leaderboard_is_sorted_by_what_is_found_in_new_images(tmp_path):
    for name, *rates in (("all", 1, 0, 1), ("half", 0.5, None, 0.9), ("good", 0.8, 0.9, 0.5)):
        found, spared, at_home = (None if one is None else {"value": one, "low": None, "high": None} for one in rates)
        record = {"new": {"navoneel": {"sensitivity": found, "specificity": spared, "auc": None}}, "relatives": {}}
        record |= {"home": {"metrics": {"accuracy": at_home}}, "trained_on": "all", "about": {}}
        record["verdict"] = [{"answer": "yes"}, {"answer": "no"}]
        write_record(tmp_path / f"audit/{name}.json", record)
    table = audits(load_evidence(tmp_path))
    assert table.model.tolist() == ["good", "all", "half"]
    assert table.iloc[0, 1:].tolist() == ["80.0", "90.0", "–", "50.0", "–", "all", "1 of 2", "–"]

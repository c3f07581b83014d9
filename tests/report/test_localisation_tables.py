"""Tables, sentences and figures of where networks look, from records that are made here, and the command for them."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from datasets.store.index import folds_digest
from utils.report import claims, figures, tables
from utils.report.records import POINTING, load_evidence, run_folder, write_record
from utils.run import Run


def entry(value: float, spread: float = 0.05) -> dict:
    return {"value": value, "low": max(0.0, value - spread), "high": value + spread}


def looked(near: float, by_chance: float = 0.2, images: int = 50) -> dict:
    found = {name: entry(0.1) for name in ("pointing", "energy", "area", "bright_pointing", "bright_energy")}
    gain = {"value": near - by_chance, "low": near - by_chance - 0.05, "high": near - by_chance + 0.05}
    found |= {"near": entry(near), "near_area": entry(by_chance), "bright_near": entry(0.15), "gain": gain}
    return found | {"gain_bright": gain, "images": images, "patients": 9, "blank": 5}


@pytest.fixture
def measured(put, tmp_path):
    """Puts a classifier of an accuracy and how often it looks at the tumour; returns the evidence so far."""

    def write(model: str, accuracy: float, near: float, **of: object):
        run = Run(dataset="brain-tumor-mri", model=model, **of)
        record = {"metrics": {"accuracy": entry(accuracy)}, "data": {}}
        put(run, pd.DataFrame({"path": ["a"], "label": ["glioma"], "predicted": ["glioma"], "group": ["g"]}), **record)
        groups = {"all": looked(near), "glioma": looked(near), "small": looked(near / 2), "right": looked(near)}
        found = {"id": run.id, "task": run.task, "run": asdict(run), "groups": groups}
        write_record(run_folder(tmp_path, found) / POINTING, found)
        return load_evidence(tmp_path)

    return write


def test_the_sentence_counts_by_intervals_and_names_who_looks_elsewhere(measured):
    measured("AlexNet", 0.95, 0.6)
    measured("ViT", 0.95, 0.22)
    evidence = measured("CustomCNN", 0.96, 0.1)
    said = claims.looks_at_tumour(evidence)
    assert said.startswith("Of 3 committed classifiers 1 have the maximum of Grad-CAM in the tumour")
    assert "point at random would lie there, 1 less often; for 1 no difference is shown" in said
    assert "The best of them, AlexNet on `brain-tumor-mri` (published), has it there in 60.0 (55.0–65.0) %" in said
    assert "CustomCNN on `brain-tumor-mri` (published) (accuracy 96.0" in said and said.count("AlexNet") == 1
    assert "A low share alone" not in said, "without the network that is named from its outline"
    table = tables.pointing_runs(evidence)
    assert table.network.tolist() == ["AlexNet", "ViT", "CustomCNN"], "the best at pointing first"
    assert table["within 15 pixels"][0] == "60.0 (55.0–65.0)" and table["empty maps"][0] == "10 %"
    groups = tables.pointing_groups(evidence)
    assert groups["small (<1.5 %)"][0] == "30.0 (25.0–35.0)" and groups["meningioma"][0] == "–"
    figure = figures.pointing(evidence.pointing)
    assert len(figure.axes[0].get_yticklabels()) == 3


def test_without_a_network_that_is_right_and_looks_elsewhere_nobody_is_named(measured):
    said = claims.looks_at_tumour(measured("AlexNet", 0.7, 0.3))
    assert "With an accuracy" not in said


def table_of(right: np.ndarray) -> pd.DataFrame:
    names = [f"{i:02}" for i in range(len(right))]
    table = pd.DataFrame({"path": names, "label": "glioma", "group": names})
    return table.assign(predicted=np.where(right, "glioma", "pituitary"))


@pytest.fixture
def step(put):
    """Puts one step of the ablation with a number of 40 images right; returns the evidence so far."""

    def write(recipe: str, right: int, seed: int = 0):
        run = Run(
            dataset="cheng", split="patient", model="OutlineClassifier", recipe=recipe, pretrained=True, seed=seed
        )
        outline = {} if recipe == "name-only" else {name: entry(0.8) for name in ("dice", "pointing")}
        record = {
            "training": {"epochs": 6, "seconds": 60.0, "val_accuracy": right / 40},
            "recipe": {"epochs": 6},
            "outline": outline,
        }
        record |= {"grad_cam": {"all": looked(0.4)}, "metrics": {"accuracy": entry(right / 40)}}
        record |= {"data": {"folds": folds_digest("cheng")}}
        return put(run, table_of(np.arange(40) < right), **record)

    return write


def test_steps_are_compared_with_the_plain_classifier_image_by_image(step):
    step("from-outline", 38)
    alone = tables.localisation_runs(step("with-masks", 21))
    assert alone["minus name-only, points"].tolist() == ["–"] * 2, "nothing to compare with"
    evidence = step("name-only", 20)
    table = tables.localisation_runs(evidence)
    assert table.step.tolist() == ["name-only", "with-masks", "from-outline"]
    assert table["minus name-only, points"][0] == "–" and table["minus name-only, points"][2].startswith("+45.0 (+")
    assert table.Dice.tolist() == ["–", *["80.0 (75.0–85.0)"] * 2] and (table.seeds == 1).all()
    said = claims.localisation_steps(evidence)
    assert "`cheng`, patient fold 0, 1 seed" in said and "named from the outline 95.0" in said
    assert "+2.5" in said and "no difference is shown" in said, "one image more is no difference"
    step("name-only", 20, seed=1)
    table = tables.localisation_runs(step("with-masks", 21, seed=1))
    assert len(table) == 3 and (table.seeds == 1).all(), "only seeds that all steps have"
    assert (tables.localisation_runs(step("from-outline", 38, seed=1)).seeds == 2).all()
    evidence = step("from-outline-turned", 39)
    beyond = tables.localisation_runs(evidence)
    assert beyond.step.tolist()[-1] == "from-outline-turned" and beyond.seeds.tolist() == [2, 2, 2, 1]
    assert tables.localisation_runs(step("from-outline-turned", 39, seed=1)).seeds.tolist() == [2, 2, 2, 2]
    control = claims.localisation._control(evidence)
    assert "A low share alone" in control and control.count("on `cheng`") == 1, "of the other steps nothing is said"


def test_the_nearest_neighbour_beside_an_external_test_is_that_of_the_same_set(put):
    def write(model: str, test_on: str, right: int, **of):
        run = Run(dataset="brain-tumor-mri", split="external", test_on=test_on, model=model, **of)
        recipe = {"epochs": 6} if model == "OutlineClassifier" else None
        training = recipe and {"epochs": 6, "seconds": 60.0, "val_accuracy": 0.9}
        metrics = {"accuracy": entry(right / 40)}
        return put(run, table_of(np.arange(40) < right), recipe=recipe, training=training, metrics=metrics)

    write("1-NN", "sartaj", 10, recipe="none")
    evidence = write("OutlineClassifier", "navoneel", 30, recipe="name-only", pretrained=True)
    assert tables.localisation_runs(evidence)["1-NN"].tolist() == ["–"], "another set's is not shown"
    evidence = write("1-NN", "navoneel", 20, recipe="none")
    assert tables.localisation_runs(evidence)["1-NN"][0].startswith("50.0")

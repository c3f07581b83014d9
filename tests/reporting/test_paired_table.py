"""Networks beside the linear probe: who is shown to be better follows from the predictions of both."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.intervals import mean_interval
from utils.reporting import claims, tables
from utils.reporting.records import BEST_RECIPE, Evidence
from utils.reporting.runs import Run

IMAGES = [f"g{i:03}" for i in range(100)]


@pytest.fixture
def put_accuracy(put):
    def write(share: float, paths=IMAGES, seed: int = 0, **of) -> Evidence:
        right = np.arange(len(paths)) < round(share * len(paths))
        predicted = np.where(right, "glioma", "notumor")
        table = pd.DataFrame({"path": paths, "label": "glioma", "group": paths, "predicted": predicted})
        run = Run(**{"dataset": "brain-tumor-mri", "split": "published", "seed": seed} | of)
        metrics = {"accuracy": mean_interval(right, paths)}
        return put(run, table, images=len(paths), metrics=metrics, recipe={"name": run.recipe})

    return write


PROBE = {"model": "ResNet50-v2", "recipe": "probe", "pretrained": True, "image_size": 224, "task": "transfer"}


def test_better_worse_and_no_difference_are_told_apart(put_accuracy):
    put_accuracy(0.6, **PROBE)
    put_accuracy(0.9, model="CustomCNN", recipe="s2")
    put_accuracy(0.2, model="AlexNet", recipe="s2")
    evidence = put_accuracy(0.61, model="ViT", recipe="s2")
    table = tables.BLOCKS["paired"](evidence)
    assert table.model.tolist() == ["CustomCNN", "ViT", "AlexNet"], "the probe itself is none of them"
    assert table["minus linear probe, points"].str.split().str[0].tolist() == ["+30.0", "+1.0", "-40.0"]
    assert table["p, corrected"].tolist()[1] == "1.000" and float(table["p, corrected"][0].lstrip("<")) < 0.01
    said = claims.linear_probe(evidence)
    assert "Of 3 trained networks" in said and "1 are shown to be better than it, 1 to be worse, and for 1 no" in said
    assert "CustomCNN (s2, 128 pixels)" in said and "ViT" not in said and "AlexNet" not in said


def test_only_the_same_images_are_compared_and_only_once(put_accuracy):
    put_accuracy(0.6, **PROBE)
    put_accuracy(0.9, model="CustomCNN", recipe="s2", seed=1)
    put_accuracy(0.9, paths=IMAGES[:50], model="AlexNet", recipe="s2")
    evidence = put_accuracy(0.9, model="ViT", recipe="s2", split="cleaned")
    assert tables.BLOCKS["paired"](evidence).empty
    assert "not run yet" in claims.linear_probe(evidence)


def test_an_interval_without_zero_is_no_difference_where_the_corrected_test_shows_none(put_accuracy):
    put_accuracy(0.60, **PROBE)
    evidence = put_accuracy(0.65, model="ViT", recipe="s2")  # five images of a hundred: p = 2 / 2⁵
    ((_, found),) = tables.paired.differences_to_probe(evidence)
    assert found["low"] > 0 and found["p_corrected"] > 0.05
    assert "0 are shown to be better than it, 0 to be worse, and for 1 no difference" in claims.linear_probe(evidence)


def test_the_range_over_seeds_is_of_one_training_and_needs_three(put_accuracy):
    for seed, share in enumerate((0.8, 0.9, 0.85)):
        put_accuracy(share, seed=seed, model="CustomCNN", recipe="s2")
    put_accuracy(0.1, seed=3, model="CustomCNN", recipe="s2", image_size=64)  # another training
    for seed in (0, 1):
        evidence = put_accuracy(0.5, seed=seed, model="AlexNet", recipe="s2")
    table = tables.BLOCKS["seeds"](evidence)
    assert table.model.tolist() == ["CustomCNN"] and table["pixels"].tolist() == [128]
    assert table["accuracy % by seed"].tolist() == ["80.0, 90.0, 85.0"]
    assert table["mean"].tolist() == ["85.0"] and table["range, points"].tolist() == ["10.0"]
    assert "80.0 to 90.0 % over 3 seeds, a range of 10.0 points" in claims.seeds(evidence)


def test_without_three_seeds_nothing_is_said_of_them(put_accuracy):
    put_accuracy(0.8, model="CustomCNN", recipe="s2")
    evidence = put_accuracy(0.9, seed=1, model="CustomCNN", recipe="s2")
    assert tables.BLOCKS["seeds"](evidence).empty and "not run yet" in claims.seeds(evidence)


def test_an_ensemble_is_chosen_on_validation_images_and_asked_about_test_images(put):
    """The one that is right on validation gets the weight, whatever it says of the test images."""

    def write(p_validation: float, p_test: float, paths=IMAGES, kept=True, **of) -> Evidence:
        def table(p: float, paths: list[str]) -> pd.DataFrame:
            found = pd.DataFrame({"path": paths, "label": "glioma", "group": paths})
            found["predicted"] = "glioma" if p > 0.5 else "notumor"
            return found.assign(p_glioma=p, p_notumor=1 - p)

        asked = table(p_test, paths)
        run = Run(**{"dataset": "brain-tumor-mri", "split": "published"} | of)
        metrics = {"accuracy": mean_interval(asked.predicted == "glioma", paths)}
        more = {"validation": table(p_validation, [f"v{i}" for i in range(40)])} if kept else {}
        return put(run, asked, images=len(paths), metrics=metrics, recipe={"name": run.recipe}, **more)

    fine_tuned = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "pretrained": True, "image_size": 224}
    scratch = {"model": "CustomCNN", "recipe": "s2"}
    write(0.01, 0.4, **PROBE)
    write(0.01, 0.4, **fine_tuned)
    evidence = write(0.99, 0.9, **scratch)
    table = tables.BLOCKS["ensemble"](evidence)
    assert table["mean weights"].tolist() == ["0.00 / 0.00 / 1.00"]
    assert table["ensemble, accuracy %"].tolist() == ["100.0 (100.0–100.0)"]
    assert table["ResNet50-v2, fine-tuned"].str.split().str[0].tolist() == ["0.0"]
    assert table["ensemble minus fine-tuned, points"].str.split().str[0].tolist() == ["+100.0"]
    assert "+100.0" in claims.ensemble(evidence)
    write(0.01, 0.9, **fine_tuned)  # right on the test images, as only they could tell
    worse = tables.BLOCKS["ensemble"](write(0.99, 0.1, **scratch))
    assert worse["ensemble, accuracy %"].tolist() == ["0.0 (0.0–0.0)"], "the test images were not asked before"
    assert tables.BLOCKS["ensemble"](write(0.99, 0.9, paths=IMAGES[:50], **scratch)).empty, "it tested other images"
    assert tables.BLOCKS["ensemble"](write(0.99, 0.9, kept=False, model="AlexNet", recipe="s2")).empty
    outlined = {"model": "OutlineClassifier", "recipe": "from-outline", "pretrained": True}
    write(0.99, 0.4, **scratch)
    four = tables.BLOCKS["ensemble"](write(0.999, 0.9, **outlined))
    assert four["mean weights"].str.count("/").tolist() == [3] and four["named from the outline"][0].startswith("100.0")
    without = tables.BLOCKS["ensemble"](write(0.999, 0.9, kept=False, **outlined | {"seed": 1}))
    assert without["mean weights"].str.count("/").tolist() == [3], "another seed is no member"

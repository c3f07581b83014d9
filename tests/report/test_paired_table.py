"""Networks beside the linear probe: who is shown to be better follows from the predictions of both."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.intervals import mean_interval
from utils.report import claims, tables
from utils.report.records import BEST_RECIPE, Evidence
from utils.run import Run

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


def test_networks_stand_beside_the_probe_that_was_asked_the_same(put_accuracy):
    """Tumour or none is easier than the type of tumour: each has its own probe, and the target is named."""
    of = {"dataset": "brain-tumor-44c", "split": "random"}
    for target, share in {"label": 0.3, "tumour": 0.6}.items():
        put_accuracy(share, **PROBE | {"target": target}, **of)
        evidence = put_accuracy(share + 0.3, model="SqueezeNet", recipe="s4", pretrained=True, target=target, **of)
    table = tables.BLOCKS["paired"](evidence).set_index("target")
    assert table["minus linear probe, points"].str.split().str[0].to_dict() == {"tumour": "+30.0", "label": "+30.0"}
    assert table["accuracy %"].str.split().str[0].to_dict() == {"tumour": "90.0", "label": "60.0"}
    said = claims.linear_probe(evidence).splitlines()
    assert said[2].startswith("- SqueezeNet (s4, 128 pixels) on `brain-tumor-44c` (tumour or none), random: +30.0")
    assert "on `brain-tumor-44c`, random: +30.0" in said[3], "the label of the data set is what is usually asked"
    names = [tables.paired.run_name(record) for record, _ in tables.paired.differences_to_probe(evidence)]
    assert names[0].endswith("on brain-tumor-44c (tumour or none), random") and "(all" not in names[1]
    probes = tables.BLOCKS["probes"](evidence).set_index("target").random
    assert probes.str.split().str[0].to_dict() == {"label": "30.0", "tumour": "60.0"}


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
    assert table["ensemble, accuracy %"][0].startswith("100.0 (")
    assert table["ResNet50-v2, fine-tuned"].str.split().str[0].tolist() == ["0.0"]
    assert table["ensemble minus fine-tuned, points"].str.split().str[0].tolist() == ["+100.0"]
    assert "+100.0" in claims.ensemble(evidence) and "p < 0.05 after correction" in claims.ensemble(evidence)
    write(0.01, 0.9, **fine_tuned)  # right on the test images, as only they could tell
    worse = tables.BLOCKS["ensemble"](write(0.99, 0.1, **scratch))
    assert worse["ensemble, accuracy %"][0].startswith("0.0 ("), "the test images were not asked before"
    assert tables.BLOCKS["ensemble"](write(0.99, 0.9, paths=IMAGES[:50], **scratch)).empty, "it tested other images"
    assert tables.BLOCKS["ensemble"](write(0.99, 0.9, kept=False, model="AlexNet", recipe="s2")).empty
    outlined = {"model": "OutlineClassifier", "recipe": "from-outline", "pretrained": True}
    write(0.99, 0.4, **scratch)
    four = tables.BLOCKS["ensemble"](write(0.999, 0.9, **outlined))
    assert four["mean weights"].str.count("/").tolist() == [3] and four["named from the outline"][0].startswith("100.0")
    without = tables.BLOCKS["ensemble"](write(0.999, 0.9, kept=False, **outlined | {"seed": 1}))
    assert without["mean weights"].str.count("/").tolist() == [3], "another seed is no member"


def test_an_ensemble_is_compared_with_the_network_at_its_own_temperature(put):
    """A network that is right in 90 % of the images and 60 % sure: a temperature alone mends what an ensemble of it and
    of networks without a weight seems to mend."""

    def write(p: float, share: float, **of) -> Evidence:
        def table(names: list[str]) -> pd.DataFrame:
            chance = np.where(np.arange(len(names)) < round(share * len(names)), p, 1 - p)
            found = pd.DataFrame({"path": names, "label": "glioma", "group": names})
            found["predicted"] = np.where(chance > 0.5, "glioma", "notumor")
            return found.assign(p_glioma=chance, p_notumor=1 - chance)

        run, validation = Run(dataset="brain-tumor-mri", **of), table([f"v{i:02}" for i in range(40)])
        metrics = {"accuracy": mean_interval(np.arange(100) < 100 * share, IMAGES)}
        return put(
            run, table(IMAGES), images=100, metrics=metrics, recipe={"name": of["recipe"]}, validation=validation
        )

    write(0.9, 0.5, **PROBE | {"task": ""})
    write(0.9, 0.5, model="CustomCNN", recipe="s2")
    of = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "pretrained": True, "image_size": 224}
    evidence = write(0.6, 0.9, **of)
    (entry,) = tables.ensemble.ensembles(evidence)
    assert entry["weights"] == [(1.0, 0.0, 0.0)] and entry["gained"]["value"] == 0
    raw, scaled, together = (100 * error for error in entry["calibration"])
    assert raw == pytest.approx(30, abs=0.1) and scaled == pytest.approx(together) and scaled < 1
    table = tables.BLOCKS["ensemble"](evidence)
    assert table["calibration error %, fine-tuned → at its temperature → ensemble"][0].startswith("30.0 → ")
    said = claims.ensemble(evidence)
    assert f"its calibration error is {together:.1f} %, that of the fine-tuned network at its own temperature" in said
    assert f"temperature {scaled:.1f} % (as trained 30.0 %)" in said


def test_differences_of_ensembles_are_corrected_together(put):
    """Six images of a hundred that the ensemble alone names rightly are a difference on one data set, and none beside
    another data set: p = 2 / 2⁶ · 2 · (1 + 1/2)."""
    from_scratch = {"model": "CustomCNN", "recipe": "s2"}
    fine_tuned = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "pretrained": True, "image_size": 224}

    def write(right: int, p: float, dataset: str, **of) -> Evidence:
        def table(names: list[str], p: float) -> pd.DataFrame:
            named = np.arange(len(names)) < right
            found = pd.DataFrame({"path": names, "label": "glioma", "group": names})
            found["predicted"] = np.where(named, "glioma", "pituitary")
            return found.assign(p_glioma=np.where(named, p, 1 - p), p_pituitary=np.where(named, 1 - p, p))

        run, metrics = Run(dataset=dataset, **of), {"accuracy": mean_interval(np.arange(100) < right, IMAGES)}
        validation = table([f"v{i:02}" for i in range(40)], p).assign(p_glioma=p, p_pituitary=1 - p)
        more = {"metrics": metrics, "recipe": {"name": run.recipe}, "validation": validation}
        return put(run, table(IMAGES, 0.9), images=100, **more)

    def put_set(dataset: str) -> Evidence:
        write(90, 0.01, dataset, **PROBE)
        write(90, 0.01, dataset, **fine_tuned)
        return write(96, 0.99, dataset, **from_scratch)

    assert claims.ensemble(put_set("brain-tumor-mri")).count("no difference is shown") == 0
    evidence = put_set("sartaj")
    write(96, 0.01, "sartaj", **fine_tuned)
    assert "p = 0.094 after correction: no difference is shown" in claims.ensemble(evidence)

"""Sentences on classifiers from scratch and on what curation found."""

from datasets import catalog
from datasets.catalog import HEALTHY
from utils.evaluation.ablation import as_family, compare
from utils.recipes import RECIPES
from utils.recipes.published import published
from utils.report.claims.common import (
    TEST,
    accuracy_difference,
    apart,
    bullets,
    direction,
    explained,
    found_or_none,
    listed,
    not_run,
    percent,
    points,
)
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import BEST_PROBE, STEPS_AT, find_run, format_ci, in_table_order, mark, shown_size
from utils.report.records import FINE_TUNED, PROBE

DATASET = "brain-tumor-mri"
SCRATCH = tuple(model for model in RECIPES["s2"] if published("s2", model, DATASET, "published"))  # S2's classifiers
NEAREST = "1-NN"
BEST_NETWORK = BEST_PROBE.replace(PROBE, FINE_TUNED)
VIEWS = {"file": "the publisher's file", "stored": "the packed image", "levelled": "the levelled image"}


def split_effect(evidence: Evidence) -> str:
    """Accuracy on the published split and by patient, of every network and baseline of both sets that have a published
    one."""
    said = [_by_split(evidence, dataset) for dataset in (DATASET, "sartaj")]
    if not any(said):
        return not_run("published split against patient folds")
    intro = (
        "Accuracy on the published split → by patient, as far as the two intervals tell them apart (the two also "
        "test different images, so a difference is not data leakage alone):"
    )
    return explained(bullets(intro, filter(None, said)))


def _by_split(evidence: Evidence, dataset: str) -> str:
    """The methods of one data set by the split on which they are more accurate; "" where none was run on both."""
    words = {1: "higher on the published split", -1: "higher by patient", 0: "the intervals overlap"}
    found: dict[int, list[str]] = {direction: [] for direction in words}
    keys = in_table_order(evidence.headline, lambda run: (run["dataset"], run["model"]))
    for model in (model for name, model in keys if name == dataset):
        of = {"dataset": dataset, "model": model, "image_size": shown_size(model, evidence.headline)}
        shipped = find_run(evidence.headline, **of, split="published")
        patient = find_run(evidence.headline, **of, split="patient", fold=None)
        if shipped and patient:
            before, after = (record["metrics"]["accuracy"] for record in (shipped, patient))
            higher = 0 if not apart(before, after) else 1 if before["low"] > after["high"] else -1
            found[higher].append(f"{model} {percent(shipped)} → {percent(patient)}")
    parts = [f"{words[higher]}: {', '.join(models)}" for higher, models in found.items() if models]
    return f"`{dataset}`, {'; '.join(parts)}" if parts else ""


def above_nearest_neighbour(evidence: Evidence, dataset: str = DATASET, split: str = "published") -> str:
    """Each network against the nearest neighbour on the same test images."""
    of = {"dataset": dataset, "split": split}
    nearest = find_run(evidence.classification, **of, model=NEAREST)
    networks = [find_run(evidence.classification, **of, model=model) for model in SCRATCH]
    if not nearest or not any(networks):
        return not_run(f"networks from scratch beside the nearest neighbour on `{dataset}`")
    words = {1: "more accurate than", 0: "not distinguishable from", -1: "less accurate than"}
    compared = [
        (record["run"]["model"], difference)
        for record in filter(None, networks)
        if (difference := accuracy_difference(evidence, record, nearest))
    ]
    family = as_family([difference for _, difference in compared])
    said = [
        f"{model} is {words[direction(difference)]} it ({points(difference)})"
        for (model, _), difference in zip(compared, family, strict=True)
    ]
    return explained(
        f"On the {split} split of `{dataset}` the nearest neighbour, which learns nothing, reaches "
        f"{percent(nearest)}. Image by image ({TEST}), {listed(said)}."
    )


def untested_networks(evidence: Evidence, dataset: str = DATASET) -> str:
    """Which of S2's classifiers were not trained by its recipe on a real data set."""
    of = {"dataset": dataset, "recipe": "s2"}
    run = {r["run"]["model"] for r in evidence.classification if of.items() <= r["run"].items()}
    missing = [model for model in SCRATCH if model not in run]
    if not missing:
        return f"All {len(SCRATCH)} networks of S2 have been trained by its recipe on `{dataset}`."
    verb = "has" if len(missing) == 1 else "have"
    return f"{listed(missing)} {verb} not been trained by S2's recipe on `{dataset}` yet."


def cleaning(evidence: Evidence, model: str = "CustomCNN") -> str:
    """What the removal of duplicates by S0's rule changed, by data set."""
    said, better = [], []
    for dataset in ("brain-tumor-mri", "sartaj"):
        of = {"dataset": dataset, "model": model, "image_size": STEPS_AT}
        raw, clean = (find_run(evidence.classification, **of, split=split) for split in ("published", "cleaned"))
        if not raw or not clean:
            continue
        before, after = (record["metrics"]["accuracy"] for record in (raw, clean))
        overlap = "the intervals do not overlap" if apart(before, after) else "the intervals overlap"
        unseen = clean["unseen"]["images"] if clean.get("unseen") else 0
        most = max(clean["per_class"], key=lambda name: clean["per_class"][name]["images"])
        said.append(
            f"On `{dataset}` {model} reaches {percent(raw)} on all {raw['images']:,} test images and "
            f"{percent(clean)} on the {clean['images']:,} that S0's rule keeps ({overlap}); of these, {unseen} have no "
            f"duplicate, near-duplicate or same-patient slice in training, and {clean['per_class'][most]['images']} "
            f"are of one class, {most}."
        )
        better += [f"`{dataset}`"] if after["low"] > before["high"] else []
    if not said:
        return not_run("cleaning by S0's rule")
    verdict = f"improved accuracy on {listed(better)}" if better else "improved accuracy on neither set"
    if len(said) == 1 and not better:
        verdict = "did not improve accuracy"
    return explained(f"Removing duplicates {verdict}. {' '.join(said)}")


def elsewhere(evidence: Evidence) -> str:
    """How many tumours a network finds in another collection, beside what it finds by patient in its own; not those
    that outline first, of which `outlines_elsewhere` speaks."""
    said, networks = [], evidence.classifiers + evidence.transfer
    for record in networks:
        run, found = record["run"], record["metrics"].get("tumour_sensitivity")
        of = {name: run[name] for name in ("dataset", "model", "recipe", "pretrained", "image_size")}
        at_home = find_run(networks, **of, split="patient", fold=None)
        if run["split"] != "external" or not found or not at_home or not record["recipe"]:
            continue
        own, there, here = format_ci(at_home["metrics"]["tumour_sensitivity"]), _tumours(record), _tumours(at_home)
        name = f"{FINE_TUNED} {run['model']} (`{run['recipe']}`)" if run["pretrained"] else run["model"]
        said.append(
            f"{name}, {run['image_size']} pixels, trained on `{run['dataset']}`: {format_ci(found)} % of {there} from "
            f"`{run['test_on']}`{mark(record)}, by patient {own} % of {here} of its own data set{mark(at_home)}"
        )
    if not said:
        return not_run("networks on another data set than their own")
    intro = "Share of the images with a tumour whose most probable class is a tumour of any kind"
    left_out = sorted({r["run"]["model"] for r in evidence.localisation if r["run"]["split"] == "external"})
    intro += f" (without {listed(left_out)}, which chapter 6 tests)" if left_out else ""
    return explained(bullets(f"{intro}:", said))


def _tumours(record: dict) -> str:
    """How many test images show a tumour, and of which kinds where some kinds of the data set are not there."""
    images = {name: entry["images"] for name, entry in record["per_class"].items() if name != HEALTHY}
    kinds = [f"{count:,} {name}" for name, count in images.items() if count]
    some = f" ({listed(kinds)})" if len(kinds) < len(images) else ""
    return f"{sum(images.values()):,} test images with a tumour{some}"


def sources(evidence: Evidence) -> str:
    """How well a classifier that is not given the inside of the head separates tumour from none."""
    said = []
    for found in evidence.findings:
        auc = {view: metrics.get("tumour_auc") for view, metrics in found["source only"].items()}
        known = [f"{auc[view]['value']:.3f} ({name})" for view, name in VIEWS.items() if auc.get(view)]
        if known:
            said.append(f"on `{found['dataset']}` with an AUC of {listed(known)}")
    if not said:
        return not_run("source as a shortcut on real data")
    return (
        "From borders, background, sharpness and traces of files, a tree ensemble separates tumour from none "
        + "; ".join(said)
        + ". Patient folds do not prevent this, since a source crosses all folds. The levelled image is no clean "
        "measure: its outline is partly anatomy, and on the phantom, which has no such shortcut, it is above chance "
        "too."
    )


def glioma_gap(evidence: Evidence, dataset: str = "sartaj") -> str:
    """Where the gliomas of training and test come from, and how many of each the nearest neighbour finds."""
    found = next((f for f in evidence.findings if f["dataset"] == dataset), None)
    if not found or "test" not in found["linked share"]:
        return not_run(f"the glioma gap of `{dataset}`")
    share = {part: values.get("glioma", 0) for part, values in found["linked share"].items()}
    recall = {part: values.get("glioma", 0) for part, values in found["1-NN recall"].items()}
    share, recall = ({part: 100 * value for part, value in values.items()} for values in (share, recall))
    images = {part: f"{counts['glioma']:,}" for part, counts in catalog.get(dataset).counts.items()}
    return (
        f"In `{dataset}`, {share['train']:.0f} % of the {images['train']} training gliomas are slices of Cheng's "
        f"collection, and {share['test']:.0f} % of the {images['test']} test gliomas. The nearest neighbour finds "
        f"{recall['val']:.0f} % of the validation gliomas and {recall['test']:.0f} % of the test gliomas."
    )


def jitter(evidence: Evidence, dataset: str = DATASET) -> str:
    """What S2's own jitter changes beside the stronger one that stands in for it (`training/augmentation.py`)."""
    same = {"dataset": dataset, "split": "patient", "fold": 0, "model": "CustomCNN", "image_size": STEPS_AT}
    runs: dict[str, dict[int, dict]] = {"s2": {}, "s2-jitter": {}}
    for record in evidence.classification:
        run = record["run"]
        if (same | {"view": "stored"}).items() <= run.items() and run["recipe"] in runs and not record["old_folds"]:
            runs[run["recipe"]][run["seed"]] = record
    trained = {name: {seed: record["training"]["epochs"] for seed, record in of.items()} for name, of in runs.items()}
    seeds = sorted(seed for seed, epochs in trained["s2"].items() if trained["s2-jitter"].get(seed) == epochs)
    if not seeds:
        return not_run("S2's own jitter beside the stronger one")
    both = {name: {seed: of[seed] for seed in seeds} for name, of in runs.items()}
    found, epochs = compare(both, evidence.predictions, reference="s2"), both["s2"][seeds[0]]["training"]["epochs"]
    own, stronger = (f"{format_ci(found[name]['accuracy'])} %" for name in ("s2-jitter", "s2"))
    return (
        f"CustomCNN on `{dataset}`, patient fold 0, {STEPS_AT} pixels, {epochs} epochs, mean of {len(seeds)} "
        f"seed{'s' * (len(seeds) > 1)}: {stronger} with the stronger jitter, {own} with S2's own, "
        f"{found_or_none(found['s2-jitter']['difference'])}."
    )

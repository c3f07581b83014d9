"""What an audit finds out, section by section, as one record that JSON holds: every rate {value, low, high} with its
95 % interval over patients and groups of duplicates (`evaluation/intervals.py`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd
from tqdm import tqdm

from datasets.catalog import HEALTHY
from datasets.labels import viewed
from utils.audit.doors import Kept
from utils.audit.images import CHANGES, RELATIVES, UNRELATED, Images, covered, relatives
from utils.evaluation.classification import FEWEST, evaluate, too_few
from utils.evaluation.compare import BETTER, WORSE, Difference, difference
from utils.evaluation.intervals import mean_interval
from utils.evaluation.thresholds import UNKNOWN, screening, tumour_or_none
from utils.recipes.published import published_table
from utils.report import load_evidence
from utils.report.tables.common import ALL_FOLDS, BEST_PROBE, format_ci, matching

BATCH = 32  # images that are read at a time
DISTANCES = (0.8, 0.95)  # correlations of thumbnails, at which test images are divided: about a quarter and two thirds
METHODS = {"1-NN": "1-NN on pixels", BEST_PROBE: "linear probe"}  # title in the evidence → name
SPLITS = {"published": "trained on the published split", ALL_FOLDS: "trained by patient"}
ERRORS = 20  # the most confident ones, that are listed
YES, NO, UNSHOWN, UNTOLD = "yes", "no", "not shown", "cannot be told"
MOST_FALL, HALF, SURE, MISCALIBRATED = 0.1, 0.5, 0.8, 0.05  # beyond which the verdict is no
COVERED, ALONE = "tumour covered", "all but the tumour covered"


def ask(kept: Kept, images: Images, rows: np.ndarray, what: str, change: Callable | None = None) -> pd.DataFrame:
    """Answers to some images of a set, changed by `change(image, row)` if it is given: a row each, as tables of
    predictions have it, without those that were skipped."""
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    shown = tqdm(parts, what, unit=f" × {BATCH} images", disable=None, leave=False)
    none = np.empty((0, len(kept.door.classes)))
    probs = np.concatenate([none, *(kept.ask([images.show(row, change) for row in part]) for part in shown)])
    there = np.isfinite(probs).all(1)
    rows, probs, classes = rows[there], probs[there], np.array(kept.door.classes)
    table = images.manifest.iloc[rows][["path", "label"]].reset_index(drop=True)
    columns = {f"p_{name}": probs[:, k] for k, name in enumerate(classes)}
    predicted = classes[kept.door.decide(probs)]
    return table.assign(group=images.groups[rows], row=rows, predicted=predicted, **columns)


def sample(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, equally many of each label, and of each group one before any second."""
    drawn = table.sample(frac=1, random_state=0)
    drawn = drawn.assign(turn=drawn.groupby("group").cumcount()).sort_values("turn", kind="stable")
    return drawn.groupby("label").head(max(1, most // table.label.nunique())).drop(columns="turn").sort_index()


def accuracy(table: pd.DataFrame) -> dict:
    """The number of images of a table of predictions, and their accuracy."""
    return {"images": len(table), "accuracy": mean_interval(table.label == table.predicted, table.group)}


def home(table: pd.DataFrame, images: Images, copied: pd.DataFrame, classes: Sequence[str]) -> dict:
    """Section 1: all metrics on the published test set, and beside it what stands for other methods."""
    evidence = load_evidence()
    runs = matching(evidence.runs, dataset=images.name, target="label", view="stored", seed=0)
    beside = {"nearest neighbour by thumbnails": accuracy(copied)["accuracy"]}
    for (title, name), (tested, split) in product(METHODS.items(), SPLITS.items()):
        for run in matching(runs, title=title, tested=tested).id[:1]:
            same = evidence.predictions(run).query("path in @table.path")
            beside[f"{name}, {split}"] = accuracy(same)["accuracy"]
    reported = published_table().query("dataset == @images.name and protocol == 'published' and metric == 'accuracy'")
    for row in reported[reported.label == ""].itertuples():
        beside[f"reported: {row.source.upper()}, {row.model}"] = {"value": row.value, "low": None, "high": None}
    return evaluate(table, classes) | {"beside": beside, "against_nearest": asdict(difference(table, copied))}


def new(kept: Kept, sets: Mapping[str, tuple[Images, np.ndarray]], most: int) -> dict:
    """Section 3: tumour or none of images that other sets add, each set and all together."""
    tables = {}
    for name, (images, rows) in sets.items():
        known = images.manifest.iloc[rows].assign(group=images.groups[rows])
        known = sample(known.assign(label=viewed(known.label, "tumour")), most)
        table = ask(kept, images, known.index.to_numpy(), name)
        tables[name] = table.assign(label=viewed(table.label, "tumour"), group=name + " " + table.group.astype(str))
    tables |= {"together": pd.concat(tables.values())} if len(tables) > 1 else {}
    return {name: screened(table, kept.door.probabilities) for name, table in tables.items() if len(table)}


def screened(table: pd.DataFrame, probabilities: bool) -> dict:
    """Numbers of `tumours`, of those that were `found`, and of `healthy` images; sensitivity, specificity and AUC, None
    of too few images."""
    tumour = table.label.ne(HEALTHY)
    counts = {"tumours": int(tumour.sum()), "healthy": int((~tumour).sum())}
    rates = screening(table.assign(screened=""))["S0"] | {"auc": tumour_or_none(table, UNKNOWN)["auc"]}
    few = too_few(**counts) + ([] if probabilities else ["auc"])
    counts["found"] = int(table.predicted[tumour].ne(HEALTHY).sum())
    return counts | {name: None if name in few else rates[name] for name in ("sensitivity", "specificity", "auc")}


def shortcuts(kept: Kept, images: Images, before: pd.DataFrame) -> dict:
    """Section 4: a change → accuracy before and after it, and the share of answers that stay, on the same images."""
    changes = {name: (lambda image, row, change=change: change(image)) for name, change in CHANGES.items()}
    outlined = before[images.outlined[before.row]]
    for name, inside in ((COVERED, True), (ALONE, False)) if len(outlined) else ():
        changes[name] = lambda image, row, inside=inside: covered(image, images.mask(row), inside)
    found = {}
    for name, change in changes.items():
        asked = outlined if name in (COVERED, ALONE) else before
        after = ask(kept, images, asked.row.to_numpy(), name, change)
        asked = asked[asked.row.isin(after.row)].reset_index(drop=True)
        stay = mean_interval(asked.predicted == after.predicted, asked.group)
        found[name] = {"images": len(asked), "before": accuracy(asked)["accuracy"], "stay": stay}
        found[name] |= {"after": accuracy(after)["accuracy"]}
    return found


def confidence(table: pd.DataFrame) -> dict:
    """Section 5: mean confidence where it is right and where it is wrong, and the most confident errors by path."""
    sure = table.filter(like="p_").max(axis=1)
    wrong = table.assign(confidence=sure.round(4))[table.label != table.predicted]
    worst = wrong.sort_values("confidence", ascending=False, kind="stable").head(ERRORS)
    found = {"when_wrong": mean_interval(wrong.confidence, wrong.group) if len(wrong) else None}
    return found | {"errors": worst[["path", "label", "predicted", "confidence"]].to_dict("records")}


def audit(
    kept: Kept,
    images: Images,
    trained: np.ndarray,
    seen: np.ndarray,
    rows: np.ndarray,
    others: Mapping,
    most: int,
    quick: bool,
) -> dict:
    """All sections. `trained`: of every image of the set whether the model was trained on it, which decides who is a
    relative; `seen`: whether it was trained or validated on it, of which the nearest neighbour may copy any; `rows`:
    the test images; `others`: `images.new_images`; `most`: images whose changes are asked about."""
    table = ask(kept, images, rows, "published test set")
    near, labels = images.nearest(table.row.to_numpy(), seen)
    names = [
        f"correlation below {DISTANCES[0]}",
        f"correlation {DISTANCES[0]} to {DISTANCES[1]}",
        f"correlation {DISTANCES[1]} and above",
    ]
    found = {"home": home(table, images, table.assign(predicted=labels), kept.door.classes)}
    found["home"]["screened"] = screened(table, kept.door.probabilities)
    kin = relatives(images, table.row.to_numpy(), trained)
    found["relatives"] = {name: accuracy(table[kin == name]) for name in RELATIVES if name in kin}
    where = pd.Categorical.from_codes(np.digitize(near, DISTANCES), names)
    found["distance"] = {str(name): accuracy(part) for name, part in table.groupby(where, observed=True)}
    found["new"] = new(kept, others, most if quick else len(images.manifest))
    found["shortcuts"] = shortcuts(kept, images, sample(table, most)) if kept.door.changes else {}
    found["confidence"] = confidence(table) if kept.door.probabilities else None
    found["skipped"] = {f"{name}: {path}": reason for (name, path), reason in kept.door.skipped.items()}
    return found | {"verdict": verdict(found)}


# ---- verdict -------------------------------------------------------------------------------------------


def verdict(found: Mapping) -> list[dict[str, str]]:
    """Section 6: five questions, each with its answer, the numbers it rests on, and what would change it."""
    asked = {
        "Is it better than copying the label of the nearest training image?": _better(found["home"]),
        "Does its accuracy hold where training has no relative of an image?": _unrelated(found),
        "Does it keep its promise on images of other data sets?": _promise(found),
        "Does it need the tumour, and nothing but the tumour?": _needs_tumour(found["shortcuts"]),
        "Does it know when it is wrong?": _knows(found),
    }
    names = ("answer", "because", "what would change it")
    return [{"question": question, **dict(zip(names, line, strict=True))} for question, line in asked.items()]


def _below(one: Mapping, other: Mapping) -> bool:
    """Whether the interval of a share lies below that of another."""
    high, low = (entry["value"] if entry[end] is None else entry[end] for entry, end in ((one, "high"), (other, "low")))
    return None not in (high, low) and high < low


def _better(of: Mapping) -> tuple[str, str, str]:
    gain, share = Difference(**of["against_nearest"]), format_ci(of["metrics"]["accuracy"])
    because = f"{share} % of {of['images']:,} published test images are right, {gain} against the nearest neighbour"
    answer = {BETTER: YES, WORSE: NO}.get(gain.verdict, UNSHOWN)
    return answer, because, "more right answers than the nearest neighbour gives on the same images"


def _holds(pairs: Sequence[tuple[Mapping, Mapping]]) -> str:
    """Whether shares hold, each beside what it is compared with: no where the interval of one lies below that of the
    other, yes where no interval reaches more than `MOST_FALL` below the other's value, else not shown."""
    if any(_below(share, other) for share, other in pairs):
        return NO
    lows = [share["value"] if share["low"] is None else share["low"] for share, _ in pairs]
    held = all(low >= other["value"] - MOST_FALL for low, (_, other) in zip(lows, pairs, strict=True))
    return YES if held else UNSHOWN


def _unrelated(found: Mapping) -> tuple[str, str, str]:
    alone, distance = found["relatives"].get(UNRELATED), [*found["distance"].values()]
    count, answer = alone["images"] if alone else 0, UNTOLD
    because = f"{count:,} of {found['home']['images']:,} test images have no relative in training"
    if count >= FEWEST:
        because += f", and {format_ci(alone['accuracy'])} % of these are right"
        answer = _holds([(alone["accuracy"], found["home"]["metrics"]["accuracy"])])
    far, near = (format_ci(part["accuracy"]) for part in (distance[0], distance[-1]))
    because += f"; of those least like a training image {far} % are right, of those most like one {near} %, though"
    change = "training by patient, by the column `fold` of its table in datasets/splits"
    return answer, f"{because} their classes may differ", change


def _promise(found: Mapping) -> tuple[str, str, str]:
    if not found["new"]:
        return UNTOLD, "it has answered about no other data set", "answers about one, such as navoneel"
    of, at_home, because, pairs = [*found["new"].values()][-1], found["home"]["screened"], [], []
    for rate, images in (("sensitivity", of["tumours"]), ("specificity", of["healthy"])):
        if of[rate]:
            because.append(f"{rate} {format_ci(of[rate])} % on {images:,} new images")
            if at_home[rate]:
                because[-1] += f", {format_ci(at_home[rate])} % at home"
                pairs.append((of[rate], at_home[rate]))
    blind = len(pairs) == 2 and sum(here["value"] for _, here in pairs) <= 1  # as one answer to all images
    answer = NO if blind else _holds(pairs)
    answer = answer if answer == NO or len(pairs) == 2 else UNTOLD  # a sensitivity alone speaks for no model
    change = "training on images of more sources, of which each has tumours and healthy images"
    return answer, "; ".join(because) or "too few new images", change


def _needs_tumour(of: Mapping) -> tuple[str, str, str]:
    if not of:
        return UNTOLD, "nobody but its author can ask it about changed images", "another way to the model"
    falls = {name: one["before"]["value"] - one["after"]["value"] for name, one in of.items() if name in CHANGES}
    worst, stay = max(falls, key=falls.get), of[COVERED]["stay"] if COVERED in of else None
    because = f"{worst}, {format_ci(of[worst]['after'])} % are right in place of {format_ci(of[worst]['before'])} %; "
    because += f"{format_ci(stay)} % of answers stay with the tumour covered" if stay else "no masks are at hand"
    bad = falls[worst] > MOST_FALL or (stay and stay["value"] > HALF)
    change = "training that sees each class from every source and in every orientation"
    return NO if bad else YES if stay else UNTOLD, because, change


def _knows(found: Mapping) -> tuple[str, str, str]:
    if not found["confidence"]:
        return UNTOLD, "it gives classes without probabilities", "probabilities"
    wrong, error = found["confidence"]["when_wrong"], found["home"]["metrics"]["calibration_error"]["value"]
    sure = f"it is {format_ci(wrong)} % sure when it is wrong" if wrong else "it is never wrong"
    bad = error > MISCALIBRATED or (wrong and wrong["value"] > SURE)
    change = "a temperature chosen on validation images (Guo et al. 2017, arXiv:1706.04599)"
    return NO if bad else YES, f"{sure}; its expected calibration error is {100 * error:.1f} points", change

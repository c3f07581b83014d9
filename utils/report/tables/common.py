"""What all tables share: how a number and its interval are written, how runs are found, and which can be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from datasets.catalog import DataError
from datasets.splitting import PROTOCOLS
from utils.evaluation.classification import by_scan
from utils.evaluation.compare import Difference, corrected, difference, mean_score
from utils.recipes import RECIPES
from utils.recipes.recipe import Recipe
from utils.report.records import FINE_TUNED, PROBE, Evidence, columns_of
from utils.run import FULL_SIZE, Run

NONE = "–"
ALL_FOLDS, FOLD_0 = "patient, all folds", "patient fold 0"  # in `runs.tested`
BEST_PROBE = f"{PROBE} ResNet50-v2"  # of the pretrained networks at hand the largest
WEIGHTS = {True: "pretrained", False: "from scratch"}
STEPS_AT = 64  # pixels at which changes of a method are tried
IMAGES = ["dataset", "tested", "target"]  # what makes the test images of a run
BUDGET = ["dataset", "split", "test_on", "fold", "image_size", "n_filters", "pretrained"]


def format_ci(
    entry: Mapping | Difference | None, percent: bool = True, digits: int | None = None, sign: bool = False
) -> str:
    """`97.1 (96.0–98.0)` from {value, low, high}; "–" for None, no bracket where no interval could be drawn.

    `digits`: one in percent, otherwise three. `sign`: before every number, as of a `Difference`.
    """
    if isinstance(entry, Difference):
        entry, sign = entry.interval, True
    if entry is None or pd.isna(entry["value"]):
        return NONE
    scale, shape = 100 if percent else 1, f"{'+' if sign else ''}.{digits or (1 if percent else 3)}f"
    value, *limits = (format(entry[name] * scale, shape) for name in ("value", "low", "high") if pd.notna(entry[name]))
    return f"{value} ({(' to ' if sign else '–').join(limits)})" if limits else value


def class_summary(result: Mapping) -> str:
    """What the accuracy of a `result` of `evaluate` is to be compared with: the test images of each class, the share of
    the commonest, balanced accuracy (the mean recall of the classes), and whether only one class is ever predicted."""
    counts, predicted = {name: of["images"] for name, of in result["per_class"].items()}, np.sum(result["confusion"], 0)
    commonest = max(counts, key=counts.get)
    share = f"{100 * counts[commonest] / result['images']:.1f}"
    lines = [f"test images: {', '.join(f'{name} {count:,}' for name, count in counts.items())}"]
    lines.append(f"always '{commonest}' would be right on {share} %")
    lines.append(f"balanced accuracy {format_ci(result['metrics']['macro_recall'])} %")
    if np.count_nonzero(predicted) == 1:
        only = list(counts)[predicted.argmax()]
        lines.append(f"IT PREDICTS ONE CLASS ONLY, '{only}', whatever an image shows: train it longer or otherwise")
    return "\n".join(lines)


def interval(run: pd.Series, metric: str = "accuracy") -> dict:
    """{value, low, high} of a metric of a row of `Evidence.runs`; missing where the run has no such metric."""
    return {name: run.get(metric + end) for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))}


def cell(run: pd.Series | None, metric: str = "accuracy", **how: object) -> str:
    """A metric of a run with its interval, written as by `format_ci`; "–" without a run."""
    return NONE if run is None else format_ci(interval(run, metric), **how)


def cells(runs: pd.DataFrame, metric: str = "accuracy", **how: object) -> pd.Series:
    """`cell` of every run."""
    return pd.Series([cell(run, metric, **how) for _, run in runs.iterrows()], runs.index, dtype=object)


def percent(values: pd.Series) -> pd.Series:
    """Shares in percent, "–" where one is missing."""
    return pd.to_numeric(values).map(lambda one: NONE if pd.isna(one) else f"{100 * one:.1f}").astype(object)


def recipe_and_start(run: pd.Series) -> str:
    """The recipe of a run and its initial weights, or that it is a baseline."""
    return "baseline" if run.baseline else f"{run.recipe}, {WEIGHTS[run.pretrained is True]}"


def p_values(differences: Iterable[Difference]) -> list[str]:
    """Corrected p-values with three digits."""
    return [f"{one.p_corrected:.3f}" if one.p_corrected >= 0.001 else "<.001" for one in differences]


def show(runs: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Columns of runs as a table: `title = column | …`, the title alone where both are the same.

    A metric is written with its interval in percent, or as it is where its name ends with a dot; a share whose name
    ends with % in percent; of anything that is missing stands "–".
    """
    table = {}
    for title, _, name in (one.strip().partition(" = ") for one in columns.split("|")):
        column = name.rstrip(".%") if name else title
        values = runs.get(column, pd.Series(index=runs.index, dtype=object)).astype(object)
        if f"{column}_low" in runs:
            values = cells(runs, column, percent=not name.endswith("."))
        elif name.endswith("%"):
            values = percent(values)
        texts = [format_ci(one) if isinstance(one, Difference | dict) else one for one in values]
        values = pd.Series(texts, runs.index, dtype=object)
        table[title] = values.where(values.notna(), NONE)
    return pd.DataFrame(table, runs.index).reset_index(drop=True)


def show_all(parts: Sequence[pd.DataFrame], columns: str) -> pd.DataFrame:
    """Some frames of runs as one table; an empty one where nothing was run."""
    return show(pd.concat(parts), columns) if parts else pd.DataFrame()


def matching(runs: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """The runs whose columns have the values `wanted`; None stands for a missing one."""
    for name, value in wanted.items():
        runs = runs[runs[name].isna() if value is None else runs[name] == value]
    return runs


def find_run(runs: pd.DataFrame, **wanted: object) -> pd.Series | None:
    """The one run with the values `wanted` (`model`, or `title` for a probe or a fine-tuned network), among fold 0 of
    runs on images as stored, asked for their label, at full size, unless others are wanted. Baselines have no size."""
    wanted = {"view": "stored", "fold": 0, "target": "label"} | wanted
    size = wanted.pop("image_size", FULL_SIZE)
    found = matching(runs[runs.baseline | (runs.image_size == size)], **wanted)
    return None if found.empty else found.iloc[0]


def paired(evidence: Evidence, shipped: pd.Series, folds: pd.Series) -> Difference | None:
    """By how much a run over all patient folds is better than one on another split, on the test images of that one;
    None where these folds do not test each of them."""
    before, after = (evidence.predictions(run.id) for run in (shipped, folds))
    return difference(after[after.path.isin(before.path)], before)


def of_scans(predictions: pd.DataFrame, images: Iterable[str] | None = None) -> dict:
    """Accuracy {value, low, high} where each image has the answer for its whole scan (`by_scan`), on `images` or all:
    beside accuracy by slice, for runs by patient."""
    tested = by_scan(predictions)
    tested = tested if images is None else tested[tested.path.isin(images)]
    return mean_score([tested])


def on_same_images(evidence: Evidence, runs: pd.DataFrame, title: str) -> pd.DataFrame:
    """The run of a network on the test images of each of `runs`, a row each, empty where there is none."""
    of = matching(evidence.runs, title=title, view="stored").drop_duplicates(IMAGES).set_index(IMAGES)
    return of.reindex(pd.MultiIndex.from_frame(runs[IMAGES])).set_axis(runs.index)


def some_folds(evidence: Evidence, runs: pd.DataFrame) -> pd.DataFrame:
    """Of runs of which some patient folds are there, but not all, one row in their place, that says how many in
    `tested` and which in `pooled`: the accuracy of all their images, and the mean of any other metric without limits.
    """
    folds = runs[(runs.split == "patient") & runs.fold.notna() & ~runs.is_pooled].sort_values("fold")
    metrics = [name for name in runs if f"{name}_low" in runs]
    rows, joined = [], []
    for _, of in folds.groupby([folds[name].astype(str) for name in Run.__dataclass_fields__ if name != "fold"]):
        if len(of) > 1:
            one = {**of.iloc[0], "tested": f"patient, {len(of)} folds", "pooled": [*of.id]}
            one |= {**of[["train_seconds", "images"]].sum(), **of[metrics].mean()}
            one |= dict.fromkeys((metric + end for metric in metrics for end in ("_low", "_high")), np.nan)
            tested = tested_images(evidence, one)
            if "predicted" in tested:
                one |= columns_of([("accuracy", mean_score(tested))])
            rows, joined = [*rows, one], [*joined, *of.id]
    return pd.concat([runs[~runs.id.isin(joined)], pd.DataFrame(rows, columns=runs.columns)]) if rows else runs


def tested_images(evidence: Evidence, run: Mapping) -> pd.DataFrame:
    """The predictions of a run, or of the folds that a row of `some_folds` stands for."""
    names = run["pooled"] if isinstance(run["pooled"], list) else [run["id"]]
    return pd.concat([evidence.predictions(name) for name in names], ignore_index=True)


def classifiers(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks from scratch and all that they have to beat: nearest neighbour, majority, and linear probes."""
    return runs[(runs.task == "classification") | (runs.recipe == "probe")]


def that_name_a_class(runs: pd.DataFrame) -> pd.DataFrame:
    """All runs of one class an image: `classifiers`, then transfer, multi-task and localisation. `title` is the name of
    the network, of a probe that it is one."""
    order = {"classification": 0, "transfer": 2, "multitask": 3, "localisation": 4}
    runs = runs.assign(rank=runs.task.map(order).where(runs.recipe != "probe", 1))
    runs = runs.assign(title=runs.title.where(runs.baseline, runs.model))
    return runs[runs["rank"].notna()].sort_values("rank", kind="stable")


def headline(runs: pd.DataFrame) -> pd.DataFrame:
    """`classifiers` and the best way to train found here (`title` says which), each at the one size it is shown at."""
    runs = runs.assign(tuned=runs.title.astype(str).str.startswith(FINE_TUNED))
    found = matching(runs[runs.id.isin(classifiers(runs).id) | runs.tuned], view="stored", target="label")
    size = found.groupby("title").image_size.transform("max").where(found.tuned, FULL_SIZE)
    return found[found.baseline | (found.image_size == size)]


def by_split(runs: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Runs sorted by `columns`, the protocols in their order."""
    rank = list(PROTOCOLS).index
    return runs.sort_values(list(columns), key=lambda c: c.map(rank) if c.name == "split" else c, kind="stable")


def budgets(runs: pd.DataFrame, reference: str) -> list[pd.DataFrame]:
    """Sets of runs that differ in recipe and seed alone, `reference` among them, of the seeds that all recipes have;
    each in the order of `RECIPES` and of seeds."""
    found, rank = [], list(RECIPES).index
    runs = runs[runs.recipe.isin(RECIPES)].sort_values("seed", kind="stable")
    runs = runs.sort_values("recipe", key=lambda names: names.map(rank), kind="stable")
    for _, one in runs.groupby([*(runs[name].astype(str) for name in BUDGET), "epochs"], dropna=False):
        common = set.intersection(*(set(seeds) for _, seeds in one.groupby("recipe").seed))
        if common and reference in set(one.recipe) and one.recipe.nunique() > 1:
            found.append(one[one.seed.isin(common)])
    return found


def compare(
    evidence: Evidence, runs: pd.DataFrame, reference: str, by: str = "recipe", none: str = NONE
) -> pd.DataFrame:
    """Accuracy of each recipe, the mean over its seeds, and its difference to that of `reference`, image by image.

    Of `runs`, one of `budgets`, the first seed of each method (column `by`), with `seeds` (accuracy of each),
    `validation` and `mean` (over the seeds, as text), `difference` (corrected for the number of methods; None of the
    reference) and `gain` (the same as text; `none` of the reference). Raises `DataError` if runs tested other images.
    """
    groups = dict(list(runs.groupby(by, sort=False)))
    tables = {name: [evidence.predictions(one) for one in of.id] for name, of in groups.items()}
    others = [name for name in groups if name != reference]
    found = dict(zip(others, corrected(difference(tables[n], tables[reference]) for n in others), strict=True))
    if damaged := [name for name in others if found[name] is None]:
        first = groups[damaged[0]].id.iloc[0]
        raise DataError(f"{first}: its test images are not those of the runs beside it; run it again")
    return runs.drop_duplicates(by).assign(
        seeds=[of.accuracy.tolist() for of in groups.values()],
        validation=percent(pd.Series([of.val_accuracy.mean(skipna=False) for of in groups.values()])).tolist(),
        mean=[format_ci(mean_score(of)) for of in tables.values()],
        difference=[found.get(name) for name in groups],
        gain=[format_ci(found[name]) if name in found else none for name in groups],
    )


def sensitivity_specificity(runs: pd.DataFrame, rule: str) -> pd.Series:
    """Both at one threshold, for example of `tumour_or_none`; "–" where a run has none."""
    return (cells(runs, f"{rule}.sensitivity") + " / " + cells(runs, f"{rule}.specificity")).replace("– / –", NONE)


def recipe_values(recipe: Recipe) -> pd.DataFrame:
    """What a recipe states, a row a value; what it leaves out (nothing, 0, False) has no row."""
    named = ("name", "source", "stages", "stage")  # `source` is a sentence; each of `stages` has a row
    stated = {name: value for name, value in asdict(recipe).items() if value and name not in named}
    stated |= {f"stage {number}": stage for number, stage in enumerate(recipe.stages, start=1)}
    words = {name: value for name, value in stated.items() if not isinstance(value, Mapping)}
    words = {name: words.get(name) or ", ".join(f"{k} {v}" for k, v in stated[name].items()) for name in stated}
    return pd.DataFrame({"value": words})


def listed(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`; `none` of nothing."""
    *most, last = list(items) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, cells as they are (pandas needs a package for it, which pads every column to its widest)."""
    if table.empty:
        return "*not run yet*"
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def folded(title: str, table: pd.DataFrame) -> str:
    """A table in Markdown that a click opens."""
    return f"<details><summary>{title}</summary>\n\n{markdown(table)}\n\n</details>"

"""What all tables share: how a number and its interval are written, how runs are found, and which can be compared."""

from collections.abc import Sequence

import pandas as pd

from datasets.catalog import DataError
from datasets.splitting import PROTOCOLS
from utils.evaluation.compare import Difference, corrected, difference, mean_score
from utils.recipes import RECIPES
from utils.report.records import FINE_TUNED, PROBE, Evidence
from utils.run import FULL_SIZE

NONE = "–"
BEST_PROBE = f"{PROBE} ResNet50-v2"  # of the pretrained networks at hand the largest
WEIGHTS = {True: "pretrained", False: "from scratch"}
STEPS_AT = 64  # pixels at which changes of a method are tried
ALIKE = ["dataset", "split", "test_on", "fold", "image_size", "n_filters", "pretrained", "epochs"]  # of one budget
BASELINES_LAST = {"1-NN": 2, "majority": 3}


def format_ci(entry: dict, percent: bool = True, digits: int | None = None, sign: bool = False) -> str:
    """`97.1 (96.0–98.0)` from {value, low, high}; "–" for None, no bracket where no interval could be drawn.

    `digits`: one in percent, otherwise three. `sign`: of a difference, written before every number.
    """
    if pd.isna(entry["value"]):
        return NONE
    scale, shape = 100 if percent else 1, f"{'+' if sign else ''}.{digits or (1 if percent else 3)}f"
    value, low, high = (
        None if pd.isna(entry[name]) else format(entry[name] * scale, shape) for name in ("value", "low", "high")
    )
    if low is None:
        return value
    return f"{value} ({low} to {high})" if sign else f"{value} ({low}–{high})"


def interval(run: pd.Series, metric: str = "accuracy") -> dict:
    """{value, low, high} of a metric of a row of `Evidence.runs`; missing where the run has no such metric."""
    return {name: run.get(metric + end) for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))}


def cell(run: pd.Series | None, metric: str = "accuracy", **how: object) -> str:
    """A metric of a run with its interval, written as by `format_ci`; "–" without a run."""
    return NONE if run is None else format_ci(interval(run, metric), **how)


def cells(runs: pd.DataFrame, metric: str = "accuracy", **how: object) -> pd.Series:
    """`cell` of every run."""
    return pd.Series([cell(run, metric, **how) for _, run in runs.iterrows()], runs.index, dtype=object)


def texts(values: pd.Series, shape: str = "{}") -> pd.Series:
    """Every value by a format, "–" where it is missing."""
    return values.map(lambda value: NONE if pd.isna(value) else shape.format(value)).astype(object)


def percent(values: pd.Series, shape: str = "{:.1f}") -> pd.Series:
    """Shares in percent, "–" where one is missing."""
    return texts(100 * pd.to_numeric(values), shape)


def split_words(run: pd.Series, compared_with: str = "") -> str:
    """The protocol of a run in a table's words; where it is compared with a cleaned set, that it is none."""
    if run["split"] == "external":
        return f"external: {run['test_on']}"
    if run["split"] != "patient":
        return run["split"]
    words = "patient, all folds" if pd.isna(run["fold"]) else f"patient fold {run['fold']}"
    return f"{words}, not cleaned" if compared_with == "cleaned" else words


def splits(runs: pd.DataFrame) -> pd.Series:
    """`split_words` of every run."""
    return pd.Series([split_words(run) for _, run in runs.iterrows()], runs.index, dtype=object)


def recipes(runs: pd.DataFrame) -> list[str]:
    """The recipe of every run and its initial weights, or that it is a baseline."""
    return ["baseline" if r.baseline else f"{r.recipe}, {WEIGHTS[r.pretrained is True]}" for r in runs.itertuples()]


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


def classifiers(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks from scratch and all that they have to beat: nearest neighbour, majority, and linear probes."""
    return runs[(runs.task == "classification") | (runs.recipe == "probe")]


def that_name_a_class(runs: pd.DataFrame) -> pd.DataFrame:
    """All runs of one class an image: `classifiers`, then transfer, multi-task and localisation."""
    order = pd.Series({"classification": 0, "transfer": 2, "multitask": 3, "localisation": 4})
    rank = runs.task.map(order).where(runs.recipe != "probe", 1)
    return runs[rank.notna()].assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank")


def shown(run: pd.Series) -> str:
    """The network of a run: of a linear probe its title."""
    return run["title"] if run["baseline"] else run["model"]


def headline(runs: pd.DataFrame) -> pd.DataFrame:
    """`classifiers` and the best way to train found here (`title` says which), each at the one size it is shown at."""
    best = runs.title.astype(str).str.startswith(FINE_TUNED)
    found = matching(runs[runs.index.isin(classifiers(runs).index) | best], view="stored", target="label")
    largest = found.groupby("title").image_size.transform("max")
    size = largest.where(found.title.astype(str).str.startswith(FINE_TUNED), FULL_SIZE)
    return found[found.baseline | (found.image_size == size)]


def by_key(runs: pd.DataFrame, *key: str) -> pd.DataFrame:
    """One run for each value of `key`, its index; the first of several."""
    return runs.drop_duplicates(list(key)).set_index(list(key), drop=False)


def in_table_order(index: pd.MultiIndex) -> list[tuple]:
    """Keys of runs: networks first, then what they have to beat."""

    def last(value: str) -> int:
        return BASELINES_LAST.get(value, int(str(value).startswith(PROBE)))

    return sorted(index, key=lambda key: [(last(value), value) for value in key])


def by_split(runs: pd.DataFrame) -> pd.Series:
    """Where each protocol stands in a table."""
    return runs.split.map({protocol: i for i, protocol in enumerate(PROTOCOLS)})


def budgets(runs: pd.DataFrame, reference: str) -> list[pd.DataFrame]:
    """Sets of runs that differ in recipe and seed alone, `reference` among them; with the seeds that all recipes have,
    sorted by recipe and seed."""
    found = []
    order = {name: i for i, name in enumerate(RECIPES)}
    for _, one in runs.groupby([runs[name].astype(str) for name in ALIKE[:-1]] + ["epochs"], dropna=False):
        common = set.intersection(*(set(seeds) for _, seeds in one.groupby("recipe").seed))
        kept = one[one.seed.isin(common) & one.recipe.isin(order)]
        if common and reference in set(one.recipe) and one.recipe.nunique() > 1:
            found.append(kept.sort_values(["recipe", "seed"], key=lambda c: c.map(order) if c.name == "recipe" else c))
    return found


def compare(evidence: Evidence, runs: pd.DataFrame, reference: str, by: str = "recipe") -> pd.DataFrame:
    """Accuracy of each recipe, the mean over its seeds, and its difference to that of `reference`, image by image.

    Args:
        runs: one of `budgets`, or others that tested the same images; by: the column that tells the methods apart.

    Returns:
        A row a method in the order of `runs`: `accuracy` {value, low, high}, `difference` (a `Difference`, corrected
        for the number of methods; None of the reference), and the row of its first seed.

    Raises:
        DataError: a run that tested other images, or was asked for other labels of them.
    """
    tables = {name: [evidence.predictions(one) for one in of.id] for name, of in runs.groupby(by, sort=False)}
    others = [name for name in tables if name != reference]
    found: Sequence[Difference | None] = corrected(difference(tables[name], tables[reference]) for name in others)
    for name, one in zip(others, found, strict=True):
        if one is None:
            first = runs.id[runs[by] == name].iloc[0]
            raise DataError(f"{first}: its test images are not those of the runs beside it; run it again")
    first = by_key(runs, by)
    differences = dict(zip(others, found, strict=True))
    return first.assign(
        ci=[mean_score(tables[name]) for name in first.index],
        difference=[differences.get(name) for name in first.index],
        seeds=[runs.accuracy[runs[by] == name].tolist() for name in first.index],
        validation=[runs.val_accuracy[runs[by] == name].mean(skipna=False) for name in first.index],
    )


def gains(compared: pd.DataFrame, of_reference: str = NONE) -> list[str]:
    """The differences of `compare` as text."""
    return [format_ci(one.interval, sign=True) if one else of_reference for one in compared.difference]


def sensitivity_specificity(run: pd.Series, kind: str) -> str:
    """Both at one threshold, for example of `tumour_or_none`; "–" where the run has none."""
    both = [run.get(f"{kind}.{name}_low") for name in ("sensitivity", "specificity")]
    both += [run.get(f"{kind}.{name}") for name in ("sensitivity", "specificity")]
    known = not all(map(pd.isna, both))
    return f"{cell(run, f'{kind}.sensitivity')} / {cell(run, f'{kind}.specificity')}" if known else NONE


def seconds_of_one(run: pd.Series) -> float:
    """Seconds of one training; pooled folds have the sum of all of theirs."""
    return run["train_seconds"] / (len(run["pooled"]) if isinstance(run["pooled"], list) else 1)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, cells as they are; a line that says so where nothing was run.

    By hand, since pandas needs one more package for it, which pads every column to the width of its longest cell.
    """
    if table.empty:
        return "*not run yet*"
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Sentences on S0's multi-task network."""

from utils.analysis.ablation import REFERENCE, budgets, compare
from utils.reporting.claims.common import (
    accuracy_difference,
    bullets,
    by_direction,
    direction,
    explained,
    found_or_none,
    listed,
    not_run,
    percent,
    points,
)
from utils.reporting.records import Evidence
from utils.reporting.tables.common import find_run, is_pooled_elsewhere, of_steps, split_words, tested
from utils.reporting.tables.multitask import balance_effects


def _own_method(evidence: Evidence) -> list[dict]:
    """Runs of S0's own recipe at full size, all folds as one where they are all there."""
    return [
        r
        for r in evidence.multitask
        if r["run"]["recipe"] == REFERENCE and not of_steps(r["run"]) and not is_pooled_elsewhere(r, evidence.multitask)
    ]


def multitask_by_split(evidence: Evidence) -> str:
    """S0's network beside the nearest neighbour, by data set and split."""
    said = []
    for record in _own_method(evidence):
        of = {key: record["run"][key] for key in ("dataset", "split", "fold")}
        nearest = find_run(evidence.classification, **of, model="1-NN")
        if not nearest:
            continue
        gain = accuracy_difference(evidence, record, nearest)
        where = f"`{record['run']['dataset']}`, {split_words(record['run'])}"
        said.append(f"{where}: {percent(record)}; against 1-NN {found_or_none(gain)}")
    if not said:
        return not_run("S0's network on real data")
    return explained(bullets("S0's network, at a reduced width and size, beside the nearest neighbour:", said))


def multitask_ablation(evidence: Evidence) -> str:
    """Which change to S0's method shows a difference."""
    said = []
    for runs in budgets(evidence.multitask):
        found = compare(runs, evidence.predictions)
        changed = {name: entry["difference"] for name, entry in found.items() if name != REFERENCE}
        groups, seeds = by_direction(changed), len(runs[REFERENCE])
        first = next(iter(runs[REFERENCE].values()))
        parts = []
        for sign, words in {-1: "less accurate than S0's own are {}", 1: "more accurate {}"}.items():
            named = listed(f"`{name}` ({points(changed[name])})" for name in groups[sign])
            parts += [words.format(named)] if groups[sign] else []
        parts += [f"no difference is shown for {listed(f'`{n}`' for n in groups[0])}"] if groups[0] else []
        said.append(
            f"On `{first['run']['dataset']}`, {tested(first)}, mean of {seeds} seed{'s' * (seeds > 1)}: "
            f"{'; '.join(parts)}."
        )
    if not said:
        return not_run("the ablation of S0's method")
    return explained(
        " ".join(said) + " The intervals resample groups of test images, not seeds, and several methods are compared "
        "at once: a difference of a point or two is a hint."
    )


def balances(evidence: Evidence) -> str:
    """How much of the encoder's gradient the reconstruction has under each balance."""
    table = balance_effects(evidence)
    if table.empty:
        return not_run("the gradients under each balance")
    shares = listed(f"{row['its gradient, weighted']} under `{row['recipe']}`" for _, row in table.iterrows())
    return explained(
        "The gradient of the weighted reconstruction at the encoder, as a multiple of the classification's (median "
        f"over the epochs, first seed): {shares}."
    )


def reconstruction_error(evidence: Evidence) -> str:
    """Whether the reconstruction error separates tumours from none, by data set and split."""
    words = {
        1: "tumours are reconstructed with a larger error",
        0: "no difference is shown",
        -1: "tumours are reconstructed with a smaller error",
    }
    said = []
    for record in _own_method(evidence):
        auc = (record.get("anomaly") or {}).get("tumour")
        if not auc or auc["value"] is None or auc["low"] is None:
            continue
        sign = direction({"low": auc["low"] - 0.5, "high": auc["high"] - 0.5})
        interval = f"{auc['value']:.2f} ({auc['low']:.2f}–{auc['high']:.2f})"
        said.append(f"`{record['run']['dataset']}`, {tested(record)}: AUC {interval}, {words[sign]}")
    if not said:
        return not_run("the reconstruction error as an anomaly score on real data")
    return explained(bullets("The reconstruction error as an anomaly score, tumour against none:", said))

"""Sentences on S0's multi-task network."""

from utils.evaluation.ablation import REFERENCE, budgets, compare
from utils.report.claims.common import (
    LEVEL,
    TEST,
    UNCORRECTED,
    accuracy_difference,
    bullets,
    by_direction,
    direction,
    explained,
    listed,
    named,
    not_run,
    percent,
    seeds_apart,
    verdicts,
)
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import find_run, is_pooled_elsewhere, of_steps, same_folds, split_words, tested
from utils.report.claims.old.multitask import balance_effects


def _own_method(evidence: Evidence) -> list[dict]:
    """Runs of S0's own recipe at full size, all folds as one where they are all there."""
    return [
        r
        for r in evidence.multitask
        if r["run"]["recipe"] == REFERENCE and not of_steps(r["run"]) and not is_pooled_elsewhere(r, evidence.multitask)
    ]


def multitask_by_split(evidence: Evidence) -> str:
    """S0's network beside the nearest neighbour, by data set and split."""
    pairs = []
    for record in _own_method(evidence):
        of = {key: record["run"][key] for key in ("dataset", "split", "fold")}
        nearest = find_run(evidence.classification, **of, model="1-NN")
        pairs += [(record, nearest)] if nearest else []
    if not pairs:
        return not_run("S0's network on real data")
    said = []
    for pair, found in zip(pairs, verdicts([accuracy_difference(evidence, *pair) for pair in pairs]), strict=True):
        where = f"`{pair[0]['run']['dataset']}`, {split_words(pair[0]['run'])}: {percent(pair[0])}"
        waits = "the comparison with 1-NN waits for a run on the present folds"
        said.append(f"{where}; {f'against 1-NN {found}' if same_folds(*pair) else waits}")
    intro = f"S0's network, at a reduced width and size, beside the nearest neighbour ({TEST}):"
    return explained(bullets(intro, said))


def multitask_ablation(evidence: Evidence) -> str:
    """Which change to S0's method shows a difference."""
    said = []
    for runs in budgets(evidence.multitask):
        found = compare(runs, evidence.predictions)
        changed = {name: entry["difference"] for name, entry in found.items() if name != REFERENCE}
        groups, seeds = by_direction(changed), len(runs[REFERENCE])
        first = next(iter(runs[REFERENCE].values()))
        words = {
            -1: "less accurate than S0's own: {}",
            1: "more accurate than S0's own: {}",
            0: "no difference to S0's own is shown for {}",
        }
        parts = [
            text.format(listed(named(name, changed[name]) for name in groups[sign]))
            for sign, text in words.items()
            if groups[sign]
        ]
        spread = f" Seeds of one method lie up to {100 * seeds_apart(found):.1f} points apart."
        said.append(
            f"On `{first['run']['dataset']}`, {tested(first)}, mean of {seeds} seed{'s' * (seeds > 1)}: "
            f"{'; '.join(parts)}.{spread * (seeds > 1)}"
        )
    if not said:
        return not_run("the ablation of S0's method")
    return explained(
        f"{' '.join(said)} A difference is stated where the paired test shows one (p < {LEVEL} after correction for "
        "the number of methods) and it has one sign for every seed. The intervals resample groups of test images, not "
        "seeds."
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
    intro = f"The reconstruction error as an anomaly score, tumour against none ({UNCORRECTED}):"
    return explained(bullets(intro, said))

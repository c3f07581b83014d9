"""Sentences on where networks look, and on the network that outlines first."""

from utils.analysis.ablation import compare
from utils.evaluation.pointing import TOLERANCE
from utils.reporting.claims.common import bullets, direction, explained, found_or_none, listed, not_run
from utils.reporting.records import Evidence
from utils.reporting.tables.common import format_ci, tested
from utils.reporting.tables.localisation import PLAIN, by_pointing, localisation_budgets, network

LOW = 0.9  # accuracy above which a network that does not look at the tumour is named


def looks_at_tumour(evidence: Evidence) -> str:
    """Whether committed classifiers look at the tumour more often than a point at random, and who does not although it
    names most images rightly."""
    every = by_pointing(evidence)
    if not every:
        return not_run("the pointing game of committed classifiers")
    verdicts: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for found in every:
        verdicts[direction(found["groups"]["all"]["gain"])].append(found["id"])
    accuracy = {record["id"]: record["metrics"].get("accuracy") for record in evidence.records}
    best = max(every, key=lambda found: found["groups"]["all"]["near"]["value"])
    whole = best["groups"]["all"]
    first = (
        f"Of {len(every)} committed classifiers {len(verdicts[1])} look at the tumour (inside its outline or within "
        f"{TOLERANCE} pixels) more often than a point at random would hit it, {len(verdicts[-1])} less often; for "
        f"{len(verdicts[0])} no difference is shown. The best of them, {_name(best)}, does so in "
        f"{share(whole['near'])} of the images, a point at random in {share(whole['near_area'])}; its maximum lies "
        f"inside the outline in {share(whole['pointing'])}."
    )
    blind = [
        f"{_name(found)} (accuracy {share(accuracy[found['id']])}, looks there in "
        f"{share(found['groups']['all']['near'])}, at random {share(found['groups']['all']['near_area'])})"
        for found in every
        if accuracy[found["id"]]["value"] >= LOW and found["groups"]["all"]["near"]["high"] < 0.5
    ]
    if blind:
        first += f" With an accuracy of {100 * LOW:.0f} % or more these look elsewhere in most images: {listed(blind)}."
    return explained(first)


def _name(found: dict) -> str:
    return f"{network(found['run'])} on `{found['run']['dataset']}` ({tested(found)})"


def share(entry: dict) -> str:
    """`97.1 (96.0–98.0) %` of a share with its interval."""
    return f"{format_ci(entry)} %"


def localisation_steps(evidence: Evidence) -> str:
    """What outlines contribute to the name, and how good they are."""
    said = []
    for runs in localisation_budgets(evidence):
        found = compare(runs, evidence.predictions, reference=PLAIN)
        run, seeds = next(iter(runs[PLAIN].values()))["run"], len(runs[PLAIN])
        where = f"`{run['dataset']}`, {tested(next(iter(runs[PLAIN].values())))}, {seeds} seed{'s' * (seeds > 1)}"
        parts = [f"name only {share(found[PLAIN]['accuracy'])}"]
        for name, words in (("with-masks", "with outlines as well"), ("from-outline", "named from the outline")):
            if name not in runs:
                continue
            record = next(iter(runs[name].values()))
            outline, gain = record["outline"], found_or_none(found[name]["difference"])
            parts.append(
                f"{words} {share(found[name]['accuracy'])} ({gain}; Dice {share(outline['dice'])}, the outline's "
                f"maximum inside the tumour in {share(outline['pointing'])})"
            )
        said.append(f"{where}: {'; '.join(parts)}")
    if not said:
        return not_run("the ablation of outlines")
    first = "Accuracy, and its difference to the plain classifier of the same training, image by image:"
    return explained(bullets(first, said))

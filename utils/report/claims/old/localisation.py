"""Tables of where networks look: committed classifiers against the outlines, and the network that outlines first."""

import pandas as pd

from datasets.catalog import CLASSES, HEALTHY, DataError
from models import LOCALISERS
from utils.evaluation.ablation import as_family, budgets, compare, mean_difference
from utils.evaluation.intervals import mean_interval
from utils.evaluation.pointing import SIZES, TOLERANCE
from utils.recipes.localisation import STEPS
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import NONE, WEIGHTS, beside, cell, find_run, format_ci, mark, tested

PLAIN = "name-only"  # what the other steps of the ablation are compared with


def pointing_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a committed classifier: how often the maximum of Grad-CAM lies inside the outlined tumour, or within
    `pointing.TOLERANCE` pixels of it, and which share of the map does; beside a point at random and the brightest one.
    """
    accuracy = {record["id"]: record for record in evidence.records}
    return pd.DataFrame(
        {
            "data set": found["run"]["dataset"],
            "split": tested(found),
            "network": network(found["run"]),
            "accuracy": cell(accuracy[found["id"]]),
            "pointing": format_ci(found["groups"]["all"]["pointing"]),
            "by chance": format_ci(found["groups"]["all"]["area"]),
            f"within {TOLERANCE} pixels": format_ci(found["groups"]["all"]["near"]),
            "so by chance": format_ci(found["groups"]["all"]["near_area"]),
            "so the brightest point": format_ci(found["groups"]["all"]["bright_near"]),
            "energy inside": format_ci(found["groups"]["all"]["energy"]),
            "empty maps": f"{100 * found['groups']['all']['blank'] / found['groups']['all']['images']:.0f} %",
            "images": found["groups"]["all"]["images"],
            "patients": found["groups"]["all"]["patients"],
        }
        for found in by_pointing(evidence)
    )


def pointing_groups(evidence: Evidence) -> pd.DataFrame:
    """The same classifiers: maxima inside or within `pointing.TOLERANCE` pixels of the tumour, by class, by size of the
    tumour, and where the name was right or wrong."""
    groups = [*(c for c in CLASSES if c != HEALTHY), *SIZES, "right", "wrong"]
    titles = {name: f"{name} (<{100 * high:.1f} %)" if high < 1 else name for name, (_, high) in SIZES.items()}
    rows = []
    for found in by_pointing(evidence):
        shares = {titles.get(g, g): found["groups"].get(g) for g in groups}
        row = {"data set": found["run"]["dataset"], "split": tested(found), "network": network(found["run"])}
        rows.append(row | {g: format_ci(entry["near"]) if entry else NONE for g, entry in shares.items()})
    return pd.DataFrame(rows)


def by_pointing(evidence: Evidence) -> list[dict]:
    """What was measured of committed classifiers, by data set, the best at pointing first."""
    return sorted(
        evidence.pointing, key=lambda found: (found["run"]["dataset"], -found["groups"]["all"]["near"]["value"])
    )


def network(run: dict) -> str:
    """A classifier in a table's words."""
    step = f" {run['recipe']}" if run["model"] in LOCALISERS else ""
    weights = f", {WEIGHTS[run['pretrained']]}" if run["pretrained"] is not None else ""
    return f"{run['model']}{step}{weights}"


def localisation_budgets(evidence: Evidence) -> list[dict[str, dict[int, dict]]]:
    """Runs of the three steps that can be compared: recipe → seed → record, the plain classifier first.

    All folds together, one fold from several seeds, and tests on another data set; a fold that is part of all of them,
    and has one seed, does not stand beside them once more.
    """
    steps = [record for record in evidence.localisation if record["run"]["recipe"] in STEPS]
    found = budgets(steps, PLAIN, which=lambda record: record["run"]["split"] in ("patient", "external"))
    parts = {one for runs in found for seeds in runs.values() for r in seeds.values() for one in r.get("pooled", ())}
    alone = [runs for runs in found if len(runs[PLAIN]) == 1 and runs[PLAIN].get(0, {}).get("id") in parts]
    kept = [runs for runs in found if runs not in alone]
    return [{name: runs[name] for name in STEPS if name in runs} for runs in sorted(kept, key=_order)]


def _order(runs: dict[str, dict[int, dict]]) -> tuple[str, int]:
    """By data set; first all folds, then one, then another data set."""
    run = next(iter(runs[PLAIN].values()))["run"]
    return run["dataset"], 2 if run["split"] == "external" else int(run["fold"] is not None)


def _but_the_seed(record: dict) -> tuple:
    """What a run is, whatever its seed: another seed waits until all steps have it."""
    return (*(str(record["run"][name]) for name in sorted(record["run"]) if name != "seed"), str(record["recipe"]))


def localisation_runs(evidence: Evidence) -> pd.DataFrame:
    """Name only, with masks, named from the outline: on one budget, a row a step, with the same seeds; then recipes
    that are no step of these, and steps without a plain classifier beside them. Outlines and Grad-CAM are those of the
    first seed."""
    rows, together = [], localisation_budgets(evidence)
    shown = [record for runs in together for seeds in runs.values() for record in seeds.values()]
    compared, parts = {_but_the_seed(r) for r in shown}, {one for r in shown for one in r.get("pooled", ())}
    alone = [r for r in evidence.localisation if _but_the_seed(r) not in compared and r["id"] not in parts]
    others: dict[tuple, dict[str, dict[int, dict]]] = {}
    for record in alone:
        others.setdefault(_but_the_seed(record), {record["run"]["recipe"]: {}})
        others[_but_the_seed(record)][record["run"]["recipe"]][record["run"]["seed"]] = record
    for runs in [*together, *others.values()]:
        reference = PLAIN if runs in together else next(iter(runs))
        found = compare(runs, evidence.predictions, reference=reference)
        for name, seeds in runs.items():
            record, entry = next(iter(seeds.values())), found[name]
            run, outline = record["run"], record.get("outline") or {}
            looked = (record.get("grad_cam") or {}).get("all")
            same = {key: run[key] for key in ("dataset", "split", "fold", "test_on")}
            nearest = find_run(evidence.classification, **same, model="1-NN")
            rows.append(
                {
                    "data set": run["dataset"],
                    "split": tested(record),
                    "step": name,
                    "pixels": run["image_size"],
                    "epochs": record["training"]["epochs"],
                    "seeds": len(seeds),
                    "validation %": NONE if record.get("pooled") else f"{100 * entry['validation']:.1f}{mark(record)}",
                    "accuracy": format_ci(entry["accuracy"]) + mark(record),
                    "minus name-only, points": NONE
                    if name == reference
                    else format_ci(entry["difference"], sign=True) + mark(record),
                    "Dice": format_ci(outline["dice"]) if outline else NONE,
                    "the outline points": format_ci(outline["pointing"]) if outline else NONE,
                    "Grad-CAM points": format_ci(looked["pointing"]) if looked else NONE,
                    f"within {TOLERANCE} pixels": format_ci(looked["near"]) if looked else NONE,
                    "so by chance": format_ci(looked["near_area"]) if looked else NONE,
                    "1-NN": cell(beside(record, nearest)),
                }
            )
    return pd.DataFrame(rows)


def sensitivities(runs: dict[str, dict[int, dict]], evidence: Evidence) -> dict[str, dict]:
    """How many tumours of another data set each step recognises, at the threshold that its own validation images chose.

    Args:
        runs: one of `localisation_budgets`, tested on another data set.

    Returns:
        step → `sensitivity` {value, low, high}, the mean over the seeds, with a 95 % interval over groups;
        `difference` to the plain classifier's, tumour by tumour, as of `ablation.compare`; `seeds`, the sensitivity of
        each; `healthy`, how many images show none. Empty where a seed has no threshold.

    Raises:
        DataError: a run that tested other images than those beside it.
    """
    called: dict[str, list[pd.DataFrame]] = {}
    paths, healthy = None, 0
    for step, seeds in runs.items():
        called[step] = []
        for record in seeds.values():
            threshold = (record.get("tumour_or_none") or {}).get("threshold")
            if threshold is None:
                return {}
            table = evidence.predictions(record).sort_values("path")
            paths = table.path.tolist() if paths is None else paths
            if table.path.tolist() != paths:
                raise DataError(f"{record['id']}: its seeds tested other images; run them again")
            sick, found = table.label.ne(HEALTHY), table[f"p_{HEALTHY}"].rsub(1).ge(threshold)
            healthy = int((~sick).sum())
            called[step].append(table.assign(label=True, predicted=found)[sick])
    others = [step for step in called if step != PLAIN]
    differences = {step: mean_difference(called[step], called[PLAIN]) for step in called}
    differences |= zip(others, as_family([differences[step] for step in others]), strict=True)
    shown = {step: pd.concat(tables) for step, tables in called.items()}
    return {
        step: {
            "sensitivity": mean_interval(table.predicted, table.group),
            "difference": differences[step],
            "seeds": [float(one.predicted.mean()) for one in called[step]],
            "healthy": healthy,
        }
        for step, table in shown.items()
    }


def tumours_elsewhere(evidence: Evidence) -> pd.DataFrame:
    """A row a step: how many tumours of another data set it recognises, at the threshold that validation chose for a
    specificity of `screening.SPECIFICITY`."""
    rows = []
    for runs in localisation_budgets(evidence):
        record = next(iter(runs[PLAIN].values()))
        if record["run"]["split"] != "external":
            continue
        for step, found in sensitivities(runs, evidence).items():
            rows.append(
                {
                    "trained on": record["run"]["dataset"],
                    "tested on": record["run"]["test_on"],
                    "step": step,
                    "sensitivity": format_ci(found["sensitivity"]) + mark(record),
                    "by seed": ", ".join(f"{100 * value:.1f}" for value in found["seeds"]),
                    "minus name-only, points": NONE
                    if step == PLAIN
                    else format_ci(found["difference"], sign=True) + mark(record),
                }
            )
    return pd.DataFrame(rows)

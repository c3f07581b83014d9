"""Tables of where networks look: committed classifiers against the outlines, and the network that outlines first."""

import pandas as pd

from datasets.catalog import CLASSES, HEALTHY
from utils.analysis.ablation import budgets, compare
from utils.evaluation.pointing import SIZES, TOLERANCE
from utils.recipes.localisation import STEPS
from utils.reporting.records import Evidence
from utils.reporting.tables.common import NONE, WEIGHTS, cell, find_run, format_ci, mark, tested

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
    weights = f", {WEIGHTS[run['pretrained']]}" if run["pretrained"] is not None else ""
    return f"{run['model']}{weights}"


def localisation_budgets(evidence: Evidence) -> list[dict[str, dict[int, dict]]]:
    """Runs of the three steps that can be compared: recipe → seed → record, the plain classifier first."""
    found = budgets([record for record in evidence.localisation if record["run"]["recipe"] in STEPS], PLAIN)
    return [{name: runs[name] for name in STEPS if name in runs} for runs in found]


def _but_the_seed(record: dict) -> tuple:
    """What a run is, whatever its seed: another seed waits until all steps have it."""
    return (*(str(record["run"][name]) for name in sorted(record["run"]) if name != "seed"), str(record["recipe"]))


def localisation_runs(evidence: Evidence) -> pd.DataFrame:
    """Name only, with masks, named from the outline: on one budget, a row a step, with the same seeds; then runs that
    have no plain classifier of their budget beside them."""
    rows, together = [], localisation_budgets(evidence)
    compared = {_but_the_seed(record) for runs in together for seeds in runs.values() for record in seeds.values()}
    alone = [r for r in evidence.localisation if _but_the_seed(r) not in compared]
    for runs in together + [{r["run"]["recipe"]: {r["run"]["seed"]: r}} for r in alone]:
        reference = PLAIN if runs in together else next(iter(runs))
        found = compare(runs, evidence.predictions, reference=reference)
        for name, seeds in runs.items():
            record, entry = next(iter(seeds.values())), found[name]
            run, outline = record["run"], record.get("outline") or {}
            looked = (record.get("grad_cam") or {}).get("all")
            rows.append(
                {
                    "data set": run["dataset"],
                    "split": tested(record),
                    "step": name,
                    "pixels": run["image_size"],
                    "epochs": record["training"]["epochs"],
                    "seeds": len(seeds),
                    "validation %": f"{100 * entry['validation']:.1f}",
                    "accuracy": format_ci(entry["accuracy"]) + mark(record),
                    "minus name-only, points": NONE if name == reference else format_ci(entry["difference"], sign=True),
                    "Dice": format_ci(outline["dice"]) if outline else NONE,
                    "the outline points": format_ci(outline["pointing"]) if outline else NONE,
                    "Grad-CAM points": format_ci(looked["pointing"]) if looked else NONE,
                    f"within {TOLERANCE} pixels": format_ci(looked["near"]) if looked else NONE,
                    "so by chance": format_ci(looked["near_area"]) if looked else NONE,
                    "1-NN": cell(
                        find_run(
                            evidence.classification,
                            **{k: run[k] for k in ("dataset", "split", "fold", "test_on")},
                            model="1-NN",
                        )
                    ),
                }
            )
    return pd.DataFrame(rows)

"""Sentences on several findings an image."""

from collections.abc import Sequence

from utils.report.claims.common import apart, bullets, explained, listed, not_run
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import find_run, format_ci, is_pooled_elsewhere, tested
from utils.run import NEAREST_FINDINGS

CHANCE = 0.5  # the AUC of a random order


def findings_ranked(evidence: Evidence) -> str:
    """Which findings a network ranks better than a random order would, by the interval of their AUC, a line a run."""
    records = evidence.of("findings")
    said = []
    for record in records:
        if is_pooled_elsewhere(record, records):
            continue
        names: dict[str, list[str]] = {"above": [], "below": [], "open": []}
        for finding, entry in record["per_class"].items():
            names[_side(entry["auc"])].append(finding.replace("_", " ").lower())
        mean, precise = (
            format_ci(record["metrics"][name], percent=False) for name in ("macro_auc", "macro_average_precision")
        )
        shares = [entry["images"] / record["images"] for entry in record["per_class"].values()]
        worse = f", worse for {listed(names['below'])}" if names["below"] else ""
        run, images, patients = record["run"], f"{record['images']:,} images", f"{record['groups']:,} patients"
        said.append(
            f"{run['model']} on `{run['dataset']}` ({tested(record)}, {images} of {patients}): mean AUC {mean}. The "
            f"ranking is better than a random order for {listed(names['above'])}{worse}; for {len(names['open'])} of "
            f"{len(shares)} findings no difference is shown. Mean average precision {precise}, where a random order "
            f"reaches {sum(shares) / len(shares):.3f}{_beside_nearest(records, record)}"
        )
    if not said:
        return not_run("several findings an image on real data")
    intro = (
        f"With 95 % intervals over patients, which are not corrected for the number of findings ({NEAREST_FINDINGS}: "
        "the findings of the most similar training images, pixel by pixel, as a baseline):"
    )
    return explained(bullets(intro, said))


def _beside_nearest(records: Sequence[dict], record: dict) -> str:
    """Whether the mean AUC of a network is told apart from that of the baseline on the same images."""
    alike = {name: record["run"][name] for name in ("dataset", "split", "fold", "test_on", "target")}
    nearest = find_run(records, **alike, model=NEAREST_FINDINGS)
    if not nearest or nearest is record:
        return ""
    areas = [found["metrics"]["macro_auc"] for found in (record, nearest)]
    if any(area["low"] is None for area in areas):
        return ""
    there = apart(*areas)
    return f". The intervals of its mean AUC and that of {NEAREST_FINDINGS} {'do not overlap' if there else 'overlap'}"


def _side(auc: dict) -> str:
    if auc["low"] is None:
        return "open"
    return "above" if auc["low"] > CHANCE else "below" if auc["high"] < CHANCE else "open"

"""`docs/performance.md`, from the record of `make bench` alone."""

import math
from collections.abc import Iterable

from predictions import PREDICTIONS

MACHINE = ("cpu", "cores", "threads", "gpu")
GROWTH = "pairs alike: growth"


def machine(found: dict) -> str:
    """The machine of a part, in words."""
    facts = found["hardware"]
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads{gpu}"


def page(record: dict[str, dict], every: Iterable[str]) -> str:
    """The page; a part of `every` that has no record is named as not measured."""
    minutes = sum(found["took"] for found in record.values()) / 60
    days = sorted(found["finished"][:10] for found in record.values())
    lines = [
        "# Performance",
        "",
        "Made by `make bench` from `saved_metrics/benchmarks/speed.json`; no number of a result is typed.",
        f"Measured {' and '.join(dict.fromkeys((days[0], days[-1])))} in {minutes:.0f} minutes. The sides of a part "
        "are timed in turn within one run. *Ratio*: median over the rounds of a side's time divided by the time of the "
        "part's base in the same round, with the smallest and the largest; below 1 is faster.",
    ]
    for name, found in record.items():
        lines += ["", f"## {name[0].upper()}{name[1:]}", "", f"{machine(found)}; {found['rounds']} rounds.", ""]
        lines += [f"| | seconds | ratio to {found['base']} | range |", "|---|---|---|---|"]
        for side, value in found["sides"].items():
            spread = "" if side == found["base"] else f"{value['least']:.2f}–{value['most']:.2f}"
            lines.append(f"| {side} | {value['seconds']:.4g} | {value['ratio']:.2f} | {spread} |")
        if name == GROWTH:
            lines += ["", growth(found)]
    lines += ["", "## Predicted and measured", "", *predicted(record)]
    missing = [name for name in every if name not in record]
    lines += ["", f"**Not measured yet**, though `make bench` does it: {'; '.join(missing)}."] if missing else []
    lines += [
        "",
        "Not measured by `make bench` at all: GPUs, several workers of a loader, the publishers' archives "
        "(`benchmarks/preprocessing.py`, `benchmarks/xrays.py` and `benchmarks/curation.py` measure those), "
        "segmentation-models-pytorch.",
    ]
    return "\n".join([*lines, ""])


def growth(found: dict) -> str:
    """How time grows with the number of thumbnails, and what that means for more: a forecast, no measurement."""
    number = {side: int(side.split()[0].replace(",", "")) for side in found["sides"]}
    (small, a), (large, b) = next(iter(number.items())), list(number.items())[-1]
    power = math.log(found["sides"][large]["seconds"] / found["sides"][small]["seconds"]) / math.log(b / a)
    hours = [found["sides"][large]["seconds"] * (n / b) ** 2 / 3600 for n in (10**5, 10**6)]
    return (
        f"Time grows as the number to the power of {power:.2f} from {a:,} to {b:,}. Forecast by the square from "
        f"{b:,}: {60 * hours[0]:.0f} minutes for 100,000, {hours[1]:.0f} hours for 1,000,000."
    )


def predicted(record: dict[str, dict]) -> list[str]:
    """The table of what was predicted, with what was measured; failures among it."""
    lines = ["| change and bottleneck | predicted ratio | measured | | |", "|---|---|---|---|---|"]
    for one in PREDICTIONS:
        side = record.get(one.part, {}).get("sides", {}).get(one.side)
        verdict = "" if side is None else "as predicted or better" if side["ratio"] <= one.ratio * 1.1 else "less"
        measured = "not measured" if side is None else f"{side['ratio']:.2f}"
        lines.append(f"| {one.change} | {one.ratio:.2f} | {measured} | {verdict} | {one.kept} |")
    return lines

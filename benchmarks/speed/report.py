"""`docs/performance.md`, from the records of `make bench` alone."""

import json
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs/performance.md"
RECORDS = {
    "cpu": REPO / "saved_metrics/benchmarks/speed.json",
    "cuda": REPO / "saved_metrics/benchmarks/speed_gpu.json",
}
START = """# Performance

Made by `make bench` (on a GPU `make bench ARGS="--device cuda"`) from `saved_metrics/benchmarks/speed.json` and
`speed_gpu.json`; no number of a result is typed. The sides of a table are timed in turn within one run. A *ratio* is
the median over the rounds of a side's time divided by that of the side it is compared with in the same round, with the
smallest and the largest round in parentheses; below 1 is faster. Where the machine did other work at the same time,
ratios bear it and seconds do not."""
END = """What is a default and why: tasks hand channels_last to the network, and chapters have `precision = "auto"`:
they compute in 16 bits where a short trial says that these are faster, which moved the accuracy of CustomCNN less than
another seed does (the table above); of other networks it was not compared. The record of a run says which it was; a run
is resumed in the precision that it began with, or refused. The runs of the plan name theirs. A fused optimiser is no
default: it brings least. On a CPU where the trial finds 16 bits slower, `make bench` does not time them.

Not measured by `make bench`: several GPUs, several workers of a loader, the publishers' archives, networks and scripts
of timm, torchvision and MONAI, compiled steps, whole epochs on a GPU. `git log -- saved_metrics/benchmarks/speed.json`
has what was measured once beside timm's and MONAI's networks, with torch.compile, of intervals, of other ways to
store images, and of start-up.
"""


def read() -> dict[str, dict[str, dict]]:
    """The committed records that there are, by device."""
    return {device: json.loads(path.read_text(encoding="utf-8")) for device, path in RECORDS.items() if path.is_file()}


def page(records: dict[str, dict[str, dict]]) -> str:
    """The page of records by device."""
    lines = [START]
    for device, record in records.items():
        lines += ["", f"## On a {device.upper().replace('CUDA', 'GPU')}", ""]
        lines += of_device({name: part for name, part in record.items() if "sides" in part})
        took = sum(part.get("took", 0) for part in record.values())
        lines += ["", f"All of it took {f'{took / 60:.0f} minutes' if took > 120 else f'{took:.0f} s'}."]
        if dropped := [f"{name} ({part['dropped']})" for name, part in record.items() if "sides" not in part]:
            lines += ["", f"**Not measured** within the time: {'; '.join(dropped)}."]
    return "\n".join([*lines, *in_16_bits(), "", END])


def in_16_bits() -> Iterator[str]:
    """What `benchmarks/precision.py` measured, if it did."""
    path = REPO / "saved_metrics/benchmarks/precision.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    yield from ["", "## Accuracy in 16 bits", ""]
    yield (
        f"CustomCNN by S2's recipe for {found['epochs']} epochs at {found['pixels']} pixels, on {found['data set']} by"
        f" patient, fold 0: accuracy of the kept epoch in % on {found['asked about']} validation images, a column a"
        f" seed ({found['hardware']['cpu']})."
    )
    yield from ["", "| precision |" + " |" * len(found["no"]["seconds"]) + " mean |", "|---" * 5 + "|"]
    for precision, name in (("no", "32 bits"), ("bf16", "bf16")):
        scores = [100 * score for score in found[precision]["accuracy of the kept epoch"]]
        cells = [f"{score:.1f}" for score in [*scores, sum(scores) / len(scores)]]
        yield f"| {name} | {' | '.join(cells)} |"


def machine(part: dict) -> str:
    """Where and when a part was measured."""
    facts = part["hardware"]
    where = facts["gpu"] or f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads"
    return f"{where}, PyTorch {part['versions']['torch']}, {part['finished'][:10]}"


def of_device(record: dict[str, dict]) -> Iterator[str]:
    """Tables of one device: all training steps in one, then a table a part."""
    steps = {name: part for name, part in record.items() if name.startswith("step: ")}
    yield from table_of_steps(steps)
    for name in [name for name in record if name not in steps]:
        part = record[name]
        yield from ["", f"### {name[0].upper()}{name[1:]}", "", f"{machine(part)}; {part['rounds']} rounds.", ""]
        yield from [f"| | seconds | ratio to {part['base']} |", "|---|---|---|"]
        for side, value in part["sides"].items():
            yield f"| {side} | {value['seconds']:.3g} | {'' if side == part['base'] else ratio(value)} |"
        if note := part["facts"].get("note"):
            yield from ["", note]


def ratio(value: dict[str, float]) -> str:
    return f"{value['ratio']:.2f} ({value['least']:.2f}–{value['most']:.2f})"


def table_of_steps(steps: dict[str, dict]) -> Iterator[str]:
    """A row a network; the fastest way in bold, a dash for one that was not timed."""
    ways = [side for side in max((part["sides"] for part in steps.values()), key=len) if side != "plain"]
    yield from ["### Training steps", "", "; ".join(dict.fromkeys(machine(part) for part in steps.values())) + "."]
    yield from ["", f"| | batch | plain, seconds | {' | '.join(ways)} |", "|---" * (len(ways) + 3) + "|"]
    for name, part in steps.items():
        sides, shape = part["sides"], part["facts"]["inputs"]
        ratios = {way: ratio(sides[way]) if way in sides else "–" for way in ways}
        first = min((way for way in ways if way in sides), key=lambda way: sides[way]["ratio"])
        cells = [f"**{ratios[way]}**" if way == first else ratios[way] for way in ways]
        network = f"{name.removeprefix('step: ')}, {part['facts']['parameters']:,} parameters"
        row = [network, "×".join(map(str, shape)), f"{sides['plain']['seconds']:.3g}", *cells]
        yield f"| {' | '.join(row)} |"

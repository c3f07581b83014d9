"""Looks up what is known of a data set (`facts.py`), shows it as a card, and says where its data lie."""

import difflib
import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from datasets.facts import CLASSES, HEALTHY, SETS, TUMOUR, Dataset

__all__ = ["CATALOG", "CLASSES", "HEALTHY", "REPO", "TUMOUR", "DataError", "Dataset", "UnknownName", "get", "lookup"]

REPO = Path(__file__).resolve().parent.parent
CATALOG: dict[str, Dataset] = {facts.name: facts for facts in SETS}


class DataError(Exception):
    """Something that the user can mend; the message names the file, what is wrong and what to do.

    It is one line of printable characters, whatever the file that it quotes holds.
    """

    def __init__(self, message: object = ""):
        super().__init__("".join(c if c.isprintable() else " " for c in str(message)))


class BrokenArchive(DataError):
    """The archive itself is at fault: a fetched copy is not worth keeping."""


class UnknownName(DataError):
    """A data set, model, recipe or parameter that does not exist; the message suggests the nearest."""


def lookup(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Return `table[name]`, or raise `UnknownName` with the nearest known name.

    `what` is the kind of thing in words ("data set", "model"), for the message.
    """
    if name in table:
        return table[name]
    folded = {known.lower(): known for known in table}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean '{folded[near[0]]}'?" if near else "."
    raise UnknownName(f"unknown {what} '{name}'{hint} Known: {', '.join(table)}")


def get(name: str) -> Dataset:
    """The facts of data set `name`, or `UnknownName` with the nearest name.

    Of `own`, and of a set whose classes only its data tell, classes and channels are those of what was brought in.
    """
    facts = lookup(CATALOG, name, "data set")
    log = data_root() / name / "log.json"
    if (facts.layout != "own" and facts.classes) or not log.is_file():
        return facts
    return replace(facts, **_brought_in(log, log.stat().st_mtime_ns))


@cache
def _brought_in(log: Path, changed: int) -> dict:
    """What `log.json` says of a set; `changed` is its time, since another set may follow."""
    try:
        known = json.loads(log.read_text(encoding="utf-8"))
        lists = {name: tuple(known[name]) for name in ("classes", "channels", "mask_channels")}
        return lists | {name: known[name] for name in ("size", "crop")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # `download.py` brings it in anew


def data_root() -> Path:
    """Folder that holds one folder a data set: `$BRAIN_MRI_DATA`, or `datasets/` of the repository."""
    return Path(os.environ.get("BRAIN_MRI_DATA") or REPO / "datasets").expanduser().resolve()


def dataset_dir(name: str) -> Path:
    """Folder of data set `name`, whether or not it exists yet."""
    return data_root() / lookup(CATALOG, name, "data set").name


def require_masks(name: str) -> None:
    """Raise `DataError` unless data set `name` has masks that `download.py --masks-from` can carry to another."""
    if not get(name).mask_channels:
        raise DataError(f"--masks-from {name}: '{name}' has no masks; 'cheng' has")


def card(name: str) -> str:
    """Where data set `name` is from, what it holds, under which terms, and what is wrong with it; needs no data.

    What `datasets.curation` counted in it, alone and with other sets, follows as far as its tables are committed.
    """
    facts = get(name)
    stored = f"{facts.size}×{facts.size} pixels, {', '.join(facts.channels)}, crop '{facts.crop}'"
    masks = f"; masks {', '.join(facts.mask_channels)}" if facts.mask_channels else ""
    entries = [
        ("origin", facts.url or "generated or brought by you, not downloaded"),
        ("Kaggle", facts.kaggle),
        ("archive", facts.archive),
        ("licence", facts.licence),
        ("citation", facts.citation),
        ("use", "for testing only: nothing is trained or chosen on it" if facts.test_only else "training and test"),
        ("stored", stored + masks),
        ("images", f"{facts.images:,} as published" if facts.counts else "as many as you make or bring"),
    ]
    for split, labels in facts.counts.items():
        entries.append((split or "classes", ", ".join(f"{label} {number:,}" for label, number in labels.items())))
    entries += [("fault", fault) for fault in facts.faults]
    lines = [f"{facts.name}: {facts.title}", ""]
    for title, text in entries:
        lines += textwrap.wrap(text, 100, initial_indent=f"{title:9} ", subsequent_indent=" " * 10)
    counts = json.loads((REPO / "datasets/splits/facts.json").read_text())
    found = [entry for entry in counts if name in entry.split(" and ")]
    lines += ["", "Counted by `python -m datasets.curation`:"] if found else []
    for entry in found:
        text = "; ".join(f"{fact}: {n:,}" for fact, n in counts[entry].items() if not fact.startswith("fold "))
        lines += [f"  {entry}", *textwrap.wrap(text, 100, initial_indent=" " * 10, subsequent_indent=" " * 10)]
    return "\n".join(lines)

"""The card of a data set: where it is from, what it holds, under which terms, and what is wrong with it.

`python datasets/download.py --card NAME` shows it; it needs no data.
"""

import json
import textwrap

from datasets import catalog
from datasets.facts import Dataset
from datasets.store import index

WIDTH = 100


def card(name: str) -> str:
    """The card of data set `name`, as text.

    Raises:
        UnknownName: no such data set, with the nearest name.
    """
    facts = catalog.get(name)
    lines = [f"{facts.name}: {facts.title}", ""]
    for title, text in (
        ("origin", facts.url or "generated or brought by you, not downloaded"),
        ("Kaggle", facts.kaggle),
        ("archive", facts.archive),
        ("licence", facts.licence),
        ("citation", facts.citation),
        ("use", "for testing only: nothing is trained or chosen on it" if facts.test_only else "training and test"),
        ("stored", _stored(facts)),
        ("images", f"{facts.images:,} as published" if facts.counts else "as many as you make or bring"),
    ):
        lines += _entry(title, text) if text else []
    for split, labels in facts.counts.items():
        lines += _entry(split or "classes", ", ".join(f"{label} {number:,}" for label, number in labels.items()))
    lines += [line for fault in facts.faults for line in _entry("fault", fault)]
    return "\n".join(lines + _measured(name))


def _stored(facts: Dataset) -> str:
    masks = f"; masks {', '.join(facts.mask_channels)}" if facts.mask_channels else ""
    return f"{facts.size}×{facts.size} pixels, {', '.join(facts.channels)}, crop '{facts.crop}'{masks}"


def _measured(name: str) -> list[str]:
    """What `datasets.curation` counted in the set, alone and with others, as far as its tables are committed."""
    path = index.SPLITS / "facts.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    found = [entry for entry in known if name in entry.split(" and ")]
    lines = ["", "Counted by `python -m datasets.curation`:"] if found else []
    for entry in found:
        counted = (f"{fact}: {number:,}" for fact, number in known[entry].items() if not fact.startswith("fold "))
        lines += [
            f"  {entry}",
            *textwrap.wrap("; ".join(counted), WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10),
        ]
    return lines


def _entry(title: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{title:9} ", subsequent_indent=" " * 10)

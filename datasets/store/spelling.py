"""One name, one spelling: patients and labels as people type them."""

import unicodedata
from collections.abc import Sequence


def cleaned(name: str) -> str:
    """A name without spaces at its ends, doubled spaces and characters that nobody sees."""
    seen = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf")
    return " ".join(seen.split())


def one_spelling(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that differ in case, spaces or invisible characters alone become one, spelt as the first of them.

    Returns the names, and a text for each that was spelt in several ways: `'P1' = 'p1 '`.
    """
    spelling: dict[str, str] = {}
    found: dict[str, dict[str, None]] = {}
    out = []
    for name in names:
        key = cleaned(name).casefold()
        out.append(spelling.setdefault(key, cleaned(name)))
        found.setdefault(key, {})[name] = None
    return out, [" = ".join(map(repr, kinds)) for kinds in found.values() if len(kinds) > 1]

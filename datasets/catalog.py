"""What is known of each data set before a byte of it is fetched (`facts.toml`), and where its data lie."""

import difflib
import json
import os
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HEALTHY = "notumor"  # the class without a tumour, by one name in every set that has it
TUMOUR = "tumour"  # the other class, where a set asks no more than tumour or none
NO_FINDING = "No Finding"
OWN_TABLE = "samples.csv"  # of 'own', in its folder
# Rule → share of the largest contour's area from which on another contour widens the box, see `preprocess.margin_box`.
CROPS = {"margin": 0.01, "s2": 1.0, "none": None}
REPO = Path(__file__).resolve().parent.parent  # or the installed package, which holds the same tables
HOME = REPO if (REPO / "pyproject.toml").is_file() else Path.home() / "honest-brain-mri"  # of what is written


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


@dataclass(frozen=True)
class Dataset:
    """One image set, as a table of `facts.toml` describes it."""

    name: str
    title: str
    classes: tuple[str, ...]  # its labels; empty where only the data at hand tell them, see `labels.classes_of`
    licence: str
    citation: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # published split or "" → label → images
    url: str = ""
    kaggle: str = ""  # owner/name there
    archive: str = ""  # name under which the publisher ships it
    layout: str = "folders"  # how its files lie, see `sources/layouts.py`
    # How its images are cropped unless asked otherwise, of `CROPS`. The sets on which S2 published are cropped by S2's
    # own rule, so that its numbers are answered on its images; `margin` cuts into fewer tumours.
    crop: str = "s2"
    folders: Mapping[str, str] = field(default_factory=dict)  # publisher's class folder (or code) → label
    splits: Mapping[str, str] = field(default_factory=dict)  # publisher's split folder → "train" | "test"
    channels: tuple[str, ...] = ("grey",)  # that are stored
    grey: int = 0  # the channel that is shown when a single grey image is asked for
    mask_channels: tuple[str, ...] = ()  # empty where there are no masks
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # scored besides: name → channels united
    size: int = 256  # side of the stored images where none is asked for
    slices: int = 1  # images in a file, or in a patient's volumes
    folds: int = 5  # by patient; as many as patients where these are few
    # Thumbnails ("packed": cropped to the head; "whole": as published) and the correlation of them from which on two
    # images are kept in one group, see `curation`: just above that at which a giant group appears.
    alike: tuple[str, float] = ("packed", 0.93)
    test_only: bool = False  # nothing may be trained or chosen on it
    # What an image may show several of, where its label names them all ("Mass|Nodule"); `counts` are then of findings,
    # not of images, of which there are `published_images`.
    findings: tuple[str, ...] = ()
    published_images: int = 0
    joins: tuple[str, ...] = ()  # sets whose images it takes, see `sources/joined.py`
    without: tuple[str, ...] = ()  # sets whose relatives it leaves out, so that they test it
    names: str = ""  # what the publisher's file names match, where it takes that to tell two sets apart
    faults: tuple[str, ...] = ()  # what is known to be wrong with it, a sentence each

    @property
    def images(self) -> int:
        """Number of images as published."""
        return self.published_images or sum(sum(labels.values()) for labels in self.counts.values())

    @property
    def bring(self) -> str:
        """What to do where it is not here."""
        command = f"python datasets/download.py {self.name}"
        if self.kaggle or self.layout in ("generated", "joined"):
            return f"run: {command}"
        by_hand = f"take {self.archive} from {self.url} and run: {command} --archive FILE"
        return f"run: {command} --folder FOLDER" if self.layout == "own" else by_hand

    @property
    def again(self) -> str:
        """What to do where the archive is at fault."""
        return f"take {self.archive} from {self.url}" if self.url else "mend that and run again"


def _read(name: str, facts: dict[str, Any]) -> Dataset:
    """A table of `facts.toml`, with what follows from the rest of it."""
    first = next(iter(facts.get("counts", {}).values()), {})
    classes = facts.setdefault("classes", facts.get("findings") or list(first))
    if facts.get("layout", "folders") == "folders":
        other = facts.get("folders", {})
        facts["folders"] = {label: label for label in classes if label not in other.values()} | other
    if handle := facts.get("kaggle"):
        facts["url"], facts["archive"] = f"https://www.kaggle.com/datasets/{handle}", f"{handle.partition('/')[2]}.zip"
    facts["regions"] = {region: tuple(channels) for region, channels in facts.get("regions", {}).items()}
    return Dataset(name, **{key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()})


TABLES = tomllib.loads((REPO / "datasets/facts.toml").read_text(encoding="utf-8"))
CATALOG = {name: _read(name, facts) for name, facts in TABLES.items()}


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
    if facts.layout != "own" and facts.classes:
        return facts
    log = data_root() / name / "log.json"
    return replace(facts, **_brought_in(log, log.stat().st_mtime_ns)) if log.is_file() else facts


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
    """Folder that holds one folder a data set: `$BRAIN_MRI_DATA`, or `datasets/` of the repository, or of
    `honest-brain-mri/` in the user's folder where the package was installed from a wheel."""
    return Path(os.environ.get("BRAIN_MRI_DATA") or HOME / "datasets").expanduser().resolve()


def dataset_dir(name: str) -> Path:
    """Folder of data set `name`, whether or not it exists yet."""
    return data_root() / lookup(CATALOG, name, "data set").name


def card(name: str) -> str:
    """Where data set `name` is from, what it holds, under which terms, and what is wrong with it; needs no data."""
    facts = get(name)
    stored = f"{facts.size}×{facts.size} pixels, {', '.join(facts.channels)}, crop '{facts.crop}'"
    masks = f"; masks {', '.join(facts.mask_channels)}" if facts.mask_channels else ""
    entries = [
        ("origin", facts.url or "generated, joined or brought by you, not downloaded"),
        ("archive", facts.archive),
        ("licence", facts.licence),
        ("citation", facts.citation),
        ("use", "for testing only: nothing is trained or chosen on it" if facts.test_only else "training and test"),
        ("stored", stored + masks),
        ("images", f"{facts.images:,} as published" if facts.counts else "as many as you make or bring"),
    ]
    for split, labels in facts.counts.items():
        entries.append((split or "classes", ", ".join(f"{label} {number:,}" for label, number in labels.items())))
    lines = [f"{facts.name}: {facts.title}", ""]
    for title, text in entries + [("fault", fault) for fault in facts.faults]:
        lines += textwrap.wrap(text, 100, initial_indent=f"{title:9} ", subsequent_indent=" " * 10)
    return "\n".join(lines)

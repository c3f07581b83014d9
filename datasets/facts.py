"""What is known of each image set before a byte of it is fetched: `facts.toml` holds it, `catalog.py` looks it up."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HEALTHY = "notumor"  # the class without a tumour, by one name in every set that has it
TUMOUR = "tumour"  # the other class, where a set asks no more than tumour or none
NO_FINDING = "No Finding"
OWN_TABLE = "samples.csv"  # of 'own', in its folder
# Rule → share of the largest contour's area from which on another contour widens the box, see `preprocess.margin_box`.
CROPS = {"margin": 0.01, "s2": 1.0, "none": None}


@dataclass(frozen=True)
class Dataset:
    """One image set.

    Attributes:
        classes: its labels; empty where only the data at hand tell them, see `labels.classes_of`.
        counts: published split ("" where the publisher made none) → label → number of images.
        archive: name under which the publisher ships the set; `kaggle`: owner/name there.
        layout: how its files lie, see `sources/layouts.py`.
        crop: how its images are cropped unless asked otherwise, a rule of `CROPS`. The sets on which S2
            published are cropped by S2's own rule, so that its numbers are answered on its images; `margin` cuts
            into fewer tumours.
        folders: publisher's class folder (or code) → label.  `splits`: publisher's split folder → "train" | "test".
        channels: names of the stored channels; `grey` is the one shown when a single grey image is asked for.
        mask_channels: names of the mask's channels, empty where there are no masks.
        regions: what is scored besides the channels: name → channels that it unites.
        size: side of the stored images where none is asked for.
        slices: images in a file, or in a patient's volumes; 1 where an image is a file.
        folds: number of patient folds; as many as patients where these are few.
        alike: thumbnails ("packed": cropped to the head; "whole": as published) and the correlation of them from which
            on two images are kept in one group, see `curation`: just above that at which a giant group appears.
        test_only: nothing may be trained or chosen on it.
        findings: what an image may show several of, where its label names them all ("Mass|Nodule"); `counts` are then
            of findings, not of images, of which there are `published_images`.
        names: regular expression that the publisher's file names match, where it takes that to tell two sets apart.
        faults: what is known to be wrong with it, a sentence each.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    licence: str
    citation: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    url: str = ""
    kaggle: str = ""
    archive: str = ""
    layout: str = "folders"
    crop: str = "s2"
    folders: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ("grey",)
    grey: int = 0
    mask_channels: tuple[str, ...] = ()
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    size: int = 256
    slices: int = 1
    folds: int = 5
    alike: tuple[str, float] = ("packed", 0.93)
    test_only: bool = False
    findings: tuple[str, ...] = ()
    published_images: int = 0
    names: str = ""
    faults: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Number of images as published."""
        return self.published_images or sum(sum(labels.values()) for labels in self.counts.values())

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


TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SETS = [_read(name, facts) for name, facts in TABLES.items()]

"""What is known of one image set: the record that `catalog.py` holds of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HEALTHY = "notumor"  # the class without a tumour, by one name in every set that has it
TUMOUR = "tumour"  # the other class, where a set asks no more than tumour or none
OWN_TABLE = "samples.csv"  # of 'own', in its folder
# Rule → share of the largest contour's area from which on another contour widens the box, see `preprocess.margin_box`.
CROPS = {"margin": 0.01, "s2": 1.0, "none": None}


@dataclass(frozen=True)
class Dataset:
    """What is known of one image set before a byte of it is fetched.

    Attributes:
        classes: its labels; empty where only the data at hand tell them, see `labels.classes_of`.
        folders: publisher's class folder (or code) → label.  `splits`: publisher's split folder → "train" | "test".
        counts: published split ("" where the publisher made none) → label → number of images.
        channels: names of the stored channels; `grey` is the one shown when a single grey image is asked for.
        mask_channels: names of the mask's channels, empty where there are no masks.
        regions: what is scored besides the channels: name → channels that it unites.
        size: side of the stored images where none is asked for.
        slices: images in a file, or in a patient's volumes; 1 where an image is a file.
        folds: number of patient folds; as many as patients where these are few.
        alike: thumbnails ("packed": cropped to the head; "whole": as published) and the correlation of them from which
            on two images are kept in one group, see `curation`: just above that at which a giant group appears.
        findings: what an image may show several of, where its label names them all ("Mass|Nodule"); `counts` are then
            of findings, not of images.
        test_only: nothing may be trained or chosen on it.
        archive: name under which the publisher ships the set.
        names: regular expression that the publisher's file names match, where it takes that to tell two sets apart.
        faults: what is known to be wrong with it, a sentence each.
        crop: how its images are cropped unless asked otherwise, a rule of `CROPS`. The sets on which S2
            published are cropped by S2's own rule, so that its numbers are answered on its images; `margin` cuts
            into fewer tumours.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    licence: str
    citation: str
    url: str = ""
    kaggle: str = ""
    archive: str = ""
    layout: str = "folders"
    crop: str = "s2"
    splits: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
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


# BraTS scores these three: whole tumour, tumour core, enhancing tumour (the mask ET itself).
BRATS_REGIONS = {"WT": ("NCR", "ED", "ET"), "TC": ("NCR", "ET")}

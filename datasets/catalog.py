"""The facts of every data set, once: where it comes from, its classes and counts, its licence and whom to cite.

All modules look them up here. `download.py` brings a set in, `store/images.py` reads it, `splitting.py` splits it.
"""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from datasets.facts import BRATS_REGIONS, CLASSES, HEALTHY, TUMOUR, Dataset
from datasets.further_sets import FURTHER_SETS

__all__ = ["CATALOG", "CLASSES", "HEALTHY", "REPO", "TUMOUR", "DataError", "Dataset", "UnknownName", "get", "lookup"]

T = TypeVar("T")

REPO = Path(__file__).resolve().parent.parent


class DataError(Exception):
    """Something that the user can mend; the message names the file, what is wrong and what to do.

    It is one line of printable characters, whatever the file that it quotes holds.
    """

    def __init__(self, message: object = ""):
        super().__init__("".join(c if c.isprintable() else " " for c in str(message)))


class UnknownName(DataError):
    """A data set, model, recipe or parameter that does not exist; the message suggests the nearest."""


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Return `table[name]`, or raise `UnknownName` with the nearest known name.

    `what` is the kind of thing in words ("data set", "model"), for the message.
    """
    if name in table:
        return table[name]
    folded = {known.lower(): known for known in table}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean '{folded[near[0]]}'?" if near else "."
    raise UnknownName(f"unknown {what} '{name}'{hint} Known: {', '.join(table)}")


def _counts(glioma: int, meningioma: int, notumor: int, pituitary: int) -> dict[str, int]:
    return dict(zip(CLASSES, (glioma, meningioma, notumor, pituitary), strict=True))


CATALOG: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            name="phantom",
            title="Phantom: tumours grown in the MNI152 template",
            classes=CLASSES,
            counts={},  # they follow from the arguments of `generator/phantom.py`
            licence="generated here; the MNI152 template ships with nilearn (ICBM, free to use with attribution)",
            citation="Fonov et al., NeuroImage 54 (2011) 313–327 (template)",
            layout="generated",
            channels=("T1", "T1c", "T2", "FLAIR"),
            grey=1,  # T1c: contrast-enhanced T1 is what the three public sets mostly hold
            mask_channels=("NCR", "ED", "ET"),
            regions=BRATS_REGIONS,
            size=128,
            faults=(
                "Its patients cross the published split, and copies, wrong labels and turned images are planted: "
                "it is for teaching.",
            ),
        ),
        Dataset(
            name="brain-tumor-mri",
            title="Brain Tumor MRI Dataset (7,023 images)",
            classes=CLASSES,
            counts={"train": _counts(1321, 1339, 1595, 1457), "test": _counts(300, 306, 405, 300)},
            licence="as stated on its Kaggle page (CC0 1.0); a union of Cheng, Sartaj and Br35H",
            citation="M. Nickparvar, Brain Tumor MRI Dataset, Kaggle 2021",
            url="https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
            kaggle="masoudnickparvar/brain-tumor-mri-dataset",
            archive="brain-tumor-mri-dataset.zip",
            splits={"Training": "train", "Testing": "test"},
            folders={c: c for c in CLASSES},
            faults=(
                "Patients and copies are on both sides of the published split.",
                "Images without a tumour come from other sources than the tumours, and the orientation of a slice "
                "tells its class.",
                "Patients are known only of the images that show a slice of cheng.",
            ),
        ),
        Dataset(
            name="sartaj",
            title="Brain Tumor Classification (MRI), 3,264 images",
            classes=CLASSES,
            counts={"train": _counts(826, 822, 395, 827), "test": _counts(100, 115, 105, 74)},
            licence="as stated on its Kaggle page (MIT); most tumour images are Cheng's (CC BY 4.0)",
            citation="S. Bhuvaji et al., Brain Tumor Classification (MRI), Kaggle 2020",
            url="https://www.kaggle.com/datasets/sartajbhuvaji/brain-tumor-classification-mri",
            kaggle="sartajbhuvaji/brain-tumor-classification-mri",
            archive="brain-tumor-classification-mri.zip",
            splits={"Training": "train", "Testing": "test"},
            folders={
                "glioma_tumor": "glioma",
                "meningioma_tumor": "meningioma",
                "no_tumor": "notumor",
                "pituitary_tumor": "pituitary",
            },
            faults=(
                "Copies are on both sides of the published split, and some test images carry another label than "
                "their copy.",
                "It shares thousands of images with brain-tumor-mri: neither may serve as the other's test set.",
            ),
        ),
        Dataset(
            name="cheng",
            title="Cheng: contrast-enhanced T1 slices with masks and patients (figshare 1512427)",
            classes=("glioma", "meningioma", "pituitary"),
            counts={"": {"glioma": 1426, "meningioma": 708, "pituitary": 930}},
            licence="CC BY 4.0",
            citation="Cheng et al., PLoS ONE 10 (2015) e0140381; figshare 1512427",
            url="https://figshare.com/articles/dataset/brain_tumor_dataset/1512427",
            archive="figshare-1512427.zip",
            layout="matlab",
            crop="margin",
            folders={"1": "meningioma", "2": "glioma", "3": "pituitary"},
            mask_channels=("tumour",),
            faults=(
                "No image is without a tumour.",
                "Letters behind some patient codes may count examinations or people; they are merged, which is "
                "cautious.",
            ),
        ),
        *FURTHER_SETS,
        Dataset(
            name="brats2020",
            title="BraTS 2020 training data: 369 patients × 155 slices, four sequences, masks",
            classes=("glioma",),
            counts={"": {"glioma": 369 * 155}},
            licence="as stated by CBICA's registration (research and teaching; no redistribution)",
            citation="Menze et al., IEEE TMI 34 (2015) 1993; Bakas et al., Sci Data 4 (2017) 170117; arXiv:1811.02629",
            url="https://www.kaggle.com/datasets/awsaf49/brats2020-training-data",
            kaggle="awsaf49/brats2020-training-data",
            archive="brats2020-training-data.zip",
            layout="brats",
            crop="none",
            channels=("T1", "T1c", "T2", "FLAIR"),
            grey=1,
            mask_channels=("NCR", "ED", "ET"),
            regions=BRATS_REGIONS,
            size=240,
            slices=155,
            faults=("One segmentation has another file name than all others (BraTS20_Training_355).",),
        ),
        Dataset(
            name="brats-mini",
            title="Six patients of BraTS 2013: T1c and FLAIR, masks in 2020's coding",
            classes=("glioma",),
            counts={"": {"glioma": 6 * 155}},
            licence="CC BY-NC-SA 3.0",
            citation="Menze et al., IEEE TMI 34 (2015) 1993",
            url="https://www.smir.ch/BRATS/Start2013",
            archive="brats-mini.zip",
            layout="brats",
            crop="none",
            channels=("T1c", "FLAIR"),
            mask_channels=("NCR", "ED", "ET"),
            regions=BRATS_REGIONS,
            size=240,
            slices=155,
            folds=6,
            faults=("Two of four sequences and six patients: enough to test the path, not to compare networks.",),
        ),
        Dataset(
            name="own",
            title="Your own: a folder of images and masks, and a table with patients (--folder)",
            classes=("unlabelled",),
            counts={},
            licence="yours",
            citation="yours",
            archive="",
            layout="own",
            crop="margin",
            mask_channels=("tumour",),
        ),
    )
}


def get(name: str) -> Dataset:
    """The facts of data set `name`; raises `UnknownName` with the nearest name otherwise.

    Of `own`, whose classes and channels are the reader's, and of a set whose classes only its data tell, they are those
    of what was brought in.
    """
    facts = lookup(CATALOG, name, "data set")
    log = data_root() / name / "log.json"
    if (facts.layout != "own" and facts.classes) or not log.is_file():
        return facts
    return replace(facts, **_brought_in(log, log.stat().st_mtime_ns))


@cache
def _brought_in(log: Path, changed: int) -> dict:
    """What `log.json` says of a reader's own set; `changed` is its time, since another set may follow."""
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

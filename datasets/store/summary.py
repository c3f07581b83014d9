"""What a reader's own set holds, in numbers and in a sentence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datasets.store import preprocess


def summary(rows: Sequence[dict[str, Any]], remarks: Counter, groups: Sequence[str], masks: bool) -> dict[str, int]:
    """Images, patients, groups and what `preprocess` remarked of the images, as far as it was ever the case.

    Args:
        rows: of the manifest; groups: name of the group of each.
        remarks: constants of `preprocess`, counted over the images.
        masks: whether the set has masks at all.
    """
    patients = {row["patient"] for row in rows} - {""}
    tumours = {"with a tumour": len(rows) - remarks[preprocess.EMPTY_MASK]} if masks else {}
    counts = {"images": len(rows), "patients": len(patients), "groups": len(set(groups)), **tumours}
    order = (preprocess.EMPTY_MASK, preprocess.INVERTED, preprocess.CROPPED, preprocess.WIDENED)
    order += (preprocess.TINY_MASK, preprocess.COLOUR, preprocess.NO_END)
    return counts | {remark: remarks[remark] for remark in order if remarks[remark]}


def sentence(holds: Mapping[str, int]) -> str:
    """The summary for people."""
    count = Counter(holds)
    parts = [f"{count['images']:,} images of {count['patients']:,} patients in {count['groups']:,} groups"]
    if "with a tumour" in holds:
        parts.append(f"{count['with a tumour']:,} with a tumour, {count[preprocess.EMPTY_MASK]:,} with an empty mask")
    if count[preprocess.TINY_MASK]:
        parts.append(f"{count[preprocess.TINY_MASK]:,} whose mask is smaller than a stored pixel and keeps one")
    cropped = f"{count[preprocess.CROPPED]:,} cropped to the head"
    if count[preprocess.WIDENED]:
        cropped += f", of these {count[preprocess.WIDENED]:,} less tightly, so that no tumour is cut"
    inverted = count[preprocess.INVERTED]
    parts += [cropped, f"{inverted:,} look{'s' * (inverted == 1)} inverted (air is white)"]
    if count[preprocess.COLOUR]:
        parts.append(f"{count[preprocess.COLOUR]:,} of colours made grey; --channels NAME,NAME,NAME keeps them")
    return "; ".join(parts)

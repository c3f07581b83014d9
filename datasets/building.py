"""Makes a data set of the files in `raw/`: images, manifest and log, and the groups of a reader's own."""

import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.catalog import BrokenArchive, Dataset
from datasets.reading import read_json
from datasets.sources import layouts, nih, own
from datasets.store import index, manifest, packing, preprocess, spelling, summary

MAX_BROKEN = 0.01  # share of broken images above which the archive, not the image, is at fault


def store_bytes(dataset: Dataset, images: int, size: int, bits: int) -> int:
    """What `images` take in the store; of a volume compression leaves less than a third, masks included."""
    planes = len(dataset.channels) * bits // 8 + len(dataset.mask_channels)
    return images * planes * size * size // (3 if dataset.slices > 1 else 1)


def build(dataset: Dataset, raw: Path, work: Path, how: dict[str, Any], whole: bool, workers: int | None) -> None:
    """Write images.h5, manifest.csv and log.json into `work` from the files of `raw`.

    `how`: size, crop and bits of the stored images.  `whole`: whether a part of the published images is refused.
    """
    started = time.monotonic()
    samples = {sample.path: sample for sample in layouts.samples(dataset, raw)}
    source = read_json(raw.parent / "raw.json", f"delete {raw.parent}", needs=["archive"])
    archive = source["archive"].get("path", dataset.name)
    images = own.count(raw) if dataset.layout == "own" else len(samples) * dataset.slices
    published = 0 if dataset.layout == "nih" and nih.is_sample(raw) else dataset.images
    is_part = images < (1 - MAX_BROKEN) * published
    if is_part and whole:
        raise BrokenArchive(
            f"{archive}: {images:,} of the {published:,} images that {dataset.name} was published with; "
            f"{dataset.again}, or add --partial to take this part of it"
        )
    with bar(images, "preprocessing", "images") as progress:
        stored, broken = packing.pack(
            partial(layouts.read, dataset, raw, bits=how["bits"]),
            list(samples),
            work / "images.h5",
            size=how["size"],
            crop=how["crop"],
            attrs={"name": dataset.name},
            needed=store_bytes(dataset, images, how["size"], how["bits"]),
            slices=max(dataset.slices, -(-images // max(len(samples), 1))),
            workers=workers,
            progress=progress.update,
        )
    reasons = [f"{image['path']}: {image['reason']}" for image in broken]
    if len(broken) > MAX_BROKEN * len(samples):
        several, first = f"{len(broken)} of {len(samples)} images are broken", "; ".join(reasons[:3])
        raise BrokenArchive(f"{archive}: {several} ({first}); {dataset.again}")
    for reason in reasons[:5]:
        print(f"warning: left out {reason}", file=sys.stderr)
    if len(broken) > 5:
        print(f"warning: and {len(broken) - 5} more, all listed in log.json", file=sys.stderr)
    mark = {"partial": f"{len(stored)} of {published}"} if is_part else {}
    known, rows, remarks = manifest.originals(dataset.name), [], Counter()
    for facts in stored:
        remarks.update(facts.pop("remarks"))
        sample = samples[facts["path"].rpartition("/")[0] if "slice" in facts else facts["path"]]  # of the volume
        rows.append(manifest.row(sample.label, sample.split, {**sample.facts, **facts}, known) | mark)
    notes = source.pop("notes", []) + _one_spelling_of_patients(rows)
    labels = {row["label"] for row in rows}
    if absent := sorted(set(dataset.classes) - set(dataset.findings) - labels):
        raise BrokenArchive(f"{archive}: no image of {', '.join(absent)}; {dataset.again}")
    manifest.write_manifest(work / "manifest.csv", rows)
    extra = _of_own(dataset, rows, remarks, work, raw) if dataset.layout == "own" else {}
    if not dataset.classes:  # only the data at hand name them, see `catalog.get`
        extra = {"classes": sorted(labels), "channels": list(dataset.channels), "mask_channels": []}
    counts = manifest.count(rows)
    if remarks[preprocess.NO_END]:
        notes.append(f"{counted(remarks[preprocess.NO_END], 'image')}: {preprocess.NO_END}")
    for note in manifest.count_differences(dataset, counts) + notes:
        print(f"note: {note}", file=sys.stderr)
    log = {"name": dataset.name, "version": packing.VERSION, "size": how["size"], "crop": how["crop"], **mark}
    log |= {"bits": how["bits"]} if dataset.slices > 1 else {}
    log |= {"notes": notes} if notes else {}
    log |= {"images": len(rows), "broken": broken, "counts": counts, "seconds": since(started)}
    manifest.write_log(work, log | source | extra)


def _of_own(dataset: Dataset, rows: list[dict], remarks: Counter, work: Path, raw: Path) -> dict[str, Any]:
    """Find the groups of `own`, write them to `work`, and return what its log says more than that of other sets."""
    from datasets.curation import relatives, thumbnails  # brings torch, which no other set needs here

    table, how = relatives.find_groups(thumbnails.look_into(dataset, work, raw, progress=not quiet()))
    table.to_csv(work / index.GROUPS, index=False)
    said = f"Groups stay on one side of a split: {how}."
    named = table[table.patient != ""]
    if len(named):
        several = int(named.groupby("group").patient.nunique().gt(1).sum())
        said += f" {counted(several, 'group')} {'joins' if several == 1 else 'join'} images of several patients."
    facts = {name: list(getattr(dataset, name)) for name in ("classes", "channels", "mask_channels")}
    holds = summary.summary(rows, remarks, table, bool(dataset.mask_channels))
    return facts | {"holds": holds, "relatives": said, "groups_sha256": manifest.sha256(work / index.GROUPS)}


def _one_spelling_of_patients(rows: list[dict[str, Any]]) -> list[str]:
    """Spell patients that differ in case or spaces alone in one way; notes on what was."""
    names, several = spelling.one_spelling([row["patient"] for row in rows])
    for row, name in zip(rows, names, strict=True):
        row["patient"] = name
    if not several:
        return []
    named = ", ".join(several[:5]) + (" …" if len(several) > 5 else "")
    return [f"{counted(len(several), 'patient')} spelt in several ways, each taken to be one person: {named}"]


def counted(number: int, what: str) -> str:
    """`3 files`, or `1 file`."""
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def quiet() -> bool:
    """Whether nobody watches, so that progress is not shown."""
    return os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not sys.stderr.isatty()


def bar(total: int, what: str, unit: str) -> tqdm:
    """A progress bar for somebody who watches."""
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=quiet())


def since(started: float) -> float:
    """Seconds since a reading of `time.monotonic`."""
    return round(time.monotonic() - started, 1)

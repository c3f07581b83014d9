"""Makes a data set of the files in `raw/`: images, manifest and log, and the groups of a reader's own."""

import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.catalog import Dataset
from datasets.reading import read_json
from datasets.sources import layouts, own
from datasets.sources.sample import BrokenArchive, Sample
from datasets.store import index, manifest, packing, preprocess

MAX_BROKEN = 0.01  # share of broken images above which the archive, not the image, is at fault


def store_bytes(dataset: Dataset, images: int, size: int, bits: int = 8) -> int:
    """What `images` take in the store; of a volume compression leaves less than a third, masks included."""
    planes = len(dataset.channels) * bits // 8 + len(dataset.mask_channels)
    return images * planes * size * size // (3 if dataset.slices > 1 else 1)


def build(dataset: Dataset, raw: Path, work: Path, how: dict[str, Any], workers: int | None) -> None:
    """Write images.h5, manifest.csv and log.json into `work` from the files of `raw`.

    `how`: size, crop, bits, and whether a part of the published images is refused (whole).
    """
    started = time.monotonic()
    samples = {sample.path: sample for sample in layouts.samples(dataset, raw)}
    source = read_json(raw.parent / "raw.json", f"delete {raw.parent}", needs=["archive"])
    archive = source["archive"].get("path", dataset.name)
    images = own.count(raw) if dataset.layout == "own" else len(samples) * dataset.slices
    published = layouts.published_images(dataset, raw)
    is_part = images < (1 - MAX_BROKEN) * published
    if is_part and how["whole"]:
        raise BrokenArchive(
            f"{archive}: {images:,} of the {published:,} images that "
            f"{dataset.name} was published with; {_again(dataset)}, or add --partial to take this part of it"
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
    _judge(dataset, broken, len(samples), archive)
    known = manifest.originals(dataset.name)
    found = ((_sample_of(samples, facts), facts) for facts in stored)
    rows = [manifest.row(sample.label, sample.split, {**sample.facts, **facts}, known) for sample, facts in found]
    notes = source.pop("notes", []) + _one_spelling(rows, "patient", "to be one person")
    mark = {"partial": f"{len(rows)} of {published}"} if is_part else {}
    remarks = Counter(remark for row in rows for remark in row.pop("remarks"))
    rows = [row | mark for row in rows]
    labels = {row["label"] for row in rows}
    if absent := sorted(set(dataset.classes) - set(dataset.findings) - labels):
        raise BrokenArchive(f"{dataset.name}: no image of {', '.join(absent)}; {_again(dataset)}")
    manifest.write_manifest(work / "manifest.csv", rows)
    extra = _reader_s_own(dataset, rows, remarks, work, raw) if dataset.layout == "own" else {}
    if not dataset.classes:  # only the data at hand name them, see `catalog.get`
        extra |= {"classes": sorted(labels), "channels": list(dataset.channels), "mask_channels": []}
    counts = manifest.count(rows)
    for difference in manifest.count_differences(dataset, counts):
        print(f"note: {difference}", file=sys.stderr)
    log = {"name": dataset.name, "version": packing.VERSION, "size": how["size"], "crop": how["crop"]}
    log |= mark | ({"bits": how["bits"]} if dataset.slices > 1 else {})
    if remarks[preprocess.NO_END]:
        notes.append(f"{counted(remarks[preprocess.NO_END], 'image')}: {preprocess.NO_END}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    log |= {"notes": notes} if notes else {}
    log |= {"images": len(rows), "broken": broken, "counts": counts, "seconds": since(started)}
    manifest.write_log(work, log | source | extra)


def _reader_s_own(dataset: Dataset, rows: list[dict], remarks: Counter, work: Path, raw: Path) -> dict[str, Any]:
    """Find the groups of `own`, write them to `work`, and return what its log says more than that of other sets."""
    from datasets.curation import split_table, thumbnails  # brings torch, which no other set needs here

    table, how = split_table.find_groups(thumbnails.look_into(dataset, work, raw, progress=not quiet()))
    table.to_csv(work / index.GROUPS, index=False)
    several = table[table.patient.ne("")].groupby("group").patient.nunique().gt(1).sum()
    joined = f"{counted(int(several), 'group')} {'joins' if several == 1 else 'join'} images of several patients"
    said = f"Groups stay on one side of a split: {how}." + f" {joined}." * bool(table.patient.ne("").any())
    facts = {name: list(getattr(dataset, name)) for name in ("classes", "channels", "mask_channels")}
    holds = manifest.summary(rows, remarks, table, bool(dataset.mask_channels))
    return facts | {"holds": holds, "relatives": said, "groups_sha256": manifest.sha256(work / index.GROUPS)}


def _one_spelling(rows: list[dict[str, Any]], column: str, taken: str) -> list[str]:
    """Spell what differs in case or spaces alone in one way; notes on what was."""
    names, several = manifest.one_spelling([row[column] for row in rows])
    for row, name in zip(rows, names, strict=True):
        row[column] = name
    more = f" and {len(several) - 5} more" * (len(several) > 5)
    is_spelt = "is spelt in several ways, taken" if len(several) == 1 else "are spelt in several ways, each taken"
    return [f"{counted(len(several), column)} {is_spelt} {taken}: {', '.join(several[:5])}{more}"] * bool(several)


def _sample_of(samples: dict[str, Sample], facts: dict[str, Any]) -> Sample:
    """The sample of an image: of its file, or of the volume that its path goes on from."""
    path = facts["path"]
    return samples[path if "slice" not in facts else path.rpartition("/")[0]]


def _judge(dataset: Dataset, broken: list[dict[str, str]], total: int, archive: str) -> None:
    """Say which images are left out as broken; too many condemn the archive."""
    if len(broken) > MAX_BROKEN * total:
        first = "; ".join(f"{b['path']}: {b['reason']}" for b in broken[:3])
        raise BrokenArchive(
            f"{archive}: {len(broken)} of {total} images are broken, more than {MAX_BROKEN:.0%} "
            f"({first}); {_again(dataset)}"
        )
    for image in broken[:5]:
        print(f"warning: left out {image['path']}: {image['reason']}", file=sys.stderr)
    if len(broken) > 5:
        print(f"warning: and {len(broken) - 5} more, all listed in log.json", file=sys.stderr)


def _again(dataset: Dataset) -> str:
    return f"take {dataset.archive} from {dataset.url}" if dataset.url else "mend that and run again"


def counted(number: int, what: str) -> str:
    """`3 files`, or `1 file`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def quiet() -> bool:
    """Whether nobody watches, so that progress is not shown."""
    return os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not sys.stderr.isatty()


def bar(total: int, what: str, unit: str) -> tqdm:
    """A progress bar for somebody who watches."""
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=quiet())


def since(started: float) -> float:
    """Seconds since a reading of `time.monotonic`."""
    return round(time.monotonic() - started, 1)

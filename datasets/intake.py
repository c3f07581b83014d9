"""Brings a set in: its archive, fetched or at hand, becomes `images.h5`, `manifest.csv`, `log.json` and `raw/`."""

import functools
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from datasets import catalog, data_folder
from datasets.catalog import BrokenArchive, DataError, Dataset
from datasets.reading import read_json
from datasets.sources import layouts, nih, own, require_utf8, unpacking
from datasets.store import index, manifest, packing

MAX_BROKEN = 0.01  # share of broken images above which the archive, not the image, is at fault


def prepare(
    name: str, source: Path | own.Given | None, *, workers: int | None, partial: bool, replace: bool, **wanted: Any
) -> None:
    """Bring data set `name` in, unless it is there already; what an interrupted run finished is taken up by the next.

    Args:
        source: the publisher's archive, or the folder that it was unpacked to; what a reader gives; None fetches it.
        workers: processes for the preprocessing, all cores by default.
        partial: take an archive that holds only a part of the published images, and mark it so.
        replace: pack `source` anew in place of what is there.
        wanted: what the stored images shall be like: `size` (side in pixels), `crop` (a rule of `catalog.CROPS`),
            `channels` (their names, of `own`).  None takes what is stored, or the catalogue's.  Other images are made
            from `raw/`.

    Raises `DataError` with file and remedy, also where the set that is there came from another archive.
    """
    dataset, home = catalog.lookup(catalog.CATALOG, name, "data set"), catalog.dataset_dir(name)
    work = data_folder.work_of(home)
    with data_folder.disk_errors(home):
        origin = None
        if source:  # name, bytes, sha256 and path of what is brought in
            origin = own.source_of(source) if dataset.layout == "own" else unpacking.source_of(dataset, source)
        if not replace and _is_there(dataset, home, wanted, origin) and not work.exists():
            size = read_json(home / "log.json")["size"]
            print(f"{name}: lies in {home} as it is wanted, {size}×{size}; nothing to do")
            return
        with data_folder.locked(home), data_folder.working_folder(work):
            if not replace and _is_there(dataset, home, wanted, origin):  # another process made it meanwhile
                return
            stored = manifest.read_log(home) or {}
            size, crop = (wanted[key] or stored.get(key, getattr(dataset, key)) for key in ("size", "crop"))
            if dataset.layout == "generated":
                from datasets.generator import phantom  # brings nilearn and scipy, seconds that no other set waits for

                phantom.generate(work, size=size)
                rows, known = manifest.read_rows(work / "manifest.csv"), {"version": packing.VERSION, "crop": "none"}
                manifest.write_log(work, known | {"name": name, "size": size, "images": len(rows), "broken": []})
            elif dataset.layout == "joined":
                from datasets.sources import joined  # brings torch, which no other set needs here

                joined.join(dataset, work, size, crop, workers)
            else:
                kept = None if replace else _kept_raw(home, origin)
                raw = kept or _unpack(dataset, source, origin, work)
                if dataset.layout == "own":
                    dataset = own.facts(dataset, raw, wanted["channels"] or (stored.get("channels") if kept else None))
                _build(dataset, raw, work, size, crop, whole=not (partial or kept), workers=workers)
            data_folder.publish(work, home)
    log = read_json(home / "log.json")
    if "partial" in log:
        print(f"note: {name} is a part of it, {log['partial']} images: the committed splits refuse it", file=sys.stderr)
    other = stored.get("size", log["size"]) != log["size"]
    instead = f", in place of those of {stored['size']}×{stored['size']}" if other else ""
    print(f"{name}: {log['images']} images of {log['size']}×{log['size']} written to {home}{instead}")
    if "holds" in log:
        print(f"{name} holds {manifest.sentence(log['holds'])}\n{log['relatives']}")


def at_hand(given: str | Path) -> Path:
    """The whole path of a file or folder that a reader names; `DataError` where it is not there."""
    path = Path(os.path.realpath(os.path.expanduser(given)))
    require_utf8(path)
    # Neither is a pipe, which cannot be read twice, nor where a name is too long, links go in a circle, or a folder is
    # closed to us.
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise DataError(f"{path}: no such file or folder, or not one that you may read")
    return path


def _is_there(dataset: Dataset, home: Path, wanted: dict[str, Any], origin: dict[str, Any] | None) -> bool:
    """Whether the set is there as `wanted`; `DataError` where it is, but of another archive than `origin`."""
    log = manifest.read_log(home)
    if not log:
        return False
    packed = {"name": "unknown", "sha256": "unknown"} | log.get("archive", {})
    if origin and origin["sha256"] != packed["sha256"]:
        if dataset.layout == "own":  # a reader's folder changes, a publisher's archive does not
            return False
        raise DataError(
            f"{origin['path']}: another archive than the one that '{home.name}' was packed from ({packed['name']}, "
            f"sha256 {packed['sha256'][:12]}…); add --replace to pack this one in its place"
        )
    return log["version"] == packing.VERSION and all(value in (None, log.get(key)) for key, value in wanted.items())


def _kept_raw(folder: Path, origin: dict[str, Any] | None) -> Path | None:
    """`raw/` of `folder` if it is whole and, where an archive is given, came from this very one."""
    raw, note = folder / "raw", folder / "raw.json"
    if not (raw.is_dir() and note.is_file()):
        return None
    packed = read_json(note, f"delete {folder}", needs=["archive"])["archive"]
    return raw if origin is None or packed["sha256"] == origin["sha256"] else None


def _unpack(dataset: Dataset, source: Path | own.Given | None, origin: dict[str, Any] | None, work: Path) -> Path:
    """Return `raw/` of `source` (fetched if None); a finished unpacking of the same archive is taken up."""
    if source is None and dataset.layout == "own":
        raise DataError("own: name your folder with --folder, or a table with --labels; see datasets/README.md")
    if source is None:
        from datasets.sources import fetch  # brings the packages of the network, which a file at hand does not need

        source = fetch.fetch(dataset, work / "download")
        origin = unpacking.source_of(dataset, source)
    if raw := _kept_raw(work, origin):
        print(f"{dataset.name}: {origin['name']} was unpacked before; going on from there")
        return raw
    data_folder.clean(work, keep=("download",))
    known = {"archive": origin, "left_out": []}
    if isinstance(source, own.Given):
        if notes := own.copy(source, work / "unpacking"):
            known["notes"] = notes
    else:
        known["left_out"] = unpacking.unpack(dataset, source, work / "unpacking")
    manifest.write_json(work / "raw.json", known)
    return (work / "unpacking").rename(work / "raw")


def _build(dataset: Dataset, raw: Path, work: Path, size: int, crop: str, *, whole: bool, workers: int | None) -> None:
    """Write images.h5, manifest.csv and log.json into `work` from the files of `raw`.

    `whole`: whether a part of the published images is refused.
    """
    samples = {sample.path: sample for sample in layouts.samples(dataset, raw)}
    source = read_json(raw.parent / "raw.json", f"delete {raw.parent}", needs=["archive"])
    archive = source["archive"].get("path", dataset.name)
    images = len(samples) * dataset.slices
    published = 0 if dataset.layout == "nih" and (raw / nih.SAMPLE).is_file() else dataset.images
    is_part = images < (1 - MAX_BROKEN) * published
    if is_part and whole:
        raise BrokenArchive(
            f"{archive}: {images:,} of the {published:,} images that {dataset.name} was published with; "
            f"{dataset.again}, or add --partial to take this part of it"
        )
    stored, broken = packing.pack(
        functools.partial(layouts.read, dataset, raw),
        list(samples),
        work / "images.h5",
        size=size,
        crop=crop,
        attrs={"name": dataset.name},
        slices=None
        if dataset.layout == "own" and any(own.is_volume(raw / path) for path in samples)
        else dataset.slices,
        workers=workers,
    )
    if broken:
        first = "; ".join(f"{image['path']}: {image['reason']}" for image in broken[:5])
        several = f"{len(broken)} of {len(samples)} images are broken ({first})"
        if len(broken) > MAX_BROKEN * len(samples):
            raise BrokenArchive(f"{archive}: {several}; {dataset.again}")
        print(f"warning: {several} and left out; log.json lists them", file=sys.stderr)
    mark = {"partial": f"{len(stored)} of {published}"} if is_part else {}
    known, rows, remarks = manifest.originals(dataset.name), [], Counter()
    for facts in stored:
        remarks.update(facts.pop("remarks"))
        sample = samples[facts["path"].rpartition("/")[0] if "slice" in facts else facts["path"]]  # of the volume
        row = {"label": sample.label, "published_split": sample.split, "patient": "", "sha256": facts["file_sha256"]}
        # What is known of the publisher's own file comes last: sets are compared by its `sha256`, also where a mirror
        # recompressed the images; `file_sha256` is of the one that was read.
        rows.append(row | sample.facts | facts | known.get(facts["path"], {}) | mark)
    notes = source.pop("notes", [])
    names, several = manifest.one_spelling([row["patient"] for row in rows])
    rows = [row | {"patient": name} for row, name in zip(rows, names, strict=True)]
    if several:
        first = ", ".join(several[:5])
        notes.append(f"patients spelt in several ways, each taken to be one person ({len(several)}): {first}")
    labels = {row["label"] for row in rows}
    if absent := sorted(set(dataset.classes) - set(dataset.findings) - labels):
        raise BrokenArchive(f"{archive}: no image of {', '.join(absent)}; {dataset.again}")
    manifest.write_manifest(work / "manifest.csv", rows)
    extra = _of_own(dataset, rows, remarks, work, raw) if dataset.layout == "own" else {}
    if not dataset.classes:  # only the data at hand name them, see `catalog.get`
        extra = {"classes": sorted(labels), "channels": list(dataset.channels), "mask_channels": []}
    counts = manifest.count(rows)
    for note in manifest.count_differences(dataset, counts) + notes:
        print(f"note: {note}", file=sys.stderr)
    log = {"name": dataset.name, "version": packing.VERSION, "size": size, "crop": crop, **mark}
    log |= {"notes": notes} if notes else {}
    manifest.write_log(work, log | {"images": len(rows), "broken": broken, "counts": counts} | source | extra)


def _of_own(dataset: Dataset, rows: list[dict], remarks: Counter, work: Path, raw: Path) -> dict[str, Any]:
    """Find the groups of `own`, write them to `work`, and return what its log says more than that of other sets."""
    from datasets.curation import split_table, thumbnails  # brings SciPy and faiss, which no other set needs here

    table, how = split_table.find_groups(thumbnails.look_into(dataset, work, raw))
    table.to_csv(work / index.GROUPS, index=False)
    said = f"Groups stay on one side of a split: {how}."
    if (table.patient != "").any():
        several = table[table.patient != ""].groupby("group").patient.nunique().gt(1).sum()
        said += f" Groups that join images of several patients: {several}."
    facts = {name: list(getattr(dataset, name)) for name in ("classes", "channels", "mask_channels")}
    holds = manifest.summary(rows, remarks, table, bool(dataset.mask_channels))
    return facts | {"holds": holds, "relatives": said, "groups_sha256": manifest.sha256(work / index.GROUPS)}

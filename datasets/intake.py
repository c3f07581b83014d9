"""Bringing a set in: its archive, fetched or at hand, becomes `images.h5`, `manifest.csv`, `log.json` and `raw/`.

`download.py` is the command, `fetch.py` downloads, `unpacking.py` unpacks, `packing.py` stores the images.  The folder
appears when whole.
"""

import functools
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets import catalog, data_folder
from datasets.catalog import BrokenArchive, DataError, Dataset
from datasets.reading import one_line, read_json
from datasets.sources import folders, layouts, nih, own, require_utf8, unpacking
from datasets.store import index, manifest, packing, preprocess

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
        wanted: what the stored images shall be like: `size` (side in pixels), `crop` (a rule of `facts.CROPS`), `seed`
            (of the phantom), `bits` (8 or 16 for each pixel of a volume), `channels` (their names, of `own`).  None
            takes what is stored, or the catalogue's.  Other images are made from `raw/`.

    Raises `DataError` with file and remedy, also where the set that is there came from another archive.
    """
    dataset, home = catalog.lookup(catalog.CATALOG, name, "data set"), catalog.dataset_dir(name)
    work = data_folder.work_of(home)
    with data_folder.disk_errors(home):
        origin = None
        if source:  # name, bytes, sha256 and path of what is brought in
            origin = own.source_of(source) if dataset.layout == "own" else unpacking.source_of(dataset, source)
        if not replace and _is_there(dataset, home, wanted, origin) and not work.exists():
            print(f"{name}: lies in {home} as it is wanted; nothing to do")
            return
        with data_folder.locked(home), data_folder.working_folder(work):
            if not replace and _is_there(dataset, home, wanted, origin):  # another process made it meanwhile
                return
            stored = manifest.read_log(home) or {}
            how = {"size": dataset.size, "crop": dataset.crop, "bits": 8, "seed": 0}
            how = {key: stored.get(key, value) if wanted[key] is None else wanted[key] for key, value in how.items()}
            if dataset.layout == "generated":
                _generate(name, work, how["size"], how["seed"])
            else:
                kept = None if replace else _kept_raw(home, origin)
                raw = kept or _unpack(dataset, source, origin, work, how["size"])
                if dataset.layout == "own":
                    dataset = own.facts(dataset, raw, wanted["channels"] or (stored.get("channels") if kept else None))
                _build(dataset, raw, work, how, whole=not (partial or kept), workers=workers)
            data_folder.publish(work, home)
    log = read_json(home / "log.json")
    if "partial" in log:
        print(f"note: {name} is a part of it, {log['partial']} images: the committed splits refuse it", file=sys.stderr)
    print(f"{name}: {log['images']} images of {log['size']}×{log['size']} written to {home}")
    if "holds" in log:
        print(f"{name} holds {manifest.sentence(log['holds'])}\n{log['relatives']}")


def at_hand(given: str | Path) -> Path:
    """The whole path of a file or folder that a reader names; `DataError` where it is not there or may not be read."""
    path = Path(given)
    try:
        require_utf8(path)
        path = path.expanduser().resolve()
        require_utf8(path)
        if path.exists():
            next(path.iterdir(), None) if path.is_dir() else path.open("rb").close()
            return path
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give yourself the right to read it") from error
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle, the home of nobody
        raise DataError(f"{path}: cannot be read ({one_line(error)}); name another file or folder") from error
    raise DataError(f"{path}: no such file or folder; name one that is there")


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


def _generate(name: str, work: Path, size: int, seed: int) -> None:
    from datasets.generator import phantom  # brings nilearn and scipy, seconds that no other set needs to wait

    started = time.monotonic()
    phantom.generate(work, seed=seed, size=size, progress=not quiet())
    log = {"name": name, "version": packing.VERSION, "size": size, "crop": "none", "seed": seed}
    log |= {"images": len(manifest.read_rows(work / "manifest.csv")), "broken": []}
    manifest.write_log(work, log | {"seconds": round(time.monotonic() - started, 1)})


def _kept_raw(folder: Path, origin: dict[str, Any] | None) -> Path | None:
    """`raw/` of `folder` if it is whole and, where an archive is given, came from this very one."""
    raw, note = folder / "raw", folder / "raw.json"
    if not (raw.is_dir() and note.is_file()):
        return None
    packed = read_json(note, f"delete {folder}", needs=["archive"])["archive"]
    return raw if origin is None or packed["sha256"] == origin["sha256"] else None


def _unpack(
    dataset: Dataset, source: Path | own.Given | None, origin: dict[str, Any] | None, work: Path, size: int
) -> Path:
    """Return `raw/` of `source` (fetched if None); a finished unpacking of the same archive is taken up."""
    if source is None and dataset.layout == "own":
        raise DataError("own: name your folder with --folder, or a table with --labels; see datasets/README.md")
    if source is None:
        from datasets.sources import fetch  # brings the packages of the network, which a file at hand does not need

        source = fetch.fetch(dataset, work / "download", quiet=quiet())
        origin = unpacking.source_of(dataset, source)
    if raw := _kept_raw(work, origin):
        print(f"{dataset.name}: {origin['name']} was unpacked before; going on from there")
        return raw
    data_folder.clean(work, keep=("download",))
    known = {"archive": origin, "left_out": []}
    if isinstance(source, own.Given):
        data_folder.require_space(work.parent, origin["bytes"])
        with bar(0, "copying", "files") as progress:
            if notes := own.copy(source, work / "unpacking", progress.update):
                known["notes"] = notes
    else:
        packed = _store_bytes(dataset, dataset.images, size, bits=8)
        data_folder.require_space(work.parent, unpacking.content_bytes(source) + packed)
        with bar(0 if dataset.slices > 1 else dataset.images, "unpacking", "files") as progress:
            known["left_out"] = unpacking.unpack(dataset, source, work / "unpacking", progress.update)
        if beside := [m for m in known["left_out"] if dataset.layout == "folders" and folders.overlooked(dataset, m)]:
            first = f"{', '.join(beside[:3])} ({len(beside)} files)"
            print(f"note: left out {first}: no image that can be read; log.json lists all", file=sys.stderr)
    manifest.write_json(work / "raw.json", known)
    return (work / "unpacking").rename(work / "raw")


def _store_bytes(dataset: Dataset, images: int, size: int, bits: int) -> int:
    """What `images` take in the store; of a volume compression leaves less than a third, masks included."""
    planes = len(dataset.channels) * bits // 8 + len(dataset.mask_channels)
    return images * planes * size * size // (3 if dataset.slices > 1 else 1)


def _build(dataset: Dataset, raw: Path, work: Path, how: dict[str, Any], whole: bool, workers: int | None) -> None:
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
            functools.partial(layouts.read, dataset, raw, bits=how["bits"]),
            list(samples),
            work / "images.h5",
            size=how["size"],
            crop=how["crop"],
            attrs={"name": dataset.name},
            needed=_store_bytes(dataset, images, how["size"], how["bits"]),
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
    if remarks[preprocess.NO_END]:
        notes.append(f"{preprocess.NO_END}: {remarks[preprocess.NO_END]} images, taken as they are")
    for note in manifest.count_differences(dataset, counts) + notes:
        print(f"note: {note}", file=sys.stderr)
    log = {"name": dataset.name, "version": packing.VERSION, "size": how["size"], "crop": how["crop"], **mark}
    log |= {"bits": how["bits"]} if dataset.slices > 1 else {}
    log |= {"notes": notes} if notes else {}
    log |= {"images": len(rows), "broken": broken, "counts": counts, "seconds": round(time.monotonic() - started, 1)}
    manifest.write_log(work, log | source | extra)


def _of_own(dataset: Dataset, rows: list[dict], remarks: Counter, work: Path, raw: Path) -> dict[str, Any]:
    """Find the groups of `own`, write them to `work`, and return what its log says more than that of other sets."""
    from datasets.curation import split_table, thumbnails  # brings torch, which no other set needs here

    table, how = split_table.find_groups(thumbnails.look_into(dataset, work, raw, progress=not quiet()))
    table.to_csv(work / index.GROUPS, index=False)
    said = f"Groups stay on one side of a split: {how}."
    if (table.patient != "").any():
        several = table[table.patient != ""].groupby("group").patient.nunique().gt(1).sum()
        said += f" Groups that join images of several patients: {several}."
    facts = {name: list(getattr(dataset, name)) for name in ("classes", "channels", "mask_channels")}
    holds = manifest.summary(rows, remarks, table, bool(dataset.mask_channels))
    return facts | {"holds": holds, "relatives": said, "groups_sha256": manifest.sha256(work / index.GROUPS)}


def quiet() -> bool:
    """Whether nobody watches, so that progress is not shown."""
    return os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not sys.stderr.isatty()


def bar(total: int, what: str, unit: str) -> tqdm:
    """A progress bar for somebody who watches."""
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=quiet())

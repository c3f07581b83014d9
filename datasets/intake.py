"""Bringing a set in: its archive, fetched or at hand, becomes `images.h5`, `manifest.csv`, `log.json` and `raw/`.

`download.py` is the command; each step has its file: `fetch.py` downloads, `unpacking.py` unpacks, `building.py` makes
the set of the files in `raw/`.  The folder appears when whole.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import building, catalog, data_folder
from datasets.building import bar, counted, quiet, since
from datasets.catalog import DataError, Dataset
from datasets.reading import one_line, read_json
from datasets.sources import fetch, layouts, own, unpacking
from datasets.sources.walking import require_utf8
from datasets.store import manifest, packing


def prepare(
    name: str,
    archive: str | Path | own.Given | None = None,
    size: int | None = None,
    crop: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    bits: int | None = None,
    channels: Sequence[str] = (),
    partial_set: bool = False,
    replace: bool = False,
) -> Path:
    """Bring data set `name` in, unless it is there already, and return its folder.

    Args:
        archive: the publisher's archive, downloaded by hand, or the folder that it was unpacked to; of `own`, the
            folder or what else the reader gives; None fetches it.
        size: side of the stored square images in pixels; a new one is made from `raw/`.  None takes what is
            stored, or the catalogue's.
        crop: a rule of `facts.CROPS`; None takes what is stored, or the catalogue's.
        workers: processes for the preprocessing, all cores by default.
        seed: of the phantom; None takes what is stored, or 0.
        bits: 8 or 16 for each pixel of a volume; None takes what is stored, or 8.
        channels: names of the channels of the images of `own`, which are kept; without them images become grey.
        partial_set: take an archive that holds only a part of the published images, and mark it so.
        replace: pack `archive` anew in place of what is there.

    Raises `DataError` with file and remedy, also where the set that is there came from another archive.  What an
    interrupted run finished is taken up by the next.
    """
    dataset, home = catalog.lookup(catalog.CATALOG, name, "data set"), catalog.dataset_dir(name)
    archive = _given(archive) if dataset.layout == "own" else existing(archive)
    wanted = {"size": size, "crop": crop, "seed": seed, "bits": bits, "channels": list(channels) or None}
    work = data_folder.work_of(home)
    with data_folder.disk_errors(home):
        source = _source(dataset, archive) if archive else None
        if not replace and _is_there(dataset, home, wanted, source) and not work.exists():
            return home
        with data_folder.locked(home), data_folder.working_folder(work):
            if not replace and _is_there(dataset, home, wanted, source, say=False):
                return home
            stored = manifest.read_log(home) or {}
            size = size or stored.get("size") or dataset.size
            if dataset.layout == "generated":
                _generate(name, work, size, stored.get("seed", 0) if seed is None else seed)
            else:
                kept = None if replace else _kept_raw(home, source)
                raw = kept or _unpack(dataset, archive, source, work, size)
                how = {"size": size, "crop": crop or stored.get("crop") or dataset.crop}
                how |= {"bits": bits or stored.get("bits") or 8, "whole": not (partial_set or kept)}
                if dataset.layout == "own":
                    dataset = own.facts(dataset, raw, channels or (stored.get("channels", ()) if kept else ()))
                building.build(dataset, raw, work, how, workers)
            log = json.loads((work / "log.json").read_text(encoding="utf-8"))
            data_folder.publish(work, home)
    if "partial" in log:
        print(f"note: {name} is a part of it, {log['partial']} images: the committed splits refuse it", file=sys.stderr)
    print(f"{name}: {log['images']} images of {size}×{size} written to {home}")
    if "holds" in log:
        print(f"{name} holds {manifest.sentence(log['holds'])}\n{log['relatives']}")
    return home


def _given(source: str | Path | own.Given | None) -> own.Given | None:
    """What a reader gives, if it is there."""
    given = source if isinstance(source, own.Given) or not source else own.Given(Path(source))
    if given:
        given.folder = _looked_at(given.folder)
        given.table = given.table and _looked_at(given.table)
        if not given.folder.is_dir():
            raise DataError(f"{given.folder}: no such folder; --folder wants one with images in it")
    return given


def existing(archive: str | Path | None) -> Path | None:
    """The path of an archive or folder that is there and may be read."""
    if not archive:
        return None
    path = _looked_at(archive)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; --archive wants a zip archive, or what was unpacked from it")
    return path


def _looked_at(given: str | Path) -> Path:
    """The whole path of a file or folder that a reader names; `DataError` where it may not be read or named so."""
    path = Path(given)
    require_utf8(path)
    try:
        path = path.expanduser().resolve()
        require_utf8(path)
        if path.exists():
            next(path.iterdir(), None) if path.is_dir() else path.open("rb").close()
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give yourself the right to read it") from error
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle, the home of nobody
        raise DataError(f"{path}: cannot be read ({one_line(error)}); name another file or folder") from error
    return path


def _is_there(
    dataset: Dataset, home: Path, wanted: dict[str, Any], source: dict[str, Any] | None, say: bool = True
) -> bool:
    """Whether the set is there as `wanted`; `DataError` where it is, but of another archive than `source`."""
    log = manifest.read_log(home)
    if not log:
        return False
    packed = log.get("archive", {})
    if source and source["sha256"] != packed.get("sha256"):
        if dataset.layout == "own":  # a reader's folder changes, a publisher's archive does not
            return False
        raise DataError(
            f"{source['path']}: another archive than the one that '{home.name}' was packed from "
            f"({packed.get('name', 'unknown')}, {packed.get('bytes', 0):,} bytes, sha256 "
            f"{packed.get('sha256', 'unknown')[:12]}…); add --replace to pack this one in its place"
        )
    there = log["version"] == packing.VERSION and all(value in (None, log.get(key)) for key, value in wanted.items())
    if there and say:
        print(f"{home.name}: {log['images']} images of {log['size']}×{log['size']} are in {home}; nothing to do")
    return there


# ---- the steps ---------------------------------------------------------------------------------------


def _generate(name: str, work: Path, size: int, seed: int) -> None:
    from datasets.generator import phantom  # brings nilearn and scipy, seconds that no other set needs to wait

    started = time.monotonic()
    phantom.generate(work, seed=seed, size=size, progress=not quiet())
    images = len(manifest.read_rows(work / "manifest.csv"))
    log = {"name": name, "version": packing.VERSION, "size": size, "crop": "none", "seed": seed}
    manifest.write_log(work, {**log, "images": images, "broken": [], "seconds": since(started)})


def _kept_raw(folder: Path, source: dict[str, Any] | None) -> Path | None:
    """`raw/` of `folder` if it is whole and, where an archive is given, came from this very one."""
    raw, note = folder / "raw", folder / "raw.json"
    if not (raw.is_dir() and note.is_file()):
        return None
    packed = read_json(note, f"delete {folder}", needs=["archive"])["archive"]
    return raw if source is None or packed["sha256"] == source["sha256"] else None


def _source(dataset: Dataset, archive: Path | own.Given) -> dict[str, Any]:
    """Name, bytes, sha256 and path of what is brought in."""
    if isinstance(archive, own.Given):
        return {**own.source_of(archive), "path": str(archive.path)}
    return {**unpacking.source_of(dataset, archive), "path": str(archive)}


def _unpack(
    dataset: Dataset, archive: Path | own.Given | None, source: dict[str, Any] | None, work: Path, size: int
) -> Path:
    """Return `raw/` of `archive` (fetched if None); a finished unpacking of the same archive is taken up."""
    if archive is None and dataset.layout == "own":
        raise DataError("own: name your folder with --folder, or a table with --labels; see datasets/README.md")
    if archive is None:
        archive = fetch.fetch(dataset, work / "download", quiet=quiet())
        source = unpacking.source_of(dataset, archive)
    if raw := _kept_raw(work, source):
        print(f"{dataset.name}: {source['name']} was unpacked before; going on from there")
        return raw
    data_folder.clean(work, keep=("download",))
    left_out, notes = [], []
    if isinstance(archive, own.Given):
        fetch.require_space(work.parent, source["bytes"])
        with bar(0, "copying", "files") as progress:
            notes = own.copy(archive, work / "unpacking", progress.update)
    else:
        packed = building.store_bytes(dataset, dataset.images, size)
        fetch.require_space(work.parent, unpacking.content_bytes(archive) + packed)
        with bar(0 if dataset.slices > 1 else dataset.images, "unpacking", "files") as progress:
            left_out = unpacking.unpack(dataset, archive, work / "unpacking", progress.update)
        _say_overlooked([member for member in left_out if layouts.overlooked(dataset, member)])
    known = {"archive": source, "left_out": left_out} | ({"notes": notes} if notes else {})
    manifest.write_json(work / "raw.json", known)
    return (work / "unpacking").rename(work / "raw")


def _say_overlooked(members: list[str]) -> None:
    if members:
        files = f"{counted(len(members), 'file')} beside the images, {', '.join(members[:3])}"
        print(f"note: left out {files}: no image that can be read; log.json lists all", file=sys.stderr)

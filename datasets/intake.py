"""Bringing a set in: its archive, fetched or at hand, becomes `images.h5`, `manifest.csv`, `log.json` and `raw/`.

`download.py` is the command; each step has its file: `fetch.py` downloads, `unpacking.py` unpacks, `building.py` makes
the set of the files in `raw/`.  The folder appears when whole.
"""

import sys
import time
from pathlib import Path
from typing import Any

from datasets import building, catalog, data_folder
from datasets.building import bar, counted, quiet
from datasets.catalog import DataError, Dataset
from datasets.reading import one_line, read_json
from datasets.sources import folders, own, require_utf8, unpacking
from datasets.store import manifest, packing, summary


def prepare(
    name: str, source: Path | own.Given | None, *, workers: int | None, partial: bool, replace: bool, **wanted: Any
) -> None:
    """Bring data set `name` in, unless it is there already.

    Args:
        source: the publisher's archive, downloaded by hand, or the folder that it was unpacked to; of `own`, what the
            reader gives; None fetches it.
        workers: processes for the preprocessing, all cores by default.
        partial: take an archive that holds only a part of the published images, and mark it so.
        replace: pack `source` anew in place of what is there.
        wanted: what the stored images shall be like: `size` (side in pixels), `crop` (a rule of `facts.CROPS`), `seed`
            (of the phantom), `bits` (8 or 16 for each pixel of a volume), `channels` (their names, of `own`).  None
            takes what is stored, or the catalogue's.  Other images are made from `raw/`.

    Raises `DataError` with file and remedy, also where the set that is there came from another archive.  What an
    interrupted run finished is taken up by the next.
    """
    dataset, home = catalog.lookup(catalog.CATALOG, name, "data set"), catalog.dataset_dir(name)
    work = data_folder.work_of(home)
    with data_folder.disk_errors(home):
        origin = _origin(dataset, source) if source else None
        if not replace and _is_there(dataset, home, wanted, origin) and not work.exists():
            print(f"{name}: {_held(home)} are in {home}; nothing to do")
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
                building.build(dataset, raw, work, how, whole=not (partial or kept), workers=workers)
            data_folder.publish(work, home)
    log = read_json(home / "log.json")
    if "partial" in log:
        print(f"note: {name} is a part of it, {log['partial']} images: the committed splits refuse it", file=sys.stderr)
    print(f"{name}: {_held(home)} written to {home}")
    if "holds" in log:
        print(f"{name} holds {summary.sentence(log['holds'])}\n{log['relatives']}")


def _held(home: Path) -> str:
    log = read_json(home / "log.json")
    return f"{log['images']} images of {log['size']}×{log['size']}"


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
    manifest.write_log(work, log | {"seconds": building.since(started)})


def _origin(dataset: Dataset, source: Path | own.Given) -> dict[str, Any]:
    """Name, bytes, sha256 and path of what is brought in."""
    return own.source_of(source) if isinstance(source, own.Given) else unpacking.source_of(dataset, source)


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
        packed = building.store_bytes(dataset, dataset.images, size, bits=8)
        data_folder.require_space(work.parent, unpacking.content_bytes(source) + packed)
        with bar(0 if dataset.slices > 1 else dataset.images, "unpacking", "files") as progress:
            known["left_out"] = unpacking.unpack(dataset, source, work / "unpacking", progress.update)
        beside = [m for m in known["left_out"] if dataset.layout == "folders" and folders.overlooked(dataset, m)]
        if beside:
            files = f"{counted(len(beside), 'file')} beside the images, {', '.join(beside[:3])}"
            print(f"note: left out {files}: no image that can be read; log.json lists all", file=sys.stderr)
    manifest.write_json(work / "raw.json", known)
    return (work / "unpacking").rename(work / "raw")

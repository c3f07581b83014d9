"""Verifies a stored data set against its manifest, its log and the publisher's list (`download.py NAME --check`).

It changes nothing; `manifest.py` says what was written.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets import catalog, hdf5
from datasets.catalog import DataError, Dataset
from datasets.reading import read_json, read_table
from datasets.sources import unpacking
from datasets.store import manifest
from datasets.store.images import CARRIED, OTHER_IMAGES
from datasets.store.index import GROUPS

MEND = "delete log.json and run without --check"


class Problem(str):
    """Something that is wrong; other texts say what is in order or worth knowing."""


def check(name: str, archive: Path | None = None) -> tuple[list[str], list[str]]:
    """Verify data set `name` as it lies on disk; changes nothing.

    `archive`: also compare this file with the archive that `raw/` came from.
    Returns (what is in order or worth knowing, what is wrong), in words.  Raises `DataError` where the set is
    not there at all.
    """
    dataset, home = catalog.get(name), catalog.dataset_dir(name)
    if not (home / "manifest.csv").is_file():
        raise DataError(f"{home}: '{name}' is not here yet. Run: python datasets/download.py {name}")
    rows, log = manifest.read_rows(home / "manifest.csv"), manifest.read_log(home) or {}
    found = [f"{home}: {len(rows)} rows in manifest.csv", *_log(home, log), *_images(home, rows)]
    found += check_carried(home, len(rows), log.get("images_sha256", ""))
    if dataset.layout != "generated":
        found += map(Problem, manifest.count_differences(dataset, manifest.count(rows)))
        found += [*_raw(home / "raw", rows), *_publisher(dataset, rows)]
    if archive:
        note = home / "raw.json"
        source = read_json(note, needs=["archive"])["archive"] if note.is_file() else {}
        same = unpacking.source_of(dataset, archive)["sha256"] == source.get("sha256")
        other = Problem(f"{archive}: not the archive that raw/ came from ({source.get('name', 'unknown')})")
        found.append(f"{archive}: the very archive that raw/ came from" if same else other)
    return [f for f in found if not isinstance(f, Problem)], [f for f in found if isinstance(f, Problem)]


def _log(home: Path, log: dict) -> Iterator[str]:
    if not {"images_sha256", "broken"} <= log.keys():
        yield Problem("log.json does not vouch for manifest.csv and images.h5; run without --check to mend it")
        return
    written = {"images.h5": log["images_sha256"], GROUPS: log.get("groups_sha256")}
    changed = [file for file, digest in written.items() if digest and digest != manifest.sha256(home / file)]
    yield from (Problem(f"{file} has other bytes than were written; {MEND}") for file in changed)
    if not changed:
        yield "manifest.csv and images.h5 have the bytes that were written"
    if "holds" in log:
        yield f"it holds {manifest.sentence(log['holds'])}"
    if log["broken"]:
        yield f"{len(log['broken'])} broken images were left out, see log.json"


def _images(home: Path, rows: list[dict[str, str]]) -> Iterator[str]:
    try:
        with hdf5.opened(home / "images.h5", MEND, "cannot be read") as file:
            size = int(file.attrs["size"])
            for name in file:
                stored = hdf5.array(file, name, most=None)
                yield f"images.h5: {name} {stored.shape}"
                if stored.shape[:3] != (len(rows), size, size):
                    yield Problem(f"images.h5: {name} should hold {len(rows)} of {size}×{size}")
                elif changed := [row["path"] for i, row in enumerate(rows) if not hdf5.readable(stored, i)]:
                    number, first = f"{len(changed)} {name}s of images.h5", f"that of {changed[0]} first"
                    yield Problem(f"{number} changed on disk, {first}; {MEND}")
                else:
                    yield f"images.h5: every {name} has the checksum that it was written with"
    except DataError as error:
        yield Problem(error)


def check_carried(home: Path, images: int, images_sha256: str) -> list[str]:
    """What is in order and what is wrong with the masks in `home` that were carried over; nothing of none.

    `images`, `images_sha256`: how many images lie beside them, and the digest of their file, "" where unknown.
    """
    path, source, wrong = home / CARRIED, "cheng", ""
    links = path.with_suffix(".csv")
    if not path.is_file():
        return [Problem(f"{links.name} is here without {CARRIED}; delete it")] if links.is_file() else []
    try:
        with hdf5.opened(path, what="cannot be read") as store:
            source = str(store.attrs["source"])
            masks, linked = hdf5.array(store, "mask", most=None), hdf5.read(store, "linked")
            if images_sha256 and store.attrs["images_sha256"] != images_sha256:
                wrong = f"{CARRIED}: {OTHER_IMAGES}"
            elif not len(masks) == len(linked) == images:
                wrong = f"{CARRIED}: holds {len(masks)} masks of {images} images"
            elif changed := sum(not hdf5.readable(masks, row) for row in range(images)):
                wrong = f"{changed} masks of {CARRIED} changed on disk"
            elif not links.is_file() or len(read_table(links, needs=["path", "slice"])) != images:
                wrong = f"{links.name}: not a row an image of {CARRIED}"
    except DataError as error:
        wrong = str(error)
    if wrong:
        return [Problem(f"{wrong}; run: python datasets/download.py {home.name} --masks-from {source}")]
    return [f"{CARRIED}: {int(linked.sum())} of {images} images have a mask of {source}"]


def _raw(raw: Path, rows: list[dict[str, str]]) -> Iterator[str]:
    if not raw.is_dir():
        yield "raw/ is not kept here"
        return
    # slices of a volume share the patient's folder: PATIENT/SLICE
    sources = {row["path"].rpartition("/")[0] if row.get("slice") else row["path"]: row["file_sha256"] for row in rows}
    sources |= {row["mask"]: row["mask_sha256"] for row in rows if row.get("mask")}
    missing = [path for path in sources if not (raw / path).exists()]
    changed = [path for path in sources if path not in missing and manifest.sha256(raw / path) != sources[path]]
    for paths, wrong in ((missing, "missing"), (changed, "not those of the manifest")):
        if paths:
            anew = f"delete {raw.parent} and bring the set in again"
            yield Problem(f"raw/: {len(paths)} files are {wrong}, {paths[0]} first; {anew}")
    if not missing and not changed:
        yield f"raw/: all {len(rows)} files have the manifest's file_sha256"


def _publisher(dataset: Dataset, rows: list[dict[str, str]]) -> Iterator[str]:
    if known := manifest.originals(dataset.name):
        own = sum(known.get(row["path"], {}).get("sha256") == row["file_sha256"] for row in rows)
        yield f"{own} of {len(rows)} files have the publisher's own bytes; a mirror may have recompressed others"
    elif dataset.layout != "own":
        yield "the publisher's own sha256 are not known here"

"""Verifies a stored data set against its manifest, its log and the publisher's list (`download.py NAME --check`).

It changes nothing; `manifest.py` says what was written.
"""

from pathlib import Path

from datasets import catalog, hdf5
from datasets.catalog import DataError, Dataset
from datasets.reading import read_json
from datasets.sources import unpacking
from datasets.store import manifest, masks, summary

MEND = "delete log.json and run without --check"
Findings = tuple[list[str], list[str]]


def check(name: str, archive: Path | None = None) -> Findings:
    """Verify data set `name` as it lies on disk; changes nothing.

    Args:
        archive: also compare this file with the archive that `raw/` came from.

    Returns (what is in order or worth knowing, what is wrong), in words.  Raises `DataError` where the set is
    not there at all.
    """
    dataset, home = catalog.get(name), catalog.dataset_dir(name)
    if not (home / "manifest.csv").is_file():
        raise DataError(f"{home}: '{name}' is not here yet. Run: python datasets/download.py {name}")
    rows = manifest.read_rows(home / "manifest.csv")
    notes, problems = [f"{home}: {len(rows)} rows in manifest.csv"], []
    findings = [_check_log(home), _check_images(home, rows)]
    findings += [masks.check_carried(home, len(rows), (manifest.read_log(home) or {}).get("images_sha256", ""))]
    if dataset.layout != "generated":
        findings += [([], manifest.count_differences(dataset, manifest.count(rows)))]
        findings += [_check_raw(home / "raw", rows), _check_publisher(dataset, rows)]
    if archive:
        findings += [_check_archive(dataset, home, archive)]
    for good, bad in findings:
        notes += good
        problems += bad
    return notes, problems


def _check_log(home: Path) -> Findings:
    log = manifest.read_log(home)
    if log is None or not {"images_sha256", "broken"} <= log.keys():
        return [], ["log.json does not vouch for manifest.csv and images.h5; run without --check to mend it"]
    if log["images_sha256"] != manifest.sha256(home / "images.h5"):
        return [], [f"images.h5 has other bytes than were written; {MEND}"]
    if "groups_sha256" in log and log["groups_sha256"] != manifest.sha256(home / "groups.csv"):
        return [], [f"groups.csv has other bytes than were written; {MEND}"]
    left_out = [f"{len(log['broken'])} broken images were left out, see log.json"] if log["broken"] else []
    holds = [f"it holds {summary.sentence(log['holds'])}"] if "holds" in log else []
    return ["manifest.csv and images.h5 have the bytes that were written", *holds, *left_out], []


def _check_images(home: Path, rows: list[dict[str, str]]) -> Findings:
    notes, problems = [], []
    try:
        with hdf5.opened(home / "images.h5", MEND, "cannot be read") as file:
            size = int(file.attrs["size"])
            for name in file:
                stored = hdf5.array(file, name, most=None)
                notes.append(f"images.h5: {name} {stored.shape}")
                if stored.shape[:3] != (len(rows), size, size):
                    problems.append(f"images.h5: {name} should hold {len(rows)} of {size}×{size}")
                elif not stored.fletcher32:
                    problems.append(f"images.h5: {name} has no checksums, an older version wrote it; {MEND}")
                elif changed := [row for row in range(len(rows)) if not hdf5.readable(stored, row)]:
                    first = rows[changed[0]]["path"]
                    problems.append(
                        f"{len(changed)} {name}s of images.h5 changed on disk, that of {first} first; {MEND}"
                    )
                else:
                    notes.append(f"images.h5: every {name} has the checksum that it was written with")
    except DataError as error:
        return [], [str(error)]
    return notes, problems


def _check_raw(raw: Path, rows: list[dict[str, str]]) -> Findings:
    if not raw.is_dir():
        return ["raw/ is not kept here"], []
    # slices of a volume share the patient's folder: PATIENT/SLICE
    sources = {row["path"].rpartition("/")[0] if row.get("slice") else row["path"]: row["file_sha256"] for row in rows}
    sources |= {row["mask"]: row["mask_sha256"] for row in rows if row.get("mask")}
    missing = [path for path in sources if not (raw / path).exists()]
    changed = [path for path in sources if path not in missing and manifest.sha256(raw / path) != sources[path]]
    anew = f"delete {raw.parent} and bring the set in again"
    problems = []
    if missing:
        problems.append(f"raw/: {len(missing)} files are missing, {missing[0]} first; {anew}")
    if changed:
        problems.append(f"raw/: {len(changed)} files are not those of the manifest, {changed[0]} first; {anew}")
    return [] if problems else [f"raw/: all {len(rows)} files have the manifest's file_sha256"], problems


def _check_publisher(dataset: Dataset, rows: list[dict[str, str]]) -> Findings:
    known = manifest.originals(dataset.name)
    if dataset.layout == "own":
        return [], []
    if not known:
        return ["the publisher's own sha256 are not known here"], []
    own = sum(known.get(row["path"], {}).get("sha256") == row["file_sha256"] for row in rows)
    note = f"{own} of {len(rows)} files have the publisher's own bytes"
    if own < len(rows):
        note += " (a mirror may have recompressed the others; the manifest's sha256 is the publisher's)"
    return [note], []


def _check_archive(dataset: Dataset, home: Path, archive: Path) -> Findings:
    note = home / "raw.json"
    source = read_json(note, needs=["archive"])["archive"] if note.is_file() else {}
    if unpacking.source_of(dataset, archive)["sha256"] == source.get("sha256"):
        return [f"{archive}: the very archive that raw/ came from"], []
    return [], [f"{archive}: not the archive that raw/ came from ({source.get('name', 'unknown')})"]

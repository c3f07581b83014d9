"""Verifies a stored data set against its manifest, its log and the publisher's list (`download.py NAME --check`)."""

from pathlib import Path

from datasets import catalog
from datasets.store import manifest
from datasets.store.images import CARRIED
from datasets.store.index import GROUPS, require

MEND = "delete log.json and run without --check"


def check(name: str) -> tuple[list[str], list[str]]:
    """Verify data set `name` as it lies on disk; changes nothing.

    Returns (what is worth knowing, what is wrong), in words.  Raises `DataError` where the set is not there at all.
    """
    dataset, home = catalog.get(name), require(name)
    rows, log = manifest.read_rows(home / "manifest.csv"), manifest.read_log(home)
    notes, wrong = [f"{home}: {len(rows)} rows in manifest.csv"], []
    if log is None:
        wrong.append("log.json does not vouch for manifest.csv and images.h5; run without --check to mend it")
    else:
        for file, kind in (("images.h5", "images"), (GROUPS, "groups"), (CARRIED, "masks")):
            written = log.get(f"{kind}_sha256")
            if written and not ((home / file).is_file() and manifest.sha256(home / file) == written):
                again = f"run: python datasets/download.py {name} --masks-from cheng" if kind == "masks" else MEND
                wrong.append(f"{file} has other bytes than were written; {again}")
        if "holds" in log:
            notes.append(f"it holds {manifest.sentence(log['holds'])}")
        if log.get("broken"):
            notes.append(f"{len(log['broken'])} broken images were left out, see log.json")
    if dataset.counts:
        wrong += manifest.count_differences(dataset, manifest.count(rows))
    if (home / "raw").is_dir():
        wrong += _raw(home / "raw", rows)
    return notes, wrong


def _raw(raw: Path, rows: list[dict[str, str]]) -> list[str]:
    """What is wrong with the publisher's files."""
    # slices of a volume share the patient's folder: PATIENT/SLICE
    sources = {row["path"].rpartition("/")[0] if row.get("slice") else row["path"]: row["file_sha256"] for row in rows}
    sources |= {row["mask"]: row["mask_sha256"] for row in rows if row.get("mask")}
    changed = [p for p, digest in sources.items() if not (raw / p).exists() or manifest.sha256(raw / p) != digest]
    anew = f"delete {raw.parent} and bring the set in again"
    return [f"raw/: {len(changed)} files are missing or changed, {changed[0]} first; {anew}"] if changed else []

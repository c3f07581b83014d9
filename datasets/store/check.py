"""Verifies a stored data set against its manifest, its log and the publisher's list (`download.py NAME --check`)."""

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
    # slices of a volume share the patient's folder: PATIENT/SLICE
    files = {row["path"].rpartition("/")[0] if row.get("slice") else row["path"]: row["file_sha256"] for row in rows}
    files |= {row["mask"]: row["mask_sha256"] for row in rows if row.get("mask")}
    raw = {home / "raw" / path: digest for path, digest in files.items() if (home / "raw").is_dir()}
    if changed := [path for path, digest in raw.items() if not path.exists() or manifest.sha256(path) != digest]:
        first = f"{changed[0].relative_to(home / 'raw')} first; delete {home} and bring the set in again"
        wrong.append(f"raw/: {len(changed)} files are missing or changed, {first}")
    return notes, wrong

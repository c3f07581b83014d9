"""Writes and reads `manifest.csv`, a row an image, and `log.json`, which vouches for the files beside it."""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.catalog import REPO, Dataset
from datasets.reading import read_table
from datasets.store import preprocess

COLUMNS = ("path", "label", "published_split", "patient", "sha256", "bytes", "width", "height", "file_sha256")


def files(path: Path) -> list[Path]:
    """The file `path`, or the files of the folder `path`, and of those in it, by name."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def size(path: Path) -> int:
    """Bytes of a file, or of a folder's files together."""
    return sum(file.stat().st_size for file in files(path))


def sha256(path: Path) -> str:
    """sha256 in hexadecimal: of a file's bytes, or of a folder's files one after the other, by name."""
    digest = hashlib.sha256()
    for part in files(path):
        with part.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all values as text."""
    return read_table(path).to_dict("records")


def originals(name: str) -> dict[str, dict[str, str]]:
    """path → path, sha256, bytes, width, height of the publisher's own files, as far as they are known."""
    path = REPO / "datasets" / "originals" / f"{name}.csv"
    return {row["path"]: row for row in read_rows(path)} if path.is_file() else {}


def write_manifest(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows` in their order, `COLUMNS` first, then what else any row has ("" for the others)."""
    table = pd.DataFrame(rows, dtype=object)
    columns = dict.fromkeys([*COLUMNS, *table.columns])
    table.reindex(columns=list(columns)).to_csv(path, index=False, lineterminator="\n")


def count(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """published split → label → number of rows; of several findings in a label ("Mass|Nodule") each counts."""
    counter = Counter((r["published_split"], label) for r in rows for label in r["label"].split("|"))
    counts: dict[str, dict[str, int]] = {}
    for split, label in sorted(counter):
        counts.setdefault(split, {})[label] = counter[split, label]
    return counts


def count_differences(dataset: Dataset, counts: dict[str, dict[str, int]]) -> list[str]:
    """Where the number of images differs from the published one, in words. Published counts of findings are of the
    whole set: a sample, which has no published split, differs from them by intent."""
    if dataset.findings:
        if "" in counts:
            return []
        counts = {"": dict(sum((Counter(labels) for labels in counts.values()), Counter()))}
    published = [(split, label, n) for split, labels in dataset.counts.items() for label, n in labels.items()]
    found = [(split, label, n, counts.get(split, {}).get(label, 0)) for split, label, n in published]
    return [f"{split} {label}: {at} images, published are {n}".strip() for split, label, n, at in found if at != n]


def one_spelling(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that differ in case, spaces or invisible characters alone become one, spelt as the first of them, and so
    do whole numbers however they are written (7, 007, 7.0), which spreadsheets change; also returns a text for each
    that was spelt in several ways: `'P1' = 'p1 '`.
    """
    seen = ("".join(c for c in unicodedata.normalize("NFC", n) if unicodedata.category(c) != "Cf") for n in names)
    table = pd.DataFrame({"name": names, "clean": [" ".join(name.split()) for name in seen]}, dtype=str)
    alike = table.clean.str.casefold().str.replace(r"^0*(\d+)(?:[.,]0+)?$", r"\1", regex=True)
    spellings = table.groupby(alike, sort=False)
    several = spellings.name.unique()[spellings.name.nunique() > 1]
    return spellings.clean.transform("first").tolist(), [" = ".join(map(repr, kinds)) for kinds in several]


def summary(rows: Sequence[dict[str, Any]], remarks: Counter, table: pd.DataFrame, masks: bool) -> dict[str, int]:
    """Images, patients, groups and the `remarks` of `preprocess`, counted. `rows`: of the manifest; `table`: `group`
    and `label_conflict` of each; `masks`: whether the set has masks at all.
    """
    counts = {"images": len(rows), "patients": len({row["patient"] for row in rows} - {""})}
    counts["groups"] = table.group.nunique()
    if (classes := len({row["label"] for row in rows})) > 1:
        counts |= {"classes": classes, "copies with another label": int(table.label_conflict.sum())}
    if masks:
        counts["with a tumour"] = len(rows) - remarks[preprocess.EMPTY_MASK]
    return counts | {remark: remarks[remark] for remark in preprocess.REMARKS if remarks[remark]}


def sentence(holds: Mapping[str, int]) -> str:
    """The summary for people."""
    people = f" of {holds['patients']:,} patients" if holds["patients"] else ", whose patients nobody names,"
    parts = [f"{holds['images']:,} images{people} in {holds['groups']:,} groups"]
    parts += [f"{number:,} {what}" for what, number in holds.items() if what not in ("images", "patients", "groups")]
    if preprocess.COLOUR in holds:
        parts[-1] += " (--channels NAME,NAME,NAME keeps colours)"
    return "; ".join(parts)


def write_log(folder: Path, log: dict[str, Any]) -> None:
    """Write `log.json` into `folder`, with what identifies the manifest and the images that lie there."""
    images = folder / "images.h5"
    vouched = {"manifest_sha256": sha256(folder / "manifest.csv"), "images_sha256": sha256(images)}
    write_json(folder / "log.json", log | vouched | {"images_bytes": images.stat().st_size})


def read_log(folder: Path) -> dict[str, Any] | None:
    """`log.json` of `folder` if manifest and images beside it are those it was written for, else None."""
    try:
        log = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        whole = log["manifest_sha256"] == sha256(folder / "manifest.csv")
        return log if whole and log["images_bytes"] == (folder / "images.h5").stat().st_size else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as readable JSON; a file that is there is replaced at once."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)

"""The only way in: `python datasets/download.py NAME` fetches or takes an archive and makes a data set of it.

Writes `images.h5`, `manifest.csv`, `log.json` and the untouched `raw/` into a folder that appears when whole.
Each step has its file: `fetch.py` downloads, `layouts.py` unpacks and reads, `preprocess.py` makes images,
`manifest.py` lists them, `check.py` verifies.  `store.py` reads what is written here.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets import catalog, workplace
from datasets.card import card
from datasets.catalog import DataError, Dataset, UnknownName
from datasets.sources import fetch, layouts, own, unpacking
from datasets.sources.sample import BrokenArchive, Sample
from datasets.store import check, manifest, packing, preprocess

MAX_BROKEN = 0.01  # share of broken images above which the archive, not the image, is at fault


def prepare(
    name: str,
    archive: str | Path | None = None,
    size: int | None = None,
    crop: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    bits: int | None = None,
) -> Path:
    """Bring data set `name` in, unless it is there already, and return its folder.

    Args:
        archive: the publisher's archive, downloaded by hand, or the folder of `own`; None fetches it.
        size: side of the stored square images in pixels; a new one is made from `raw/`.  None takes what is
            stored, or the catalogue's.
        crop: a rule of `preprocess.CROPS`; None takes what is stored, or the catalogue's.
        workers: processes for the preprocessing, all cores by default.
        seed: of the phantom; None takes what is stored, or 0.
        bits: 8 or 16 for each pixel of a volume; None takes what is stored, or 8.

    Raises `DataError` with file and remedy.  What an interrupted run finished is taken up by the next.
    """
    dataset, home = catalog.get(name), catalog.dataset_dir(name)
    archive = _existing(archive, folder=dataset.layout == "own")
    wanted = {"size": size, "crop": crop, "seed": seed, "bits": bits}
    if archive and dataset.layout == "own":
        wanted["archive"] = _source(archive)  # a reader's folder changes, a publisher's archive does not
    work = home.with_name(f".{home.name}.partial")
    if _is_there(home, wanted) and not work.exists():
        return home
    with workplace.disk_errors(home), workplace.locked(home), workplace.workplace(work):
        if _is_there(home, wanted, say=False):
            return home
        stored = manifest.read_log(home) or {}
        size = size or stored.get("size") or dataset.size
        if dataset.layout == "generated":
            _generate(name, work, size, stored.get("seed", 0) if seed is None else seed)
        else:
            raw = _kept_raw(home, archive) or _unpack(dataset, archive, work, size)
            how = {"size": size, "crop": crop or stored.get("crop") or dataset.crop}
            how["bits"] = bits or stored.get("bits") or 8
            _build(dataset, raw, work, how, workers)
        images = json.loads((work / "log.json").read_text(encoding="utf-8"))["images"]
        workplace.publish(work, home)
    print(f"{name}: {images} images of {size}×{size} written to {home}")
    return home


def _existing(archive: str | Path | None, folder: bool = False) -> Path | None:
    path = Path(archive).expanduser().resolve() if archive else None
    if path and folder and not path.is_dir():
        raise DataError(f"{path}: no such folder; --folder wants one with {own.TABLE} in it")
    if path and not folder and not path.is_file():
        raise DataError(f"{path}: no such file; --archive wants the path of a zip archive")
    return path


def _is_there(home: Path, wanted: dict[str, Any], say: bool = True) -> bool:
    log = manifest.read_log(home)
    if not log or log["version"] != packing.VERSION:
        return False
    there = all(value in (None, log.get(key)) for key, value in wanted.items())
    if there and say:
        print(f"{home.name}: {log['images']} images of {log['size']}×{log['size']} are in {home}; nothing to do")
    return there


# ---- the steps ---------------------------------------------------------------------------------------


def _generate(name: str, work: Path, size: int, seed: int) -> None:
    from datasets.generator import phantom  # brings nilearn and scipy, seconds that no other set needs to wait

    started = time.monotonic()
    phantom.generate(work, seed=seed, size=size, progress=not _quiet())
    images = len(manifest.read_rows(work / "manifest.csv"))
    log = {"name": name, "version": packing.VERSION, "size": size, "crop": "none", "seed": seed}
    manifest.write_log(work, {**log, "images": images, "broken": [], "seconds": _since(started)})


def _kept_raw(folder: Path, archive: Path | None) -> Path | None:
    """`raw/` of `folder` if it is whole and, where an archive is given, came from this very one."""
    raw, note = folder / "raw", folder / "raw.json"
    if not (raw.is_dir() and note.is_file()):
        return None
    same = archive is None or json.loads(note.read_text(encoding="utf-8"))["archive"] == _source(archive)
    return raw if same else None


def _source(archive: Path) -> dict[str, Any]:
    if archive.is_dir():
        rows = own.read_table(archive)
        files = [archive / own.TABLE, *(archive / row[column] for row in rows for column in ("image", "mask"))]
        digest = hashlib.sha256("".join(manifest.sha256(file) for file in files).encode()).hexdigest()
        return {"name": archive.name, "bytes": sum(manifest.size(file) for file in files), "sha256": digest}
    return {"name": archive.name, "bytes": archive.stat().st_size, "sha256": manifest.sha256(archive)}


def _unpack(dataset: Dataset, archive: Path | None, work: Path, size: int) -> Path:
    """Return `raw/` of `archive` (fetched if None); a finished unpacking of the same archive is taken up."""
    if archive is None and dataset.layout == "own":
        raise DataError("own: name your folder with --folder; datasets/README.md says what it holds")
    archive = archive or fetch.fetch(dataset, work / "download", quiet=_quiet())
    if raw := _kept_raw(work, archive):
        print(f"{dataset.name}: {archive.name} was unpacked before; going on from there")
        return raw
    workplace.clean(work, keep=("download",))
    source = _source(archive)
    if dataset.layout == "own":
        fetch.require_space(work.parent, source["bytes"])
        with _bar(0, "copying", "files") as bar:
            own.copy(archive, work / "unpacking", bar.update)
        left_out = []
    else:
        fetch.require_space(work.parent, unpacking.content_bytes(archive) + _store_bytes(dataset, dataset.images, size))
        with _bar(0 if dataset.slices > 1 else dataset.images, "unpacking", "files") as bar:
            left_out = unpacking.unpack(dataset, archive, work / "unpacking", bar.update)
    manifest.write_json(work / "raw.json", {"archive": source, "left_out": left_out})
    return (work / "unpacking").rename(work / "raw")


def _store_bytes(dataset: Dataset, images: int, size: int, bits: int = 8) -> int:
    """What `images` take in the store; of a volume compression leaves less than a third, masks included."""
    planes = len(dataset.channels) * bits // 8 + len(dataset.mask_channels)
    return images * planes * size * size // (3 if dataset.slices > 1 else 1)


def _build(dataset: Dataset, raw: Path, work: Path, how: dict[str, Any], workers: int | None) -> None:
    """Write images.h5, manifest.csv and log.json into `work` from the files of `raw`; `how`: size, crop, bits."""
    started = time.monotonic()
    samples = {sample.path: sample for sample in layouts.samples(dataset, raw)}
    images = len(samples) * dataset.slices
    with _bar(images, "preprocessing", "images") as bar:
        stored, broken = packing.pack(
            partial(layouts.read, dataset, raw, bits=how["bits"]),
            list(samples),
            work / "images.h5",
            size=how["size"],
            crop=how["crop"],
            attrs={"name": dataset.name},
            needed=_store_bytes(dataset, images, how["size"], how["bits"]),
            slices=dataset.slices,
            workers=workers,
            progress=bar.update,
        )
    _judge(dataset, broken, len(samples))
    known = manifest.originals(dataset.name)
    found = ((_sample_of(samples, facts), facts) for facts in stored)
    rows = [manifest.row(sample.label, sample.split, {**sample.facts, **facts}, known) for sample, facts in found]
    if absent := sorted(set(dataset.classes) - set(dataset.findings) - {row["label"] for row in rows}):
        raise BrokenArchive(f"{dataset.name}: no image of {', '.join(absent)}; {_again(dataset)}")
    manifest.write_manifest(work / "manifest.csv", rows)
    counts = manifest.count(rows)
    for difference in manifest.count_differences(dataset, counts):
        print(f"note: {difference}", file=sys.stderr)
    log = {"name": dataset.name, "version": packing.VERSION, "size": how["size"], "crop": how["crop"]}
    log |= {"bits": how["bits"]} if dataset.slices > 1 else {}
    log |= {"images": len(rows), "broken": broken, "counts": counts, "seconds": _since(started)}
    manifest.write_log(work, log | json.loads((raw.parent / "raw.json").read_text(encoding="utf-8")))


def _sample_of(samples: dict[str, Sample], facts: dict[str, Any]) -> Sample:
    return samples[facts["path"] if "slice" not in facts else facts["patient"]]


def _judge(dataset: Dataset, broken: list[dict[str, str]], total: int) -> None:
    """Say which images are left out as broken; too many condemn the archive."""
    if len(broken) > MAX_BROKEN * total:
        first = "; ".join(f"{b['path']}: {b['reason']}" for b in broken[:3])
        raise BrokenArchive(
            f"{dataset.name}: {len(broken)} of {total} images are broken, more than {MAX_BROKEN:.0%} "
            f"({first}); {_again(dataset)}"
        )
    for image in broken[:5]:
        print(f"warning: left out {image['path']}: {image['reason']}", file=sys.stderr)
    if len(broken) > 5:
        print(f"warning: and {len(broken) - 5} more, all listed in log.json", file=sys.stderr)


def _again(dataset: Dataset) -> str:
    return f"take {dataset.archive} from {dataset.url}" if dataset.url else "mend that and run again"


# ---- the command line --------------------------------------------------------------------------------


def _quiet() -> bool:
    return os.environ.get("BRAIN_MRI_HEADLESS") == "1" or not sys.stderr.isatty()


def _bar(total: int, what: str, unit: str) -> tqdm:
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=_quiet())


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _parser() -> argparse.ArgumentParser:
    sets = "\n".join(f"  {d.name:16} {d.title}" for d in catalog.CATALOG.values())
    parser = argparse.ArgumentParser(
        prog="download.py",
        description="Bring a data set in: fetch it or take its archive, unpack, preprocess, store.\n"
        "Run again, it does nothing; interrupted, it goes on.",
        epilog=f"data sets:\n{sets}\n\nA folder each in {catalog.data_root()}; BRAIN_MRI_DATA names another.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the data set, one of those below")
    parser.add_argument("--archive", metavar="FILE", help="the publisher's archive, downloaded by hand")
    parser.add_argument("--folder", metavar="DIR", help=f"of 'own': images, masks and {own.TABLE}")
    parser.add_argument("--size", type=int, metavar="N", help="side of the stored images (256; phantom 128, BraTS 240)")
    parser.add_argument("--crop", choices=list(preprocess.CROPS), help="to the head (margin), as S2 did (s2), or none")
    parser.add_argument("--workers", type=int, metavar="N", help="processes for preprocessing (all cores)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the phantom (0)")
    parser.add_argument("--bits", type=int, choices=(8, 16), help="of a pixel of a volume (8)")
    parser.add_argument("--card", action="store_true", help="show its origin, licence, counts and known faults")
    parser.add_argument("--check", action="store_true", help="verify what is there and change nothing")
    return parser


def _usage_fault(args: argparse.Namespace) -> str:
    layout = catalog.get(args.name).layout
    generated = layout == "generated"
    if args.size is not None and not 16 <= args.size <= 2048:
        return f"--size {args.size}: 16 to 2048 pixels are possible"
    if args.workers is not None and args.workers < 1:
        return f"--workers {args.workers}: at least 1 is needed"
    if generated and (args.archive or args.crop):
        return f"{args.name} is generated: --archive and --crop do not apply"
    if bool(args.folder) > (layout == "own") or bool(args.archive) > (layout != "own"):
        return f"{args.name}: --folder is for 'own' alone, which has no --archive"
    if args.bits and layout != "brats":
        return f"{args.name} holds no volumes: --bits does not apply"
    if layout == "brats" and args.crop not in (None, "none"):
        return f"{args.name}: volumes are stored whole, --crop does not apply"
    if not generated and args.seed is not None:
        return f"{args.name} is not generated: --seed does not apply"
    return ""


def _report(name: str, archive: Path | None) -> int:
    notes, problems = check.check(name, archive)
    for note in notes:
        print(note)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{name}: {f'{len(problems)} problems' if problems else 'in order'}")
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted)."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.card:
            print(card(args.name))
            return 0
        if fault := _usage_fault(args):
            parser.error(fault)
        if args.check:
            return _report(args.name, _existing(args.archive))
        source = args.archive or args.folder
        prepare(args.name, source, args.size, args.crop, args.workers, args.seed, args.bits)
        return 0
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownName) else 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

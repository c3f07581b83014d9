"""The only way in: `python datasets/download.py NAME` fetches or takes an archive and turns it into a data set.

The command line; `intake.py` does the work and `check.py` verifies it. Both are imported where they are called: with
them come pandas, HDF5 and OpenCV, for which `--help` and a wrong argument need not wait.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import catalog
from datasets.catalog import DataError, UnknownName
from datasets.facts import CROPS, OWN_TABLE

if TYPE_CHECKING:
    from datasets.sources.given import Given


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
    parser.add_argument("--archive", metavar="FILE", help="the publisher's archive, or the folder of one unpacked")
    parser.add_argument("--folder", metavar="DIR", help=f"of 'own': folders of classes, or images and {OWN_TABLE}")
    parser.add_argument("--labels", metavar="FILE", help="of 'own': a table of images, labels, masks, patients (CSV)")
    parser.add_argument(
        "--columns", metavar="NAMES", help="of 'own': what they are called there: image=a,label=b,mask="
    )
    parser.add_argument(
        "--channels", metavar="NAMES", help="of 'own': keep the channels of its images, named so: a,b,c"
    )
    parser.add_argument("--size", type=int, metavar="N", help="side of the stored images (256; phantom 128, BraTS 240)")
    parser.add_argument("--crop", choices=list(CROPS), help="to the head (margin), as S2 did (s2), or none")
    parser.add_argument("--workers", type=int, metavar="N", help="processes for preprocessing (all cores)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the phantom (0)")
    parser.add_argument("--bits", type=int, choices=(8, 16), help="of a pixel of a volume (8)")
    parser.add_argument("--partial", action="store_true", help="take an archive that lacks images of the published set")
    parser.add_argument("--replace", action="store_true", help="pack the archive anew, in place of what is there")
    parser.add_argument("--card", action="store_true", help="show its origin, licence, counts and known faults")
    parser.add_argument(
        "--masks-from", metavar="NAME", help="give images that show slices of this set (cheng) its masks"
    )
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
    folder = next((f"--{name}" for name in ("folder", "labels", "columns") if getattr(args, name) is not None), "")
    if bool(folder) > (layout == "own") or bool(args.archive) > (layout != "own"):
        return f"{args.name}: {folder or '--folder'} is for 'own' alone, which has no --archive"
    if args.columns is not None and not (args.labels or args.folder):
        return "--columns goes with --labels FILE or --folder DIR"
    if args.columns is not None and not _columns(args.columns):
        return f"--columns {args.columns}: takes image=NAME,label=NAME and the like, with commas between"
    if args.channels is not None and layout != "own":
        return f"{args.name}: --channels is for 'own' alone"
    if args.channels is not None and not _channels(args.channels):
        return f"--channels {args.channels}: takes two or more names of channels, with commas between"
    if args.replace and not (args.archive or args.folder or args.labels):
        return "--replace goes with --archive FILE (or --folder DIR), which is packed in place of what is there"
    if args.bits and layout != "brats":
        return f"{args.name} holds no volumes: --bits does not apply"
    if layout == "brats" and args.crop not in (None, "none"):
        return f"{args.name}: volumes are stored whole, --crop does not apply"
    if not generated and args.seed is not None:
        return f"{args.name} is not generated: --seed does not apply"
    return ""


def _channels(text: str | None) -> list[str]:
    """Names between commas, two or more and no two alike; none where they are not."""
    names = [name.strip() for name in (text or "").split(",")]
    return names if len(names) > 1 and all(names) and len(set(names)) == len(names) else []


def _columns(text: str) -> dict[str, str]:
    """Names before and after each `=`, of pairs with commas between; none where they are no such pairs."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {name.strip(): its.strip() for name, equals, its in pairs if equals} if all(p[1] for p in pairs) else {}


def _given(args: argparse.Namespace) -> "Given | None":
    """What a reader gives of his own; a table alone lies in the folder of its images."""
    if not (args.folder or args.labels):
        return None
    from datasets.sources.given import Given

    table = Path(args.labels) if args.labels else None
    columns = _columns(args.columns) if args.columns else {}
    return Given(Path(args.folder) if args.folder else table.parent, table, columns)


def _report(name: str, archive: Path | None) -> int:
    from datasets import data_folder
    from datasets.store import check

    with data_folder.disk_errors(catalog.dataset_dir(name)):
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
            from datasets.card import card

            print(card(args.name))
            return 0
        if fault := _usage_fault(args):
            parser.error(fault)
        if args.masks_from:
            catalog.require_masks(args.masks_from)  # before images are packed
        from datasets.intake import existing, prepare

        if args.check:
            return _report(args.name, existing(args.archive))
        source = args.archive or _given(args)
        how = (args.size, args.crop, args.workers, args.seed, args.bits)
        prepare(args.name, source, *how, _channels(args.channels), args.partial, args.replace)
        if args.masks_from:
            from datasets.curation import masks  # brings torch, which nothing else needs here

            masks.carry(args.name, args.masks_from)
        return 0
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownName) else 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

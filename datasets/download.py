"""The only way in: `python datasets/download.py NAME` fetches or takes an archive and turns it into a data set; without
a name it lists the sets.

What does the work is imported where it is called: `--help` and a wrong argument need not wait for pandas and HDF5.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import catalog
from datasets.catalog import CROPS, OWN_TABLE, DataError, UnknownName
from datasets.commands import errors_in_one_line, table


def _parser() -> argparse.ArgumentParser:
    sets = "\n".join(f"  {d.name:16} {d.title}" for d in catalog.CATALOG.values())
    parser = argparse.ArgumentParser(
        prog="download.py",
        description="Bring a data set in: fetch it or take its archive, unpack, preprocess, store.\n"
        "Run again, it does nothing; interrupted, it goes on.",
        epilog=f"data sets:\n{sets}\n\nA folder each in {catalog.data_root()}; BRAIN_MRI_DATA names another.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="the data set, one of those below; none lists what is here of them")
    add("--archive", metavar="FILE", help="the publisher's archive, or the folder of one unpacked")
    add("--folder", metavar="DIR", help=f"of 'own': folders of classes, or images and {OWN_TABLE}")
    add("--labels", metavar="FILE", help="of 'own': a table of images, labels, masks, patients (CSV)")
    columns, channels = "what they are called there: image=a,label=b,mask=", "keep the channels of its images"
    add("--columns", metavar="NAMES", type=_columns, help=f"of 'own': {columns}")
    add("--channels", metavar="NAMES", type=_channels, help=f"of 'own': {channels}, named so: a,b,c")
    add("--size", type=int, metavar="N", help="side of the stored images (256; phantom 128, BraTS 240)")
    add("--crop", choices=list(CROPS), help="to the head (margin), as S2 did (s2), or none")
    add("--workers", type=int, metavar="N", help="processes for preprocessing (all cores)")
    add("--partial", action="store_true", help="take an archive that lacks images of the published set")
    add("--replace", action="store_true", help="pack the archive anew, in place of what is there")
    add("--card", action="store_true", help="show its origin, licence, counts and known faults")
    add("--masks-from", metavar="NAME", help="give images that show slices of this set (cheng) its masks")
    add("--jpg", metavar="DIR", help="write its images besides, as DIR/SPLIT/CLASS/*.jpg for torchvision's ImageFolder")
    add("--check", action="store_true", help="verify what is there and change nothing")
    return parser


def _channels(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text}: takes two or more names of channels, with commas between")
    return names


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text}: takes image=NAME,label=NAME and the like, with commas between")
    return {name.strip(): its.strip() for name, _, its in pairs}


def _usage_fault(args: argparse.Namespace) -> str:
    """What is wrong with options that do not go together, or with the data set; "" where nothing is."""
    name, layout = args.name, catalog.get(args.name).layout
    of_own = [args.folder, args.labels, args.columns, args.channels]
    rules = [
        (args.size is not None and not 16 <= args.size <= 2048, f"--size {args.size}: 16 to 2048 pixels are possible"),
        (args.workers is not None and args.workers < 1, f"--workers {args.workers}: at least 1 is needed"),
        (layout != "own" and any(of_own), f"{name}: --folder, --labels, --columns, --channels are for 'own' alone"),
        (layout == "own" and args.archive, "own: has no --archive; name a folder with --folder"),
        (layout == "generated" and (args.archive or args.crop), f"{name} is generated: --archive, --crop do not apply"),
        (layout == "joined" and args.archive, f"{name} is joined from other sets: --archive does not apply"),
        (layout == "brats" and args.crop not in (None, "none"), f"{name}: volumes are stored whole, without --crop"),
        (args.columns and not any(of_own[:2]), "--columns goes with --labels FILE or --folder DIR"),
        (args.replace and not (args.archive or any(of_own[:2])), "--replace goes with --archive FILE or --folder DIR"),
    ]
    return next((fault for is_wrong, fault in rules if is_wrong), "")


def _source(args: argparse.Namespace) -> Any:
    """The archive, or what a reader gives (`own.Given`): a table alone lies in the folder of its images."""
    from datasets.intake import at_hand

    if args.archive:
        return at_hand(args.archive)
    if not (args.folder or args.labels):
        return None
    from datasets.sources.own import Given

    labels = at_hand(args.labels) if args.labels else None
    folder = at_hand(args.folder) if args.folder else labels.parent
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; --folder wants one with images in it")
    return Given(folder, labels, args.columns or {})


def _listing() -> str:
    """A line a data set: its name, its images as published, what is here of it, and the command that brings it in."""
    from datasets.store.manifest import read_log

    rows = []
    for name, facts in catalog.CATALOG.items():
        home, option, here = catalog.dataset_dir(name), " --archive FILE", "no"
        if facts.kaggle or facts.layout in ("generated", "joined", "own"):
            option = " --folder DIR" if facts.layout == "own" else ""
        if log := read_log(home):
            here = f"{log.get('images')} of {log.get('size')}×{log.get('size')}, {log['images_bytes'] / 1e6:,.0f} MB"
        row = {"name": name, "published": f"{facts.images:,}" if facts.counts else "–", "here": here}
        rows.append(row | {"command": f"python datasets/download.py {name}{option}"})
    return f"{table(rows)}\n\nIn {catalog.data_root()}; add --card to a name for its origin, terms and faults."


def _report(name: str) -> int:
    from datasets.data_folder import disk_errors
    from datasets.store import check

    with disk_errors(catalog.dataset_dir(name)):
        notes, problems = check.check(name)
    print(*notes, f"{name}: {f'{len(problems)} problems' if problems else 'in order'}", sep="\n")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted)."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.name is None:
            if any(args.__dict__.values()):
                parser.error("the options are of one data set: name it")
            print(_listing())
            return 0
        if args.card:
            print(catalog.card(args.name))
            return 0
        if fault := _usage_fault(args):
            parser.error(fault)
        if args.masks_from and not catalog.get(args.masks_from).mask_channels:  # before images are packed
            raise DataError(f"--masks-from {args.masks_from}: '{args.masks_from}' has no masks; 'cheng' has")
        if args.check:
            return _report(args.name)
        source = _source(args)
        from datasets.intake import prepare

        options = ("size", "crop", "workers", "channels", "partial", "replace")
        prepare(args.name, source, **{name: getattr(args, name) for name in options})
        if args.masks_from:
            from datasets.curation import masks  # brings torch, which nothing else needs here

            masks.carry(args.name, args.masks_from)
        if args.jpg:
            from datasets.store import jpg  # brings torch, too

            jpg.write(args.name, Path(args.jpg).expanduser())
        return 0
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownName) else 1


if __name__ == "__main__":
    sys.exit(main())

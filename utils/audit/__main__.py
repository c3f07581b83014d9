"""`python -m utils.audit MODEL`: what an accuracy on published brain-tumour images is worth, whoever's model it is."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from datasets.catalog import DataError
from utils.commands import NOTE, errors_in_one_line

KNOWN = 10  # training images of each class, on which classes and scale are checked
QUICK_TEST, QUICK_CHANGED = 120, 40  # images


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m utils.audit", description=f"{__doc__} {NOTE}")
    add = parser.add_argument
    models = "an .onnx file, a saved model (its name, a folder, hf-hub:OWNER/NAME), or package.module:function"
    add("model", nargs="?", help=models)
    add(
        "--predictions",
        type=Path,
        metavar="FILE.csv",
        help="predictions of a model that cannot be asked, docs/audit.md",
    )
    add("--data-set", default="brain-tumor-mri", metavar="NAME", help="that it was trained on (%(default)s)")
    seen = "images that it has seen: published (the training folder, the default), all, or a CSV file of them"
    add("--trained-on", default="published", metavar="WHAT", help=seen)
    add("--size", type=int, metavar="PIXELS", help="side of an ONNX model's input, where the file does not say it")
    add(
        "--scale",
        choices=("unit", "pm1", "imagenet", "raw"),
        help="of grey values; by default the best on known images",
    )
    add("--classes", metavar="A,B,C,D", help="order of the model's outputs")
    add("--logits", action="store_true", help="the outputs are logits, though between 0 and 1")
    add(
        "--seconds",
        type=float,
        default=60,
        help="time limit of a function, for its import and each image (%(default)s)",
    )
    add("--python", default=sys.executable, help="interpreter of the environment that a function is installed in")
    add("--images", type=int, default=400, metavar="N", help="test images that are changed (%(default)s)")
    add("--quick", action="store_true", help="few images: a try, not to be cited")
    add("--record", action="store_true", help="also write saved_metrics/audit/NAME.json, for the leaderboard")
    args = parser.parse_args(argv)
    if bool(args.model) == bool(args.predictions):
        parser.error("name either MODEL or --predictions FILE.csv")
    return args


@errors_in_one_line(OSError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args, start = _arguments(argv), time.monotonic()
    import numpy as np  # and all the rest, for which --help need not wait

    from datasets.store.index import fingerprint
    from utils.audit import pages, sections
    from utils.audit.doors import Kept
    from utils.audit.images import Images, new_images, trained_on
    from utils.files import write_atomically
    from utils.report.records import write_record
    from utils.run import output_root
    from utils.training.environment import git_revision

    images = Images(args.data_set)
    table = images.manifest.assign(group=images.groups)
    if not (set(table.published_split) >= {"train", "test"} and "notumor" in images.facts.classes):
        raise DataError(f"--data-set {args.data_set}: has no published test set, or no images without a tumour")
    seen, (others, left_out) = trained_on(images, args.trained_on), new_images(images, args.trained_on)
    test = table[table.published_split == "test"]
    rows = (sections.sample(test, QUICK_TEST) if args.quick else test).index.to_numpy()
    known = sections.sample(table[table.published_split == "train"], KNOWN * len(images.facts.classes))
    door = _open(args, images, [other for other, _ in others.values()], rows, known.index.to_numpy())
    try:
        folder = output_root() / "runs/audit" / door.name
        most = QUICK_CHANGED if args.quick else args.images
        found = sections.audit(Kept(door, folder / "answers"), images, seen, rows, others, most, args.quick)
    finally:
        door.close()
    of = "the publisher's files" if images.files else "packed images, since the publisher's files are not kept here"
    record = {"model": door.name, "about": door.about, "notes": door.notes, "data_set": images.name}
    record |= {"trained_on": args.trained_on, "images_shown": of, "quick": args.quick, "left_out": left_out}
    record |= {"data": fingerprint(images.name), "git": git_revision(), **found}
    record["seconds"] = round(time.monotonic() - start)
    shown = list(pages.sections(record))
    text = pages.as_markdown(record, shown)
    write_record(folder / "report.json", record)
    write_atomically(folder / "report.md", text)
    write_atomically(folder / "report.html", pages.as_html(record, shown))
    if args.record and not args.quick:
        write_record(output_root() / "saved_metrics/audit" / f"{door.name}.json", record)
    print(f"{text}\n{folder / 'report.html'}, report.md and report.json: {np.round(record['seconds'] / 60, 1)} minutes")
    return 0


def _open(args: argparse.Namespace, images, others: Sequence, rows, known):
    """The door that the arguments name."""
    from utils.audit import doors
    from utils.predict.model import open_model

    classes, names = images.facts.classes, args.classes.split(",") if args.classes else None
    if args.predictions:
        return doors.Table(args.predictions, classes, [images, *others], rows)
    shown, truth = [images.show(row) for row in known], images.manifest.label.iloc[known].map(classes.index).to_numpy()
    if args.model.endswith(".onnx"):
        how = {"size": args.size, "scale": args.scale, "names": names, "logits": args.logits}
        return doors.Onnx(Path(args.model), classes, shown, truth, **how)
    if ":" in args.model and not args.model.startswith("hf-hub:"):
        how = {"seconds": args.seconds, "python": args.python, "names": names}
        return doors.Function(args.model, classes, shown, truth, **how)
    return doors.Saved(open_model(args.model), classes, images.files)


if __name__ == "__main__":
    sys.exit(main())

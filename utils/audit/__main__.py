"""`python -m utils.audit MODEL`: what the accuracy of any model on published brain-tumour images is worth."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from datasets.catalog import DataError
from datasets.commands import NOTE, errors_in_one_line

KNOWN = 10  # training images of each class, on which classes and scale are checked
QUICK_TEST, QUICK_CHANGED = 120, 40  # images


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m utils.audit", description=f"{__doc__} {NOTE}")
    add = parser.add_argument
    model = "an .onnx file, a saved model (its name, a folder, hf-hub:OWNER/NAME), or package.module:function"
    add("model", nargs="?", help=model)
    add("--predictions", type=Path, metavar="FILE.csv", help="those of a model that cannot be asked (docs/audit.md)")
    add("--data-set", default="brain-tumor-mri", metavar="NAME", help="that it was trained on (%(default)s)")
    seen = "images that it has seen: published (the training folder, the default), all, or a CSV file of them; of a "
    add("--trained-on", metavar="WHAT", help=f"{seen}saved model by default those that its card says")
    add("--size", type=int, metavar="PIXELS", help="side of an ONNX model's input, where its file does not say it")
    add("--scale", choices=("unit", "pm1", "imagenet", "raw"), help="of its input; by default by known images")
    add("--classes", metavar="A,B,C,D", help="order of its outputs, likewise")
    add("--seconds", type=float, default=60, help="limit of a function, for its import and an image (%(default)g)")
    add("--python", default=sys.executable, metavar="FILE", help="interpreter that a function is installed for")
    add("--images", type=int, default=400, metavar="N", help="how many test images are changed (%(default)s)")
    add("--quick", action="store_true", help="few images: a try, not to be cited")
    args = parser.parse_args(argv)
    if bool(args.model) == bool(args.predictions):
        parser.error("name either MODEL or --predictions FILE.csv")
    return args


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args, start = _arguments(argv), time.monotonic()
    file = args.predictions or (Path(args.model) if args.model.endswith(".onnx") else None)
    if file and not file.is_file():
        raise DataError(f"{file}: no such file; check its path")
    from datasets.store.index import fingerprint  # and more, for which --help need not wait
    from utils.audit import doors, pages, sections
    from utils.audit.images import Images, new_images, trained_by, trained_on
    from utils.files import write_atomically
    from utils.predict.model import open_model
    from utils.report.records import split_words, write_record
    from utils.run import output_root
    from utils.training.environment import git_revision

    images = Images(args.data_set)
    classes, table = images.facts.classes, images.manifest.assign(group=images.groups)
    if set(table.published_split) != {"train", "test"} or "notumor" not in classes:
        raise DataError(f"--data-set {args.data_set}: has no published test set, or no images without a tumour")
    function = bool(args.model) and ":" in args.model and not args.model.startswith("hf-hub:")
    saved = None if args.predictions or function or args.model.endswith(".onnx") else open_model(args.model)
    which = args.trained_on or ("published" if saved is None else split_words(saved.card["trained_on"]))
    if args.trained_on or saved is None:
        trained = seen = trained_on(images, which)
    else:
        trained, seen = trained_by(images, saved.card)
    if not seen.any():
        raise DataError(f"{which}: names no image of '{images.name}'; name another set by --data-set")
    others, left_out = new_images(images, args.trained_on)
    test = table[table.published_split == "test"]
    test = test if seen[test.index].all() else test[~seen[test.index]]
    rows = (sections.sample(test, QUICK_TEST) if args.quick else test).index.to_numpy()
    names = args.classes.split(",") if args.classes else None
    if args.predictions:
        door = doors.Table(args.predictions, classes, [images, *(other for other, _ in others.values())], rows)
    elif saved:
        door = doors.Saved(saved, classes, images.files)
    else:
        known = sections.sample(table[table.published_split == "train"], KNOWN * len(classes))
        shown, truth = [images.show(row) for row in known.index], known.label.map(classes.index).to_numpy()
        known = doors.Known(shown, truth, classes)
        if function:
            door = doors.Function(args.model, known, names, args.seconds, args.python)
        else:
            door = doors.Onnx(Path(args.model), known, args.size, args.scale, names)
    folder, most = output_root() / "runs/audit" / door.name, QUICK_CHANGED if args.quick else args.images
    try:
        kept = doors.Kept(door, folder / "answers")
        found = sections.audit(kept, images, trained, seen, rows, others, most, args.quick)
    finally:
        door.close()
    of = "the publisher's files" if images.files else "packed images, since the publisher's files are not kept here"
    record = {"model": door.name, "about": door.about, "notes": door.notes, "data_set": images.name}
    record |= {"trained_on": Path(which).name, "images_shown": of, "quick": args.quick, "left_out": left_out}
    record |= {"data": fingerprint(images.name), "git": git_revision(), **found}
    record["seconds"] = round(time.monotonic() - start)
    report = list(pages.sections(record))
    text = pages.as_markdown(record, report)
    write_record(folder / "report.json", record)
    write_atomically(folder / "report.md", text)
    write_atomically(folder / "report.html", pages.as_html(record, report))
    print(f"{text}\n{folder / 'report.html'}, and report.md and report.json; {record['seconds']} seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())

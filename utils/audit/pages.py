"""Writes an audit down: Markdown, which the terminal shows as well, and one HTML page with its figures."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from nbconvert.filters import markdown2html

from datasets.commands import NOTE
from utils.report.figures import forest
from utils.report.tables.common import format_ci, markdown

STYLE = "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
STYLE += "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}img{max-width:100%}.anchor-link{display:none}"
RATES = ("sensitivity", "specificity", "auc")
Section = tuple[str, str, pd.DataFrame, Figure | None]  # title, sentences, table, figure


def sections(record: Mapping) -> Iterator[Section]:
    """The sections of a record of `sections.audit`, the verdict first."""
    yield "Verdict", "Each answer rests on the numbers beside it.", pd.DataFrame(record["verdict"]), None
    metrics, of_class = record["home"]["metrics"], record["home"]["per_class"]
    methods = {"this model": metrics["accuracy"]} | record["home"]["beside"]
    table = pd.DataFrame([(name, format_ci(one)) for name, one in methods.items()], columns=["method", "accuracy %"])
    text = "Accuracy on images that the publisher tests, the same for every method; what others reported is theirs."
    yield "1. The published test set", text, table, forest(methods, "accuracy, %", None)

    parts = record["relatives"] | record["distance"]
    rows = [(name, f"{one['images']:,}", format_ci(one["accuracy"])) for name, one in parts.items()]
    text = "A relative is an image of the same patient, a duplicate or a near-duplicate, by the committed tables. The "
    text += "correlation is that of the packed image's thumbnail with the one of the most alike training image."
    drawn = {f"{name} ({one['images']:,})": one["accuracy"] for name, one in parts.items()}
    table = pd.DataFrame(rows, columns=["test images", "number", "accuracy %"])
    yield "2. With and without relatives in training", text, table, forest(drawn, "accuracy, %", None)

    new = {"published test set": record["home"]["screened"]} | record["new"]
    names = ["images", "tumours", "of these found", "healthy", "sensitivity %", "specificity %", "AUC %"]
    numbers = ("tumours", "found", "healthy")
    rows = [[name, *(one[n] for n in numbers), *(format_ci(one[rate]) for rate in RATES)] for name, one in new.items()]
    table = pd.DataFrame(rows, columns=names)
    drawn = {f"{rate}, {name}": one[rate] for rate in RATES[:2] for name, one in new.items() if one[rate]}
    text = "Tumour or none of images that the model's own data set has no relative of; of fewer than 20 no rate. "
    text += " ".join(f"Left out: {why}." for why in record["left_out"].values())
    yield "3. New images", text, table, forest(drawn, "%", None)

    rates, changed = ("before", "after", "stay"), record["shortcuts"]
    rows = [(name, one["images"], *(format_ci(one[rate]) for rate in rates)) for name, one in changed.items()]
    table = pd.DataFrame(rows, columns=["change", "images", "accuracy before %", "after %", "answers that stay %"])
    text = "The same test images before and after a change that leaves the tumour as it is, covers it, or all else."
    drawn = {name: one["after"] for name, one in changed.items()}
    figure = forest(drawn, "accuracy after the change, %", None) if drawn else None
    yield "4. Shortcuts", text if changed else "Nobody but its author can ask about changed images.", table, figure

    rows = [(name, f"{one['images']:,}", format_ci(one["recall"])) for name, one in of_class.items()]
    table, sure = pd.DataFrame(rows, columns=["class", "test images", "recall %"]), record["confidence"]
    if not sure:
        yield "5. Recall", "It gives classes without probabilities, so nothing is known of its confidence.", table, None
        return
    text = f"Expected calibration error {format_ci(metrics['calibration_error'])} points; Brier score "
    text += f"{format_ci(metrics['brier'], percent=False)}; mean confidence {format_ci(metrics['confidence'])} %, and "
    text += f"{format_ci(sure['when_wrong'])} % where it is wrong. The most confident errors stand below."
    yield "5. Calibration and recall", text, table, None
    yield "The most confident errors", "", pd.DataFrame(sure["errors"]), None


def as_markdown(record: Mapping, found: Sequence[Section], figures: bool = False) -> str:
    """The whole report, with `figures` in the text itself."""
    lines = [f"# Audit of {record['about'].get('package', record['model'])} on {record['data_set']}", *record["notes"]]
    lines += [f"Trained on, as said: {record['trained_on']}. Asked about: {record['images_shown']}."]
    if record["skipped"]:
        (name, reason), count = next(iter(record["skipped"].items())), len(record["skipped"])
        lines.append(f"Skipped, and counted nowhere: {count} images, {name} first ({reason}).")
    lines += ["Quick: fewer images, not to be cited."] if record["quick"] else []
    for title, text, table, figure in found:
        lines += [f"## {title}", *([text] if text else []), *([markdown(table)] if len(table) else [])]
        if figures and figure:
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=150)
            lines.append(f"![{title}](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})")
            plt.close(figure)
    return "\n\n".join([*lines, NOTE]) + "\n"


def as_html(record: Mapping, found: Sequence[Section]) -> str:
    """The same as a page that needs no other file and no network; what others wrote is text in it, never markup."""
    body = markdown2html(html.escape(as_markdown(record, found, figures=True), quote=False))
    head = f"<meta charset='utf-8'><title>Audit of {html.escape(record['model'])}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"

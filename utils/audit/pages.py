"""Writes an audit down: Markdown, which the terminal shows as well, and one HTML page with its figures."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from utils.commands import NOTE
from utils.report.figures import forest
from utils.report.tables.common import NONE, format_ci, markdown

STYLE = "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
STYLE += "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}img{max-width:100%}.scroll{overflow-x:auto}"
RATES = ("sensitivity", "specificity", "auc")
Section = tuple[str, str, pd.DataFrame, Figure | None]  # title, sentence, table, figure


def cell(entry: Mapping | None) -> str:
    """A share with its interval in percent; "–" where there is none."""
    return NONE if entry is None else format_ci(entry)


def parts(of: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row a part of the test set: images, and accuracy in percent."""
    rows = [(name, one["images"], cell(one["accuracy"])) for name, one in of.items()]
    return pd.DataFrame(rows, columns=["test images", "number", "accuracy %"])


def sections(record: Mapping) -> Iterator[Section]:
    """The sections of a record of `sections.audit`, the verdict first."""
    at_home, new, changed, sure = (record[name] for name in ("home", "new", "shortcuts", "confidence"))
    yield "Verdict", "Each line rests on the number beside it.", pd.DataFrame(record["verdict"]), None
    metrics = at_home["metrics"]
    every = {"this model": metrics["accuracy"]} | at_home["beside"]
    table = pd.DataFrame([(name, cell(one)) for name, one in every.items()], columns=["method", "accuracy %"])
    text = f"{at_home['images']:,} images that the publisher tests. Reported numbers are others' own."
    yield "1. The published test set", text, table, forest(every, "accuracy, %", None)
    kin, far = record["relatives"], record["distance"]
    text = "A relative is an image of the same patient, a duplicate or a near-duplicate, by the committed tables. "
    text += "Distance is the correlation of its thumbnail with that of the most alike training image."
    far = {f"correlation {name}": one for name, one in far.items()}
    figure = forest({f"{name} ({one['images']:,})": one["accuracy"] for name, one in (kin | far).items()}, "%", None)
    yield "2. With and without relatives in training", text, parts(kin | far), figure
    promised = {name: metrics.get(f"tumour_{name}") for name in RATES}
    rows = [("at home", at_home["images"], "", *(cell(promised[name]) for name in RATES))]
    rows += [(name, one["tumours"], one["healthy"], *(cell(one[r]) for r in RATES)) for name, one in new.items()]
    table = pd.DataFrame(rows, columns=["images", "tumours", "healthy", "sensitivity %", "specificity %", "AUC %"])
    shown = {f"{rate}, {name}": one[rate] for rate in RATES[:2] for name, one in {"at home": promised, **new}.items()}
    text = (
        "Tumour or none of images that have no relative in the model's own data set; of fewer than 20 images no rate "
    )
    text += "is given. " + " ".join(f"{name}: left out ({why})." for name, why in record["left_out"].items())
    yield "3. New images", text, table, forest({k: v for k, v in shown.items() if v}, "%", None)
    rows = [
        (n, one["images"], cell(one["before"]), cell(one["after"]), cell(one["stay"])) for n, one in changed.items()
    ]
    names = ["change", "images", "accuracy before %", "after %", "answers that stay %"]
    drawn = {"unchanged": next(iter(changed.values()))["before"]} if changed else {}
    drawn |= {name: one["after"] for name, one in changed.items()}
    text = "The same test images before and after a change that leaves the tumour as it is, or leaves nothing else."
    figure = forest(drawn, "accuracy after the change, %", None) if drawn else None
    yield "4. Shortcuts", text if changed else "Not asked.", pd.DataFrame(rows, columns=names), figure
    rows = [(name, one["images"], cell(one["recall"])) for name, one in at_home["per_class"].items()]
    table = pd.DataFrame(rows, columns=["class", "test images", "recall %"])
    text = "It gives classes without probabilities."
    if sure:
        text = f"Expected calibration error {cell(metrics['calibration_error'])} points, Brier score "
        text += f"{format_ci(metrics['brier'], percent=False)}, mean confidence {cell(metrics['confidence'])} %, "
        text += f"{cell(sure['when_wrong'])} % where it is wrong."
    yield "5. Calibration and recall", text, table, None
    if sure:
        yield "The most confident errors", "", pd.DataFrame(sure["errors"]), None


def preface(record: Mapping) -> list[str]:
    """What was asked, in sentences."""
    lines = [*record["notes"], f"Trained on, as said: {record['trained_on']}. Asked about: {record['images_shown']}."]
    if record["skipped"]:
        (name, reason), count = next(iter(record["skipped"].items())), len(record["skipped"])
        lines.append(f"{count} images were skipped and count nowhere, the first {name} ({reason}).")
    return [*lines, "Quick: fewer images, not to be cited."] if record["quick"] else lines


def as_markdown(record: Mapping, found: Sequence[Section]) -> str:
    """The whole report."""
    parts = [f"# Audit of {record['model']} on {record['data_set']}", *preface(record)]
    for title, text, table, _ in found:
        parts += [f"## {title}", *([text] if text else []), *([markdown(table)] if len(table) else [])]
    return "\n\n".join([*parts, NOTE]) + "\n"


def as_html(record: Mapping, found: Sequence[Section]) -> str:
    """The same as a page that needs no other file and no network."""
    head = f"Audit of {record['model']} on {record['data_set']}"
    body = [f"<h1>{html.escape(head)}</h1>", *(f"<p>{html.escape(line)}</p>" for line in preface(record))]
    for title, text, table, figure in found:
        body += [f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>"]
        if figure:
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=150)
            plt.close(figure)
            picture = base64.b64encode(file.getvalue()).decode()
            body.append(f'<img alt="{html.escape(title)}" src="data:image/png;base64,{picture}">')
        body += [f'<div class="scroll">{table.to_html(index=False, border=0)}</div>'] if len(table) else []
    top = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(head)}</title>'
    return f"{top}<style>{STYLE}</style><body>{''.join(body)}<p>{NOTE}</p></body></html>\n"


def leaderboard(records: Sequence[Mapping]) -> str:
    """Audits as a table in Markdown, sorted by what they find in new images: the mean of sensitivity and specificity,
    since a model that calls everything a tumour finds all of them. Those that lack one of the two come last."""
    rows = []
    for record in records:
        new = [*record["new"].values()][-1] if record["new"] else dict.fromkeys(RATES)
        both = [new[rate]["value"] for rate in RATES[:2] if new[rate]]
        row = {"model": record["model"], "new images": ", ".join(record["new"]) or NONE}
        row |= {f"{rate}, new %": cell(new[rate]) for rate in RATES}
        row |= {"published test set %": cell(record["home"]["metrics"]["accuracy"])}
        row |= {"trained on": record["trained_on"], "licence": record["about"].get("licence", NONE)}
        rows.append((-sum(both) / 2 if len(both) == 2 else 1, record["model"], row))
    return markdown(pd.DataFrame([row for *_, row in sorted(rows, key=lambda one: one[:2])]))

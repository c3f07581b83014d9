"""The tables of the README and the notebooks, made of run records (`runs.load_runs`), never typed.

Numbers are percent with 95 % intervals unless a column says otherwise; "–" stands for what was not run.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from datasets.protocols import PROTOCOLS
from utils.ablation import REFERENCE, budgets, compare, histories
from utils.recipes import RECIPES
from utils.runs import FULL_SIZE, Evidence

NONE = "–"
STEPS_AT = 64  # pixels at which changes of a method are tried
SPLIT_ORDER = {protocol: i for i, protocol in enumerate(PROTOCOLS)}
MASK_METRICS = {
    "dice": "Dice %",
    "iou": "IoU %",
    "precision": "precision %",
    "recall": "recall %",
    "fnr": "FNR %",
    "fpr": "FPR %",
    "accuracy": "accuracy %",
    "hd95": "HD95",
}


def interval(entry: dict, percent: bool = True, digits: int | None = None, sign: bool = False) -> str:
    """`97.1 (96.0–98.0)` from {value, low, high}; "–" for None, no bracket where no interval could be drawn.

    `digits`: one in percent, otherwise three. `sign`: of a difference, written before every number.
    """
    if entry["value"] is None:
        return NONE
    scale, shape = 100 if percent else 1, f"{'+' if sign else ''}.{digits or (1 if percent else 3)}f"
    value, low, high = (
        None if entry[name] is None else format(entry[name] * scale, shape) for name in ("value", "low", "high")
    )
    if low is None:
        return value
    return f"{value} ({low} to {high})" if sign else f"{value} ({low}–{high})"


def split_words(run: dict) -> str:
    """The protocol of a record's run in a table's words."""
    if run["split"] == "patient":
        return "patient, all folds" if run["fold"] is None else f"patient fold {run['fold']}"
    return f"external: {run['test_on']}" if run["split"] == "external" else run["split"]


def results_table(records: Sequence[dict]) -> pd.DataFrame:
    """One row a run: what was run, accuracy and macro-F1 in percent with 95 % intervals, and the published number."""
    rows = []
    for record in sorted(
        records, key=lambda r: (r["run"]["dataset"], r["run"]["split"], -r["metrics"]["accuracy"]["value"])
    ):
        run, training, published = record["run"], record["training"], record["published"]
        rows.append(
            {
                "data set": run["dataset"],
                "split": split_words(run),
                "model": run["model"],
                "pixels": run["image_size"],
                "epochs": training["epochs"] if training else NONE,
                "accuracy %": interval(record["metrics"]["accuracy"]),
                "macro F1 %": interval(record["metrics"]["macro_f1"]),
                "macro AUC": interval(record["metrics"]["macro_auc"], percent=False),
                "published accuracy %": f"{100 * published['accuracy']:.1f}" if published else NONE,
                "test images": record["images"],
            }
        )
    return pd.DataFrame(rows)


def cell(record: dict | None, metric: str = "accuracy") -> str:
    """A metric of a record with its interval, or "–" without a record."""
    return interval(record["metrics"][metric]) if record else NONE


def chosen(records: Sequence[dict], **wanted: object) -> dict | None:
    """The one record whose `run` has the values `wanted`, among runs on pictures as stored unless `view` is wanted.

    Baselines have no recipe and no size of their own: `image_size` holds for networks only.
    """
    wanted = {"view": "stored", "fold": 0} | wanted
    size = wanted.pop("image_size", FULL_SIZE)
    found = [
        r
        for r in records
        if all(r["run"][key] == value for key, value in wanted.items())
        and (r["recipe"] is None or r["run"]["image_size"] == size)
    ]
    return found[0] if found else None


def headline(records: Sequence[dict]) -> pd.DataFrame:
    """Published split against patient folds, a row a data set and model."""
    rows = []
    for dataset, model in _in_order(records, lambda run: (run["dataset"], run["model"])):
        published = chosen(records, dataset=dataset, model=model, split="published")
        patient = chosen(records, dataset=dataset, model=model, split="patient", fold=None)
        if patient is None:
            continue
        unseen = published and published.get("unseen")
        printed = published and published["published"]
        lost = published and 100 * (patient["metrics"]["accuracy"]["value"] - published["metrics"]["accuracy"]["value"])
        rows.append(
            {
                "data set": dataset,
                "model": model,
                "epochs": patient["training"]["epochs"] if patient["training"] else NONE,
                "printed by S2": f"{100 * printed['accuracy']:.1f}" if printed else NONE,
                "published split": cell(published),
                "its unseen part": interval(unseen["accuracy"]) if unseen else NONE,
                "patient folds": cell(patient),
                "lost, points": f"{lost:+.1f}" if published else NONE,
                "folds from – to": f"{100 * min(patient['folds']):.1f} – {100 * max(patient['folds']):.1f}",
            }
        )
    return pd.DataFrame(rows)


def cleaning(records: Sequence[dict], image_size: int = 64) -> pd.DataFrame:
    """S0's claim taken apart: two data sets, raw and cleaned, and both by patient; networks of one size."""
    rows = []
    for dataset, model in _in_order(records, lambda run: (run["dataset"], run["model"])):
        of = {"dataset": dataset, "model": model, "image_size": image_size}
        raw, cleaned = (chosen(records, split=split, **of) for split in ("published", "cleaned"))
        if cleaned is None:
            continue
        rows.append(
            {
                "data set": dataset,
                "model": model,
                "raw": cell(raw),
                "cleaned by S0's rule": cell(cleaned),
                "patient folds": cell(chosen(records, split="patient", **(of | {"fold": None}))),
                "test images raw / cleaned": f"{raw['images'] if raw else NONE} / {cleaned['images']}",
            }
        )
    return pd.DataFrame(rows)


def external(records: Sequence[dict]) -> pd.DataFrame:
    """Trained on one set, tested on what another adds; tumour or none besides the classes."""
    rows = []
    for record in records:
        run = record["run"]
        if run["split"] != "external" or run["model"] == "majority":
            continue
        classes = ", ".join(f"{e['images']} {c}" for c, e in record["per_class"].items() if e["images"])
        rows.append(
            {
                "trained on → tested on": f"{run['dataset']} → {run['test_on']}",
                "model": run["model"],
                "test images": classes,
                "accuracy": cell(record),
                "tumour: sensitivity": cell(record, "tumour_sensitivity"),
                "tumour: specificity": cell(record, "tumour_specificity"),
                "tumour: AUC": interval(record["metrics"]["tumour_auc"], percent=False),
            }
        )
    return pd.DataFrame(rows)


def views(records: Sequence[dict], dataset: str = "brain-tumor-mri", image_size: int = 64) -> pd.DataFrame:
    """What undoing a shortcut costs or gains, on the published split and on patient fold 0; networks of one size."""
    rows = []
    for model, view in _in_order(records, lambda run: (run["model"], run["view"])):
        of = {"dataset": dataset, "model": model, "view": view, "image_size": image_size}
        published, patient = (chosen(records, split=split, **of) for split in ("published", "patient"))
        if model != "majority" and (published or patient):
            cells = {"published split": cell(published), "patient fold 0": cell(patient)}
            rows.append({"model": model, "pictures": view} | cells)
    return pd.DataFrame(rows)


def shortcuts(findings: Sequence[dict]) -> pd.DataFrame:
    """What can be told without anatomy, by patient: accuracy, and behind it the AUC of tumour or none."""
    rows = []
    for found in findings:
        row = {"data set": found["dataset"], "orientation (linked pictures)": interval(found["orientation only"])}
        for view, title in (("file", "the file"), ("stored", "packed picture"), ("levelled", "levelled picture")):
            metrics = found["source only"].get(view)
            auc = metrics and metrics.get("tumour_auc")
            row[title] = (
                NONE if not metrics else interval(metrics["accuracy"]) + (f", AUC {auc['value']:.3f}" if auc else "")
            )
        rows.append(row)
    return pd.DataFrame(rows)


def memoriser(findings: Sequence[dict]) -> pd.DataFrame:
    """Accuracy of the nearest neighbour on the publishers' uncropped pictures, for every set and protocol."""
    rows = []
    for found in findings:
        for protocol, result in found["memoriser"].items():
            unseen = result["unseen"]
            classes = {c: interval(entry["recall"]) for c, entry in result["per_class"].items()}
            rows.append(
                {
                    "data set": found["dataset"],
                    "split": protocol,
                    "accuracy": cell(result),
                    "unseen part": f"{interval(unseen['accuracy'])} of {unseen['images']}" if unseen else NONE,
                    **{f"recall {c}": value for c, value in classes.items()},
                }
            )
    return pd.DataFrame(rows).fillna(NONE)


def shift(found: dict) -> pd.DataFrame:
    """One set's validation and test part, a row a class: where they come from, and whether they can be told apart."""
    rows = {}
    for c, pixels in found["shift"]["pixels"].items():
        network = found["shift"]["CustomCNN"].get(c, {})
        rows[c] = {
            f"linked to cheng, {part}": f"{100 * share.get(c, 0):.0f}" for part, share in found["linked share"].items()
        }
        rows[c] |= {f"1-NN recall, {part}": f"{100 * recall[c]:.0f}" for part, recall in found["1-NN recall"].items()}
        for name, values in (("pixels", pixels), ("CustomCNN", network)):
            auc, p = values.get("auc"), values.get("p")
            rows[c][f"AUC, {name} (p)"] = NONE if auc is None else f"{auc:.2f} ({p:.3f})"
    return pd.DataFrame(rows).T.rename_axis("class").reset_index()


def mask_metrics(results: dict[str, dict]) -> pd.DataFrame:
    """Metrics of masks, a row for each of `results` {name: {metric: {value, low, high}}}; HD95 is a distance."""
    rows = {
        name: {title: interval(entry[m], percent=m != "hd95", digits=1) for m, title in MASK_METRICS.items()}
        for name, entry in results.items()
    }
    return pd.DataFrame(rows).T


def s2_segmentation() -> pd.DataFrame:
    """What S2 printed, from its recipes."""
    rows = [
        {"model": model, "n_filters": recipe.model_args["n_filters"]}
        | {name: f"{100 * printed[name]:.1f}" for name in ("dice", "iou", "precision", "recall")}
        for model, recipe in RECIPES["s2"].items()
        if (printed := recipe.published.get("brats2020/slices"))
    ]
    return pd.DataFrame(rows)


def segmenters(records: Sequence[dict]) -> pd.DataFrame:
    """One row a segmentation run that tested whole patients: Dice by patient, and pooled as S2 did.

    Networks at `STEPS_AT` pixels are tries, they stand in `steps`; folds that are pooled stand in their pooled record.
    """
    rows = []
    for record in sorted(records, key=lambda r: (r["run"]["dataset"], -r["metrics"]["dice"]["value"])):
        run, training = record["run"], record["training"]
        if run["split"] != "patient" or (training and _of_steps(run)) or _is_pooled_elsewhere(record, records):
            continue
        rows.append(
            {
                "data set": run["dataset"] + (", middle slices" if run.get("selection") == "middle" else ""),
                "tested": split_words(run),
                "model": run["model"],
                "recipe": run["recipe"] if training else NONE,
                "pixels": run["image_size"],
                "epochs": training["epochs"] if training else NONE,
                "Dice %": cell(record, "dice"),
                "recall %": cell(record, "recall"),
                "precision %": cell(record, "precision"),
                "HD95": interval(record["metrics"]["hd95"], percent=False, digits=1),
                "Dice % as S2 pooled": f"{100 * record['s2_pooling']['dice']:.1f}",
                "patients": record["patients"],
            }
        )
    return pd.DataFrame(rows)


def _of_steps(run: dict) -> bool:
    return run["image_size"] == STEPS_AT


def _is_pooled_elsewhere(record: dict, records: Sequence[dict]) -> bool:
    """Whether another record joins this fold with the others."""
    return any(record["id"] in other.get("pooled", ()) for other in records)


def regions(records: Sequence[dict]) -> pd.DataFrame:
    """Dice by mask and region, a row a run on volumes."""
    rows = []
    for record in records:
        if len(record["per_class"]) > 1 and not _is_pooled_elsewhere(record, records):
            dice = {name: interval(entry["dice"]) for name, entry in record["per_class"].items()}
            run = record["run"]
            which = {"data set": run["dataset"], "model": run["model"], "recipe": run["recipe"].replace("none", NONE)}
            rows.append(which | dice)
    return pd.DataFrame(rows)


def slices_or_patients(records: Sequence[dict]) -> pd.DataFrame:
    """Dice on a split by slice and on one by patient, a row a data set and model, runs of the same recipe and size."""
    pairs = {}
    for record in records:
        run = record["run"]
        key = (run["dataset"], run["model"], run["recipe"], run["image_size"])
        if run["split"] in ("slices", "patient") and run["fold"] is not None:
            pairs.setdefault(key, {}).setdefault(run["split"], record)
    rows = [
        {
            "data set": dataset,
            "model": model,
            "pixels": size,
            "by slice": cell(pair["slices"], "dice"),
            "by patient (fold 0)": cell(pair["patient"], "dice"),
            "by slice, as S2 pooled": f"{100 * pair['slices']['s2_pooling']['dice']:.1f}",
        }
        for (dataset, model, _, size), pair in pairs.items()
        if len(pair) == 2
    ]
    return pd.DataFrame(rows)


def steps(records: Sequence[dict], dataset: str = "cheng") -> pd.DataFrame:
    """What was tried to do better, on patient fold 0: Dice on validation patients decides, the test part is told."""
    of_fold = [r for r in records if r["run"]["dataset"] == dataset and r["run"]["split"] == "patient"]
    tried = [r for r in of_fold if r["training"] and r["run"]["fold"] == 0]
    rows = []
    for record in sorted(tried, key=lambda r: r["training"]["val_dice"]):
        recipe = record["recipe"]
        rows.append(
            {
                "recipe": record["run"]["recipe"],
                "model": record["run"]["model"],
                "loss": recipe["loss"],
                "optimiser": recipe["optimizer"],
                "augmentation": recipe["augmentation"],
                "pixels": record["run"]["image_size"],
                "parameters": f"{record['parameters']:,}",
                "epochs": record["training"]["epochs"],
                "validation Dice %": f"{100 * record['training']['val_dice']:.1f}",
                "test Dice %": cell(record, "dice"),
            }
        )
    return pd.DataFrame(rows)


def _in_order(records: Sequence[dict], key: Callable[[dict], tuple]) -> list[tuple]:
    """The keys of the records' runs: networks first, then what they have to beat."""
    last = {"1-NN": 1, "majority": 2}
    return sorted({key(r["run"]) for r in records}, key=lambda k: (k[0] in last, [(last.get(v, 0), v) for v in k]))


def multitask(evidence: Evidence) -> pd.DataFrame:
    """One row a run of S0's own method, whole folds pooled: naming, detecting, and what has to be beaten.

    Networks at `STEPS_AT` pixels stand in `ablation`.
    """
    s0 = RECIPES[REFERENCE]["MultiTaskUNet"].published
    rows = []
    for record in sorted(evidence.multitask, key=lambda r: (r["run"]["dataset"], SPLIT_ORDER[r["run"]["split"]])):
        run, metrics = record["run"], record["metrics"]
        if run["recipe"] != REFERENCE or _of_steps(run) or _is_pooled_elsewhere(record, evidence.multitask):
            continue
        printed = s0.get(f"{run['dataset']}/{run['split']}")
        same = {key: run[key] for key in ("dataset", "split", "fold")}
        half, chosen_on_val = (record["screening"].get(name) for name in ("S0", "validation"))
        rows.append(
            {
                "data set": run["dataset"],
                "split": split_words(run),
                "printed by S0": f"{100 * printed['accuracy']:.1f}" if printed else NONE,
                "accuracy": interval(metrics["accuracy"]),
                "1-NN": cell(chosen(evidence.classification, **same, model="1-NN")),
                "macro F1": interval(metrics["macro_f1"]),
                "tumour AUC": interval(metrics["tumour_auc"], percent=False),
                "sensitivity / specificity at .5": _both(half),
                "at validation's threshold": _both(chosen_on_val),
                "AUC of the reconstruction error": interval(record["anomaly"]["tumour"], percent=False),
                "test images": record["images"],
                **_trained(record),
            }
        )
    return pd.DataFrame(rows)


def _trained(record: dict) -> dict[str, int]:
    run = record["run"]
    return {"width": run["n_filters"], "pixels": run["image_size"], "epochs": record["training"]["epochs"]}


def _both(found: dict | None) -> str:
    return f"{interval(found['sensitivity'])} / {interval(found['specificity'])}" if found else NONE


def ablation(evidence: Evidence) -> pd.DataFrame:
    """S0's method with a part taken away or exchanged, on one budget and the same seeds; a row a recipe."""
    rows = []
    for runs in budgets(evidence.multitask):
        found = compare(runs, evidence.folder)
        for name in runs:
            (record, *_), entry = list(runs[name].values()), found[name]
            run, recipe = record["run"], record["recipe"]
            both = recipe["model_args"].get("reconstruct", True)
            rows.append(
                {
                    "data set": f"{run['dataset']}, {split_words(run)}",
                    "recipe": name,
                    "reconstruction": "yes" if both else "no",
                    "heads": "two" if recipe["model_args"].get("hierarchical", True) else "one",
                    "balance": recipe["balance"] if both else NONE,
                    "validation %": f"{100 * entry['validation']:.1f}",
                    "test accuracy %": interval(entry["accuracy"]),
                    "against S0's, points": "" if name == REFERENCE else interval(entry["difference"], sign=True),
                    "seeds from – to": f"{100 * min(entry['seeds']):.1f} – {100 * max(entry['seeds']):.1f}",
                    "seeds": len(entry["seeds"]),
                    **_trained(record),
                }
            )
    return pd.DataFrame(rows)


def balances(evidence: Evidence) -> pd.DataFrame:
    """Reconstruction against classification under each balance, first seed: median over the epochs of their weights'
    ratio and of that of their gradients at the encoder, without and with the weights."""
    rows = []
    for runs in budgets(evidence.multitask):
        for name, history in histories(runs, evidence.folder).items():
            weight, gradient = (
                history[f"{of}_reconstruction"] / history[f"{of}_classification"] for of in ("weight", "gradient")
            )
            rows.append(
                {
                    "recipe": name,
                    "weight of the reconstruction": f"{weight.median():.3g}",
                    "its gradient, as it is": f"{gradient.median():.2g}",
                    "its gradient, weighted": f"{(weight * gradient).median():.2g}",
                    "reconstruction error, validation": f"{history.val_reconstruction.iloc[-1]:.5f}",
                }
            )
    return pd.DataFrame(rows)


def backbones(evidence: Evidence) -> pd.DataFrame:
    """One row a backbone, its start and recipe, on one data set: size, time, and what is left by patient.

    What stands in `recipes` beside ours is left out.
    """
    beside = {
        r["id"] for runs in on_one_budget(evidence) for name in runs for r in runs[name].values() if name != "ours"
    }
    rows = {}
    for record in evidence.transfer:
        run, recipe = record["run"], record["recipe"]
        if record["id"] in beside or _is_pooled_elsewhere(record, evidence.transfer) or run["fold"]:
            continue  # of folds that are not all there the first stands for them
        if run["split"] == "published" or run["split"] == "patient":
            key = (run["dataset"], run["model"], run["start"], run["recipe"], run["image_size"], recipe["epochs"])
            rows.setdefault(key, {})[run["split"]] = record
    return pd.DataFrame(
        {
            "data set": dataset,
            "backbone": model,
            "start": start,
            "recipe": recipe,
            "pixels": pixels,
            "epochs": max(r["training"]["epochs"] for r in pair.values()),
            "parameters": f"{next(iter(pair.values()))['parameters'] / 1e6:.1f} M",
            "that train": f"{next(iter(pair.values()))['trainable'] / 1e6:.1f} M",
            "minutes": " / ".join(_minutes(pair.get(split)) for split in ("published", "patient")),
            "published split": cell(pair.get("published")),
            "macro F2, AUC there": _f2_and_auc(pair.get("published")),
            "by patient": cell(pair.get("patient")),
            "F2, AUC by patient": _f2_and_auc(pair.get("patient")),
            "tested": split_words(pair["patient"]["run"]) if "patient" in pair else NONE,
            "printed": _printed_by(pair),
        }
        for (dataset, model, start, recipe, pixels, _), pair in sorted(rows.items(), key=_best_by_patient)
    )


def _best_by_patient(item: tuple) -> tuple:
    key, pair = item
    shown = pair.get("patient", pair.get("published"))
    return key[0], "patient" not in pair, -shown["metrics"]["accuracy"]["value"]


def _minutes(record: dict | None) -> str:
    return f"{record['training']['seconds'] / 60:.0f}" if record else NONE


def _f2_and_auc(record: dict | None) -> str:
    return f"{cell(record, 'macro_f2')}, {interval(record['metrics']['macro_auc'], percent=False)}" if record else NONE


def _printed_by(pair: dict[str, dict]) -> str:
    published = (pair.get("published") or {}).get("published")
    return f"{100 * published['accuracy']:.1f}" if published else NONE


def pairs(evidence: Evidence) -> list[dict[str, dict]]:
    """Runs that differ in nothing but their start, as {"cold": record, "warm": record}; whole folds pooled where all
    are there."""
    found: dict[tuple, dict[str, dict]] = {}
    for record in evidence.transfer:
        run = record["run"]
        same = tuple(run[k] for k in ("dataset", "split", "fold", "model", "recipe", "image_size", "seed"))
        found.setdefault((*same, record["training"]["epochs"]), {})[run["start"]] = record
    return [pair for pair in found.values() if len(pair) == 2]


def starts(evidence: Evidence) -> pd.DataFrame:
    """Warm against cold start, same backbone, recipe and pictures: each, and the difference picture by picture."""
    rows = []
    for pair in pairs(evidence):
        run = pair["warm"]["run"]
        if all(_is_pooled_elsewhere(record, evidence.transfer) for record in pair.values()):
            continue
        found = compare({start: {0: record} for start, record in pair.items()}, evidence.folder, reference="cold")
        rows.append(
            {
                "data set": run["dataset"],
                "split": split_words(run),
                "backbone": run["model"],
                "recipe": run["recipe"],
                "pixels": run["image_size"],
                "epochs": pair["warm"]["training"]["epochs"],
                "cold": interval(found["cold"]["accuracy"]),
                "warm": interval(found["warm"]["accuracy"]),
                "warm start's gain, points": interval(found["warm"]["difference"], sign=True),
                "1-NN": cell(
                    chosen(evidence.classification, model="1-NN", **{k: run[k] for k in ("dataset", "split", "fold")})
                ),
            }
        )
    return pd.DataFrame(rows)


def on_one_budget(evidence: Evidence) -> list[dict[str, dict[int, dict]]]:
    """Sets of warm runs alike but for the recipe, `ours` among them, on a patient fold: recipe → seed → record."""
    found: dict[tuple, dict[str, dict[int, dict]]] = {}
    for record in evidence.transfer:
        run = record["run"]
        if run["split"] == "patient" and run["fold"] is not None and run["start"] == "warm" and run["seed"] == 0:
            key = (run["dataset"], run["fold"], run["model"], run["image_size"])
            found.setdefault(key, {})[run["recipe"]] = {run["seed"]: record}
    return [
        {name: runs[name] for name in RECIPES if name in runs}
        for _, runs in sorted(found.items())
        if "ours" in runs and len(runs) > 2
    ]


def recipes(evidence: Evidence) -> pd.DataFrame:
    """The recipes of S0, S1, S3, S4, ours and its ingredients, one backbone, one patient fold; validation chooses."""
    rows = []
    for runs in on_one_budget(evidence):
        found = compare(runs, evidence.folder, reference="ours")
        for name in sorted(found, key=lambda name: -found[name]["validation"]):
            (record,), entry = runs[name].values(), found[name]
            run, tta = record["run"], record.get("tta")
            rows.append(
                {
                    "data set": f"{run['dataset']}, {split_words(run)}",
                    "backbone": f"{run['model']}, {run['start']}",
                    "recipe": name,
                    "pixels": run["image_size"],
                    "epochs": record["training"]["epochs"],
                    "that train": f"{record['trainable']:,}",
                    "validation %": f"{100 * entry['validation']:.1f}",
                    "test accuracy %": interval(entry["accuracy"]),
                    "against ours, points": "" if name == "ours" else interval(entry["difference"], sign=True),
                    "with TTA, points": interval(tta["gain"], sign=True) if tta else NONE,
                }
            )
    return pd.DataFrame(rows)


# What the README shows, by the name of its block.
BLOCKS: dict[str, Callable[[Evidence], pd.DataFrame]] = {
    "headline": lambda evidence: headline(evidence.classification),
    "cleaning": lambda evidence: cleaning(evidence.classification),
    "external": lambda evidence: external(evidence.classification),
    "views": lambda evidence: views(evidence.classification),
    "shortcuts": lambda evidence: shortcuts(evidence.findings),
    "memoriser": lambda evidence: memoriser(evidence.findings),
    "gap": lambda evidence: pd.concat(
        [shift(f) for f in evidence.findings if f["dataset"] == "sartaj"] or [pd.DataFrame()]
    ),
    "segmenters": lambda evidence: segmenters(evidence.segmentation),
    "leak": lambda evidence: slices_or_patients(evidence.segmentation),
    "regions": lambda evidence: regions(evidence.segmentation),
    "steps": lambda evidence: steps(evidence.segmentation),
    "multitask": multitask,
    "ablation": ablation,
    "balances": balances,
    "backbones": backbones,
    "starts": starts,
    "recipes": recipes,
}

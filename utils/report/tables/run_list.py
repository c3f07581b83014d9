"""`saved_metrics/runs.csv`: every run as a row, so that tables and figures are filters and pivots of one table."""

import pandas as pd

from utils.report.records import Evidence

RUN = ("dataset", "split", "fold", "test_on", "model", "recipe", "pretrained", "seed", "image_size", "n_filters")
HOW = ("view", "selection", "target")
METRICS = ("accuracy", "macro_f1", "macro_f2", "macro_auc", "tumour_sensitivity", "tumour_specificity", "tumour_auc")
METRICS += ("macro_average_precision", "dice", "iou", "hd95")


def all_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a run, by id: what was run, how long it trained, its size, metrics with their 95 % intervals as shares
    (HD95 as a distance), and the number reported by the source that it answers."""
    rows = []
    for record in evidence.records:
        run, training = {"target": "label"} | record["run"], record["training"] or {}
        main = "dice" if record["task"] == "segmentation" else "accuracy"
        row = {"id": record["id"], "chapter": record["task"], **{key: run[key] for key in (*RUN, *HOW)}}
        row |= {
            "epochs": training.get("epochs"),
            "epoch_kept": training.get("epoch_kept"),
            "train_seconds": round(training["seconds"], 1) if training else None,
            "parameters": record["parameters"],
            "trainable": record["trainable"],
            "images": record["images"],
            "groups": record["groups"],
        }
        for metric in METRICS:
            entry = record["metrics"].get(metric, {})
            row |= {metric: entry.get("value"), f"{metric}_low": entry.get("low"), f"{metric}_high": entry.get("high")}
        row |= {"reported": (record["published"] or {}).get(main), "finished": record.get("finished")}
        row["old_folds"] = "yes" if record.get("old_folds") else ""
        rows.append(row | {"git": record.get("git", "")[:12]})
    table = pd.DataFrame(rows)
    whole = ["fold", "epochs", "epoch_kept"]
    return table.astype(dict.fromkeys(whole, "Int64")) if len(table) else table

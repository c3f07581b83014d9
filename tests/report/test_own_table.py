"""A student's metric is a line in one file, and a table a file of its own."""

import os
import shutil
import subprocess
import sys

from datasets.catalog import REPO

METRIC = '    out["balanced_accuracy"] = each["recall"][there].mean()\n'
TABLE = """
import pandas as pd

from utils.report.tables.common import show


def balanced(evidence) -> pd.DataFrame:
    return show(evidence.runs, "model | balanced accuracy = balanced_accuracy")


TABLES = {"balanced": balanced}
"""
SCRIPT = """
import pandas as pd
from utils.evaluation.classification import evaluate
from utils.report import load_evidence
from utils.report.records import save_run
from utils.report.tables import BLOCKS
from utils.run import Run, output_root

rows = [("glioma", "glioma"), ("glioma", "notumor"), ("notumor", "notumor"), ("notumor", "notumor")]
table = pd.DataFrame(rows, columns=["label", "predicted"]).assign(path=list("abcd"), group=list("abcd"), fold=0)
table = table.assign(p_glioma=0.5, p_notumor=0.5)
save_run(Run(dataset="phantom").baseline("1-NN"), evaluate(table, ["glioma", "notumor"], 20), table)
print(BLOCKS["balanced"](load_evidence(output_root() / "saved_metrics")).to_string())
"""


def test_a_metric_and_a_table_take_one_file_each(roots, tmp_path):
    copy = tmp_path / "repository"
    shutil.copytree(REPO / "utils", copy / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    metrics = copy / "utils/evaluation/classification.py"
    end = "    return {name: float(value) for name, value in out.items()}\n"
    assert metrics.read_text().count(end) == 1
    metrics.write_text(metrics.read_text().replace(end, METRIC + end))
    (copy / "utils/report/tables/balanced.py").write_text(TABLE)
    env = os.environ | {"PYTHONPATH": f"{copy}:{REPO}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr[-2000:]
    (row,) = [line for line in done.stdout.splitlines() if line.endswith(")") or "75.0" in line]
    assert "1-NN" in row and "75.0" in row

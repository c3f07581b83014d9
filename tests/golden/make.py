"""Writes tables, sentences and terminal output as they are now: `python tests/golden/make.py FOLDER`.

Run it on two revisions and compare the folders; `tests/golden/README.md` lists what may differ and why.
"""

import os
import subprocess
import sys
from pathlib import Path

from datasets.catalog import REPO
from utils.report.records import load_evidence
from utils.report.tables import BLOCKS

COMMANDS = {
    "download": ["datasets/download.py"],
    "download_help": ["datasets/download.py", "--help"],
    "download_wrong_name": ["datasets/download.py", "brain-tumour-mri"],
    "curation_help": ["-m", "datasets.curation", "--help"],
    "headless_help": ["-m", "utils.headless", "--help"],
    "headless_list_2": ["-m", "utils.headless", "notebooks/2_classification.ipynb", "--list"],
    "headless_list_5": ["-m", "utils.headless", "notebooks/5_segmentation.ipynb", "--list"],
    "headless_wrong": ["-m", "utils.headless", "notebooks/2_classification.ipynb", "-p", "datset", "phantom"],
    "chapters_help": ["-m", "utils.chapters", "--help"],
    "predict_help": ["-m", "utils.predict", "--help"],
    "predict_list": ["-m", "utils.predict", "list"],
    "predict_nothing": ["-m", "utils.predict", "nothing.png"],
    "export_help": ["-m", "utils.export", "--help"],
    "backbones_help": ["-m", "models.backbones", "--help"],
    "probes_help": ["-m", "utils.report.probes", "--help"],
    "pointing_help": ["-m", "utils.report.pointing", "--help"],
    "maps_help": ["-m", "utils.report.maps", "--help"],
}


def main(folder: Path) -> None:
    evidence = load_evidence(REPO / "saved_metrics")
    for name, make in BLOCKS.items():
        write(folder / "tables" / f"{name}.csv", make(evidence).to_csv(index=False))
    for name, command in COMMANDS.items():
        environment = os.environ | {"BRAIN_MRI_DATA": "/nonexistent/data", "COLUMNS": "120"}
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=REPO, env=environment)
        text = f"$ python {' '.join(command)}\n{done.stdout}{done.stderr}exit code {done.returncode}\n"
        write(folder / "commands" / f"{name}.txt", text.replace(str(REPO), "REPO"))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

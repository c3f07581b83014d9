"""The log of `unet.job` begins with what it runs on and what BraTS needs."""

import subprocess

from datasets.catalog import REPO


def test_the_first_line_of_the_segmentation_job_names_its_data_and_what_brats_needs(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/run.sh").write_text('echo "$*"\n')
    command = ["bash", str(REPO / "jobs/unet.job"), "-p", "epochs", "1"]
    done = subprocess.run(command, cwd=tmp_path, env={"SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True)
    first, call = done.stdout.splitlines()
    assert "'cheng'" in first and "download.py brats2020" in first and "-p dataset brats2020" in first
    assert "-p model ImprovedUNet" in call and call.endswith("-p epochs 1") and not done.stderr

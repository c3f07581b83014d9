"""Two run scripts in one allocation, such as of `salloc`, do not disturb each other; SLURM's programs are functions."""

import os
import subprocess

from datasets.catalog import REPO

PROGRAMS = """
python() { :; }
torchrun() { :; }
srun() {
    echo "$BRAIN_MRI_STOP $BRAIN_MRI_CODE $*" >"$BRAIN_MRI_OUTPUT/seen-$$"
}
export -f python torchrun srun
exec bash jobs/run.sh notebooks/2_classification.ipynb -p fold """


def test_two_scripts_of_one_allocation_share_neither_a_file_nor_a_port(tmp_path):
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "1", "BRAIN_MRI_OUTPUT": str(tmp_path)}
    runs = [subprocess.Popen(["bash", "-c", PROGRAMS + fold], cwd=REPO, env=os.environ | slurm) for fold in "01"]
    assert [run.wait(60) for run in runs] == [0, 0]
    seen = [path.read_text().split() for path in tmp_path.glob("seen-*")]
    one, two = ([word for word in words if "17-" in word or "endpoint" in word] for words in seen)
    assert len(one) == len(two) == 4 and not {*one} & {*two}

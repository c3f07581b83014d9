"""The jobs on a real SLURM (`.ci/slurm.sh start` makes one): what they leave, how they fail, resume and queue again."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from safetensors.torch import save_file
from slurm_jobs import Job, slurm
from small_notebook import small_notebook
from torchvision.models import squeezenet1_1

from datasets.catalog import REPO
from models import BACKBONES
from utils.report.plan import MISSING, NONE_STARTED, read_plan
from utils.report.records import load_evidence

pytestmark = pytest.mark.slurm
SMALL = {"dataset": "phantom", "quick": "true", "image_size": 64}


@pytest.fixture
def small_job(tmp_path) -> Path:
    """A job with the head of `jobs/cnn.job`, whose notebook comes from the command line."""
    directives = [line for line in (REPO / "jobs/cnn.job").read_text().splitlines() if line.startswith("#")]
    path = tmp_path / "small.job"
    path.write_text("\n".join([*directives, 'exec bash jobs/run.sh "$@"', ""]))
    return path


def given(**values: object) -> list[object]:
    return [word for name, value in values.items() for word in ("-p", name, value)]


def test_a_job_leaves_the_executed_notebook_and_html(submit, small_job, tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "print('fold', fold)")
    job = submit(small_job, path, "-p", "fold", 3, "--html")
    assert job.end() == "COMPLETED", job.text()
    (notebook,) = (tmp_path / "runs/notebooks").glob(f"small-{job.number}-*.ipynb")
    shown = [o.text for c in nbformat.read(notebook, 4).cells for o in c.get("outputs", [])]
    assert shown == ["fold 3\n"] and notebook.with_suffix(".html").exists()
    assert f"notebook: {notebook}" in job.text()
    assert not list((tmp_path / "runs").glob(f"*-{job.number}-*"))  # neither STOP nor the code is left


FAILURES = {  # cell, arguments, options → code, what the log says
    "a cell": ("1 / 0", [], [], 1, "----> 1 1 / 0"),
    "data not here": ("1", ["-p", "dataset", "br35h"], [], 2, "'br35h' is not here yet; run: python datasets/"),
    "a misspelt parameter": ("1", ["-p", "flod", 3], [], 2, "unknown parameter 'flod'; did you mean 'fold'?"),
    "one of two nodes": (
        "import os, time\nif os.environ['RANK'] == '1':\n    1 / 0\ntime.sleep(3000)",
        [],
        ["--nodes=2"],
        1,
        "ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_ends_the_job_with_its_code_and_its_reason_in_the_log(submit, small_job, tmp_path, nodes, what):
    cell, arguments, options, code, said = FAILURES[what]
    if nodes < 2 and options:
        pytest.skip("this cluster has one node")
    job = submit(small_job, small_notebook(tmp_path / "small.ipynb", cell), *arguments, options=options)
    assert job.end() == "FAILED" and job.field("ExitCode") == f"{code}:0" and said in job.text()
    assert code == 2 or [*(tmp_path / "runs/notebooks").glob(f"small-{job.number}-*.ipynb")]


def test_a_task_of_the_plan_runs_its_row_or_names_what_it_lacks(submit, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "none"))
    plan = read_plan(load_evidence(REPO / "saved_metrics"))
    number = plan.index[(plan.state == MISSING) & (plan.data == "brain-tumor-mri")][-1]
    job = submit("jobs/plan.job", options=(f"--array={number}", f"--output={tmp_path}/task-%a.log"))
    task = Job(f"{job.number}_{number}", tmp_path / f"task-{number}.log")
    assert task.end() == "FAILED" and task.field("ExitCode") == "1:0", task.text()
    assert "not run, it lacks: data set 'brain-tumor-mri' is not here; run: python datasets/download.py" in task.text()
    assert not list((tmp_path / "runs").glob("stop-*"))


@pytest.mark.slow
def test_a_job_trains_from_weights_and_leaves_its_evidence(submit, tmp_path, small_phantom, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    save_file(squeezenet1_1().state_dict(), tmp_path / "imagenet.safetensors")
    values = {"recipe": "s3", "epochs": 3, "trials": 0, "weights": tmp_path / "imagenet.safetensors"}
    number = list(BACKBONES).index("SqueezeNet")
    (task,) = submit("jobs/transfer.job", *given(**SMALL, **values), tasks=[number])
    assert task.end(300) == "COMPLETED", task.text()
    (path,) = tmp_path.glob("runs/phantom.patient-f0.SqueezeNet.*/metrics.json")
    record = json.loads(path.read_text())
    assert record["run"]["pretrained"] and record["training"]["epochs"] == 3 and "macro_f2" in record["metrics"]
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1, "one checkpoint of all stages"


@pytest.mark.slow
def test_a_job_on_all_nodes_pauses_when_warned_queues_again_and_leaves_its_evidence(
    submit, tmp_path, nodes, small_phantom, monkeypatch
):
    """It is warned before it trains, so that it must stop after its first epoch. Each node copies the data for itself,
    and again after the pause."""
    nodes = min(nodes, 2)
    for name, value in {"DATA": small_phantom, "STAGE": "phantom", "LOCAL": tmp_path}.items():
        monkeypatch.setenv(f"BRAIN_MRI_{name}", str(value))
    job = submit("jobs/cnn.job", *given(**SMALL, epochs=3), "--html", options=[f"--nodes={nodes}"])
    job.until(lambda: "] cell " in job.text())
    slurm("scancel", "--batch", "--signal=USR1", job.number)
    job.until(lambda: job.field("Restarts") == "1" and job.field("JobState") == "PENDING")
    # SLURM would wait two minutes. Not "now": a node refuses a job whose credential it revoked in the same second.
    slurm("scontrol", "update", f"JobId={job.number}", "StartTime=now+3")
    assert job.end(300) == "COMPLETED", job.text()
    epochs = re.findall(r"^(?:epoch|paused: after epoch) \d", job.text(), re.MULTILINE)
    assert epochs == ["epoch 1", "paused: after epoch 1", "epoch 2", "epoch 3"]
    assert "taken up after epoch 1" in job.text() and "find_unused" not in job.text()
    assert job.text().count("HTML: ") == 1  # rank 0 alone, and only when it was done
    assert len([*tmp_path.glob(f"runs/notebooks/2_classification-{job.number}-*.html")]) == 1
    (evidence,) = tmp_path.glob("runs/phantom.*.CustomCNN.*/metrics.json")
    assert json.loads(evidence.read_text())["hardware"]["processes"] == nodes
    assert evidence.with_name("model.safetensors").is_file()
    assert not list((tmp_path / "runs").glob(f"*-{job.number}-*"))
    assert job.text().count("phantom copied to") == 2 * nodes
    assert not list(tmp_path.glob("brain-mri.*")), "the copies are gone"


# A script of `jobs/` as it is, over a shell script in place of a notebook, which would take its time.
JOB = """#!/bin/bash
#SBATCH --requeue
#SBATCH --open-mode=append
python() {{ [[ $* == *--list ]] || bash "{folder}/task.sh"; }}
export -f python
exec bash jobs/{name}
"""
# Task 0 ends at once, task 1 goes on. The last task, which has the number of the whole array, pauses after task 0.
TASKS = """
echo started >>"{folder}/started-$SLURM_ARRAY_TASK_ID"
if ((SLURM_ARRAY_TASK_ID == 1)); then sleep 600; fi
if ((SLURM_ARRAY_TASK_ID == 2)); then
    until [[ -e "{folder}/others" ]]; do sleep 0.1; done
    touch "$BRAIN_MRI_STOP"
    exit 75
fi
"""
WARNED = """
scancel --batch --signal=USR1 "$SLURM_JOB_ID"
until [[ -e $BRAIN_MRI_STOP ]]; do sleep 0.1; done
exit {code}
"""


@pytest.fixture
def tasks(submit, tmp_path) -> Callable[..., list[Job]]:
    """`tasks(name, script, count)`: an array of `jobs/NAME`, each task of which runs `script` for a training."""

    def start(name: str, script: str, count: int) -> list[Job]:
        (tmp_path / "task.sh").write_text(script)
        (tmp_path / "small.job").write_text(JOB.format(folder=tmp_path, name=name))
        return submit(tmp_path / "small.job", tasks=range(count))

    return start


@pytest.mark.parametrize("name", ["run.sh", "plan.job"])
def test_a_paused_task_queues_again_and_leaves_the_other_tasks_alone(tasks, tmp_path, name):
    first, second, last = tasks(name, TASKS.format(folder=tmp_path), 3)
    started = [tmp_path / f"started-{task}" for task in range(3)]
    assert first.end() == "COMPLETED", first.text()
    last.until(lambda: all(path.exists() for path in started))
    assert last.field("JobId") == last.field("ArrayJobId"), "the case that is tested"
    (tmp_path / "others").touch()
    last.until(lambda: last.field("Restarts") == "1" and last.field("JobState") == "PENDING")
    assert "queues again" in last.text()
    assert [job.field("JobState") for job in (first, second)] == ["COMPLETED", "RUNNING"]
    assert [job.field("Restarts") for job in (first, second)] == ["0", "0"]
    assert [path.read_text() for path in started] == ["started\n"] * 3


def test_a_task_of_the_plan_that_was_warned_before_it_began_ends_and_says_why(tasks, tmp_path):
    """The time limit does not exceed the warning, so it would be the same each time."""
    (task,) = tasks("plan.job", WARNED.format(code=NONE_STARTED), 1)
    task.until(lambda: task.field("JobState") == "FAILED")
    assert task.field("ExitCode") == f"{NONE_STARTED}:0" and task.field("Restarts") == "0"
    (said,) = [line for line in task.text().splitlines() if line.startswith("error: ")]
    assert "the warning (--signal=B:USR1@" in said and "the time limit (--time) must exceed it" in said
    assert not list((tmp_path / "runs").glob("stop-*"))

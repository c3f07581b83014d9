"""The jobs on a real SLURM (`.ci/slurm.sh start` makes one): what they leave, how they fail and how they resume."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from safetensors.torch import save_file
from slurm_jobs import Job, slurm
from small_notebook import small_notebook
from torchvision.models import squeezenet1_1

from datasets.catalog import REPO
from models import BACKBONES
from utils.report.plan import MISSING, read_plan
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


def epochs(text: str) -> list[str]:
    return re.findall(r"^(?:epoch|paused: after epoch) \d", text, re.MULTILINE)


def pause(job: Job) -> None:
    """Warn a job before it trains, so that it must stop after its first epoch, and let it start again at once."""
    job.until(lambda: "] cell " in job.text())
    slurm("scancel", "--batch", "--signal=USR1", job.number)
    job.until(lambda: job.field("Restarts") == "1" and job.field("JobState") == "PENDING")
    # SLURM would wait two minutes. Not "now": a node refuses a job whose credential it revoked in the same second.
    slurm("scontrol", "update", f"JobId={job.number}", "StartTime=now+3")


def test_a_job_leaves_the_executed_notebook_and_html(submit, small_job, tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "print('fold', fold)")
    job = submit(small_job, path, "-p", "fold", 3, "--html")
    assert job.end() == "COMPLETED", job.text()
    notebook = tmp_path / "runs/notebooks" / f"small-{job.number}.ipynb"
    shown = [o.text for c in nbformat.read(notebook, 4).cells for o in c.get("outputs", [])]
    assert shown == ["fold 3\n"] and notebook.with_suffix(".html").exists()
    assert f"notebook: {notebook}" in job.text()
    assert not list((tmp_path / "runs").glob("*-" + job.number))  # neither STOP nor the code is left


FAILURES = {  # cell, arguments, options → code, what the log says
    "a cell": ("1 / 0", [], [], 1, "----> 1 1 / 0"),
    "a misspelt parameter": ("1", ["-p", "flod", 3], [], 2, "unknown parameter 'flod'; did you mean 'fold'?"),
    "one of two nodes": (
        "import os, time\nif os.environ['RANK'] == '1':\n    1 / 0\ntime.sleep(300)",
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
    assert job.end(90) == "FAILED" and job.field("ExitCode") == f"{code}:0" and said in job.text()
    assert code == 2 or (tmp_path / "runs/notebooks" / f"small-{job.number}.ipynb").exists()


def test_a_task_of_the_plan_runs_its_row_or_names_what_it_lacks(submit, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "none"))
    plan = read_plan(load_evidence(REPO / "saved_metrics"))
    number = plan.index[(plan.state == MISSING) & (plan.data == "brain-tumor-mri")][-1]
    job = submit("jobs/plan.job", options=(f"--array={number}", f"--output={tmp_path}/task-%a.log"))
    task = Job(f"{job.number}_{number}", tmp_path / f"task-{number}.log")
    assert task.end() == "FAILED" and task.field("ExitCode") == "1:0", task.text()
    assert "not run, it lacks: data set 'brain-tumor-mri' is not here: python datasets/download.py" in task.text()
    assert not list((tmp_path / "runs").glob("stop-*"))


@pytest.mark.slow
def test_the_job_of_the_plan_pauses_when_warned_queues_again_and_goes_on(submit, tmp_path, small_phantom, monkeypatch):
    """The job as it is, over a plan of one small row."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    parameters = "dataset=phantom model=CustomCNN recipe=s2 image_size=64 quick=true epochs=4"
    head = "what_for,chapter,parameters,data,weights,epochs,runs"
    (tmp_path / "plan.csv").write_text(f"{head}\nx,2_classification,{parameters},phantom,,4,a.quick.run\n")
    (tmp_path / "plan.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom utils.report import plan\n"
        f"plan.PLAN = Path('{tmp_path}/plan.csv')\nsys.exit(plan.main())\n"
    )
    text = (REPO / "jobs/plan.job").read_text()
    assert "python -m utils.report.plan --row" in text
    small = tmp_path / "plan.job"
    small.write_text(text.replace("python -m utils.report.plan --row", f"python {tmp_path}/plan.py --row"))
    options = ("--array=0", f"--output={tmp_path}/task-%a.log")
    task = Job(f"{submit(small, options=options).number}_0", tmp_path / "task-0.log")
    task.until(lambda: "] cell " in task.text())
    slurm("scancel", "--batch", "--signal=USR1", task.number)
    task.until(lambda: task.field("Restarts") == "1" and task.field("JobState") == "PENDING")
    slurm("scontrol", "update", f"JobId={task.number}", "StartTime=now+3")
    assert task.end(300) == "COMPLETED", task.text()
    epochs = re.findall(r"^(?:epoch|paused: after epoch) \d", task.text(), re.MULTILINE)
    assert epochs == ["epoch 1", "paused: after epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert not list((tmp_path / "runs").glob("stop-*"))


def mtl(record: dict, folder: Path) -> None:
    assert set(record["screening"]["S0"]) == {"sensitivity", "specificity", "accuracy"}
    assert "tumour" in record["anomaly"] and record["training"]["epochs"] == 1


def unet(record: dict, folder: Path) -> None:
    assert set(record["per_class"]) == {"NCR", "ED", "ET", "WT", "TC"} and record["training"]["epochs"] == 1
    assert len(list(folder.rglob("gates/epoch-*.npz"))) == 1


def transfer(record: dict, folder: Path) -> None:
    assert record["run"]["pretrained"] and record["training"]["epochs"] == 3
    assert set(record["tta"]) == {"gain", "accuracy"} and "macro_f2" in record["metrics"]
    assert len(list(folder.rglob("checkpoint.pt"))) == 1, "one checkpoint of all stages"


TRAININGS = {  # job → its task, the network, parameters, what its evidence holds
    "mtl": (1, "MultiTaskUNet", {"epochs": 1, "width": 4}, mtl),
    "unet": (2, "AttentionUNet", {"epochs": 1, "n_filters": 4}, unet),
    "transfer": (list(BACKBONES).index("SqueezeNet"), "SqueezeNet", {"recipe": "s3", "epochs": 3}, transfer),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_job_trains_and_leaves_its_evidence(submit, tmp_path, small_phantom, monkeypatch, name):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    number, model, values, check = TRAININGS[name]
    if name == "transfer":
        save_file(squeezenet1_1().state_dict(), tmp_path / "imagenet.safetensors")
        values = values | {"weights": tmp_path / "imagenet.safetensors"}
    (task,) = submit(f"jobs/{name}.job", *given(**SMALL, **values), tasks=[number])
    assert task.end(300) == "COMPLETED", task.text()
    (evidence,) = tmp_path.glob(f"runs/phantom.patient-f0.{model}.*/metrics.json")
    check(json.loads(evidence.read_text()), tmp_path)


@pytest.mark.slow
def test_curation_job_leaves_its_findings(submit, tmp_path, small_phantom, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    job = submit("jobs/curation.job", *given(dataset="phantom", quick="true", permutations=8))
    assert job.end(300) == "COMPLETED", job.text()
    found = json.loads((tmp_path / "runs/curation/phantom.json").read_text())
    assert found["facts"]["images"] == 84 and {"nearest neighbour", "shift", "outliers", "source only"} <= set(found)
    assert (tmp_path / f"runs/notebooks/1_data_curation-{job.number}.ipynb").exists()


@pytest.mark.slow
def test_cnn_job_on_two_nodes_pauses_when_warned_queues_again_and_leaves_its_evidence(
    submit, tmp_path, nodes, small_phantom, monkeypatch
):
    """Each node copies the data for itself, and again after the pause. On one node: the plan's job above."""
    if nodes < 2:
        pytest.skip("this cluster has one node")
    places = {"DATA": small_phantom, "STAGE": "phantom", "LOCAL": tmp_path}
    for name, value in places.items():
        monkeypatch.setenv(f"BRAIN_MRI_{name}", str(value))
    job = submit("jobs/cnn.job", *given(**SMALL, epochs=3), "--html", options=["--nodes=2"])
    pause(job)
    assert job.end(300) == "COMPLETED", job.text()
    assert epochs(job.text()) == ["epoch 1", "paused: after epoch 1", "epoch 2", "epoch 3"]
    assert job.text().count("HTML: ") == 1  # rank 0 alone, and only when it was done
    assert (tmp_path / f"runs/notebooks/2_classification-{job.number}.html").exists()
    (evidence,) = tmp_path.glob("runs/phantom.*.CustomCNN.*/metrics.json")
    assert json.loads(evidence.read_text())["hardware"]["processes"] == 2
    assert list(tmp_path.glob("runs/phantom.*.CustomCNN.*/model.safetensors"))
    assert not list((tmp_path / "runs").glob("*-" + job.number))
    assert job.text().count("phantom copied to") == 4
    assert not list(tmp_path.glob("brain-mri.*")), "the copies are gone"


@pytest.mark.slow
def test_of_two_jobs_with_one_run_the_second_is_told_and_a_killed_one_holds_nobody_up(
    submit, small_phantom, monkeypatch
):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    words = given(**SMALL, epochs=5000)
    first = submit("jobs/cnn.job", *words)
    first.until(lambda: "epoch 2/" in first.text())
    second = submit("jobs/cnn.job", *words)
    assert second.end(180) == "FAILED" and "epoch 1/" not in second.text(), second.text()
    assert "trains this run since" in second.text() and f"scancel {first.number}" in second.text()
    assert first.field("JobState") == "RUNNING"
    slurm("scancel", "--signal=KILL", "--full", first.number)
    first.end()
    third = submit("jobs/cnn.job", *words)
    third.until(lambda: re.search(r"^epoch \d+/", third.text(), re.MULTILINE), 180)
    assert "epoch 1/" not in third.text(), "it goes on from the checkpoint of the first"

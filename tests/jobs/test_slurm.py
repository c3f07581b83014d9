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


@pytest.fixture
def small_job(tmp_path) -> Path:
    """A job with the head of `jobs/cnn.job`, whose notebook comes from the command line."""
    directives = [line for line in (REPO / "jobs/cnn.job").read_text().splitlines() if line.startswith("#")]
    path = tmp_path / "small.job"
    path.write_text("\n".join([*directives, 'exec bash jobs/run.sh "$@"', ""]))
    return path


def text_of(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


def test_a_job_leaves_the_executed_notebook_and_html(submit, small_job, tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "print('fold', fold)")
    job = submit(small_job, path, "-p", "fold", 3, "--html")
    assert job.end() == "COMPLETED", job.text()
    notebook = tmp_path / "runs/notebooks" / f"small-{job.number}.ipynb"
    assert "fold 3" in text_of(notebook) and notebook.with_suffix(".html").exists()
    assert f"notebook: {notebook}" in job.text()
    assert not list((tmp_path / "runs").glob("*-" + job.number))  # neither STOP nor the code is left


def test_a_failing_cell_fails_the_job_with_its_traceback_in_the_log(submit, small_job, tmp_path):
    job = submit(small_job, small_notebook(tmp_path / "small.ipynb", "1 / 0"))
    assert job.end() == "FAILED" and job.field("ExitCode") == "1:0"
    assert "----> 1 1 / 0" in job.text() and "ZeroDivisionError: division by zero" in job.text()
    assert (tmp_path / "runs/notebooks" / f"small-{job.number}.ipynb").exists()


def test_a_misspelt_parameter_fails_the_job_with_the_nearest_name(submit, small_job, tmp_path):
    job = submit(small_job, small_notebook(tmp_path / "small.ipynb", "1"), "-p", "flod", 3)
    assert job.end() == "FAILED" and job.field("ExitCode") == "2:0"
    assert "unknown parameter 'flod'; did you mean 'fold'?" in job.text()


def test_a_failure_on_two_nodes_ends_both(submit, small_job, tmp_path, nodes):
    if nodes < 2:
        pytest.skip("this cluster has one node")
    fail_late = "import os, time\nif os.environ['RANK'] == '1':\n    1 / 0\ntime.sleep(300)"
    job = submit(small_job, small_notebook(tmp_path / "small.ipynb", fail_late), options=("--nodes=2",))
    assert job.end(90) == "FAILED" and job.field("ExitCode") == "1:0"
    assert "ZeroDivisionError: division by zero" in job.text()


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


@pytest.mark.slow
def test_mtl_job_trains_and_leaves_its_evidence(train):
    record = train("mtl", 1, "MultiTaskUNet", epochs=1, width=4)
    assert set(record["screening"]["S0"]) == {"sensitivity", "specificity", "accuracy"}
    assert "tumour" in record["anomaly"] and record["training"]["epochs"] == 1


@pytest.mark.slow
def test_unet_job_trains_and_leaves_its_evidence(train, tmp_path):
    record = train("unet", 2, "AttentionUNet", epochs=2, n_filters=4)
    assert set(record["per_class"]) == {"NCR", "ED", "ET", "WT", "TC"} and record["training"]["epochs"] == 2
    assert len(list(tmp_path.rglob("gates/epoch-*.npz"))) == 2


@pytest.mark.slow
def test_curation_job_leaves_its_findings(submit, tmp_path, small_phantom, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    job = submit("jobs/curation.job", "-p", "dataset", "phantom", "-p", "quick", "true", "-p", "permutations", 8)
    assert job.end(300) == "COMPLETED", job.text()
    found = json.loads((tmp_path / "runs/curation/phantom.json").read_text())
    assert found["facts"]["images"] == 84 and {"nearest neighbour", "shift", "outliers", "source only"} <= set(found)
    assert (tmp_path / f"runs/notebooks/1_data_curation-{job.number}.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_cnn_job_pauses_when_warned_queues_again_and_leaves_its_evidence(
    submit, tmp_path, nodes, count, small_phantom, monkeypatch
):
    if nodes < count:
        pytest.skip("this cluster has one node")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    if count == 2:  # each node copies the data for itself, and again after the pause
        monkeypatch.setenv("BRAIN_MRI_STAGE", "phantom")
        monkeypatch.setenv("BRAIN_MRI_LOCAL", str(tmp_path))
    values = {"dataset": "phantom", "quick": "true", "epochs": 4, "image_size": 64}
    args = [arg for name, value in values.items() for arg in ("-p", name, value)]
    job = submit("jobs/cnn.job", *args, "--html", options=(f"--nodes={count}",))

    job.until(lambda: "] cell " in job.text())  # before training, so that it must stop after its first epoch
    slurm("scancel", "--batch", "--signal=USR1", job.number)
    job.until(lambda: job.field("Restarts") == "1" and job.field("JobState") == "PENDING")
    # SLURM would wait two minutes. Not "now": a node refuses a job whose credential it revoked in the same second.
    slurm("scontrol", "update", f"JobId={job.number}", "StartTime=now+3")
    assert job.end(300) == "COMPLETED", job.text()

    assert re.findall(r"^(?:epoch|paused: after epoch) \d", job.text(), re.MULTILINE) == [
        "epoch 1",
        "paused: after epoch 1",
        "epoch 2",
        "epoch 3",
        "epoch 4",
    ]
    assert job.text().count("HTML: ") == 1  # rank 0 alone, and only when it was done
    assert (tmp_path / f"runs/notebooks/2_classification-{job.number}.html").exists()
    (evidence,) = tmp_path.glob("runs/phantom.*.CustomCNN.*/metrics.json")
    assert json.loads(evidence.read_text())["hardware"]["processes"] == count
    assert list(tmp_path.glob("runs/phantom.*.CustomCNN.*/model.safetensors"))
    assert not list((tmp_path / "runs").glob("*-" + job.number))
    assert job.text().count("phantom copied to") == (4 if count == 2 else 0)
    assert not list(tmp_path.glob("brain-mri.*")), "the copies are gone"


@pytest.mark.slow
def test_of_two_jobs_with_one_run_the_second_is_told_and_a_killed_one_holds_nobody_up(
    submit, small_phantom, monkeypatch
):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    values = {"dataset": "phantom", "quick": "true", "epochs": 5000, "image_size": 64}
    words = [word for name, value in values.items() for word in ("-p", name, value)]
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


@pytest.mark.slow
def test_transfer_job_takes_a_weight_file_and_leaves_its_evidence(train, tmp_path):
    save_file(squeezenet1_1().state_dict(), tmp_path / "imagenet.safetensors")
    record = train(
        "transfer",
        list(BACKBONES).index("SqueezeNet"),
        "SqueezeNet",
        weights=tmp_path / "imagenet.safetensors",
        recipe="s3",
        epochs=3,
    )
    assert record["run"]["pretrained"] and record["training"]["epochs"] == 3
    assert set(record["tta"]) == {"gain", "accuracy"} and "macro_f2" in record["metrics"]
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1, "one checkpoint of all stages"

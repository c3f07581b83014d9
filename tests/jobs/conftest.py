"""Fixtures of the tests of jobs: a cluster, and jobs submitted to it."""

import json
import subprocess
from pathlib import Path

import pytest
from slurm_jobs import Job, slurm


@pytest.fixture(scope="module")
def nodes() -> int:
    """How many nodes stand ready; skips the module where there is no SLURM."""
    try:
        return len(set(slurm("sinfo", "--noheader", "--Node", "--responding", "--format=%N").split()))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        pytest.skip(f"no SLURM here ({reason}); .ci/slurm.sh start makes one")


@pytest.fixture
def submit(nodes, tmp_path, monkeypatch):
    """`submit(job file, *args, options=())` from the repository root, all output below `tmp_path`."""
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    submitted = []

    def sbatch(job: Path | str, *args: object, options: tuple[str, ...] = ()) -> Job:
        log = f"--output={tmp_path}/%j.log"
        number = slurm("sbatch", "--parsable", log, *options, job, *args).strip()
        submitted.append(number)
        return Job(number, tmp_path / f"{number}.log")

    yield sbatch
    for number in submitted:
        subprocess.run(["scancel", "--quiet", number], check=False)


@pytest.fixture
def train(submit, tmp_path, small_phantom, monkeypatch):
    """`train(job, task, model, **values)`: one task of an array on the small phantom; its record, once it is done."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))

    def run(name: str, task: int, model: str, **values: object) -> dict:
        values = {"dataset": "phantom", "quick": "true", "image_size": 64} | values
        args = [arg for parameter, value in values.items() for arg in ("-p", parameter, value)]
        options = (f"--array={task}", f"--output={tmp_path}/task-%a.log")
        job = Job(f"{submit(f'jobs/{name}.job', *args, options=options).number}_{task}", tmp_path / f"task-{task}.log")
        assert job.end(300) == "COMPLETED", job.text()
        (evidence,) = tmp_path.glob(f"runs/phantom.patient-f0.{model}.*/metrics.json")
        return json.loads(evidence.read_text())

    return run

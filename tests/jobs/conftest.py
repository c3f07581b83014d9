"""Fixtures of the tests of jobs: a cluster, and jobs submitted to it."""

import subprocess
from collections.abc import Sequence
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
    """`submit(job file, *args, options=())` from the repository root, all output below `tmp_path`: the job, or a list
    of those `tasks` of an array."""
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    submitted = []

    def sbatch(job: Path | str, *args: object, options: Sequence[str] = (), tasks: Sequence[int] = ()):
        log = f"--output={tmp_path}/" + ("task-%a.log" if tasks else "%j.log")
        array = [f"--array={','.join(map(str, tasks))}"] if tasks else []
        number = slurm("sbatch", "--parsable", log, *array, *options, job, *args).strip()
        submitted.append(number)
        if tasks:
            return [Job(f"{number}_{task}", tmp_path / f"task-{task}.log") for task in tasks]
        return Job(number, tmp_path / f"{number}.log")

    yield sbatch
    for number in submitted:
        subprocess.run(["scancel", "--quiet", number], check=False)

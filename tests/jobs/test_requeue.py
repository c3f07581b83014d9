"""What queues again after a pause, on a real SLURM: the paused task of an array alone, and only where it got on."""

from collections.abc import Callable

import pytest
from slurm_jobs import Job

from utils.report.plan import NONE_STARTED

pytestmark = pytest.mark.slurm

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

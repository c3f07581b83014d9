"""The ledger really runs its rows: failures, pauses, signals, another ledger, the job array."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from ledger_rows import published_row, quick_row, write
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from datasets.catalog import REPO
from utils.report import probes, records
from utils.report.ledger import work as jobs
from utils.report.ledger.__main__ import main
from utils.report.ledger.plan import PLAN
from utils.report.ledger.rows import EVERY_SPLIT, Row
from utils.report.ledger.states import DONE, state_of
from utils.report.ledger.work import work


@pytest.mark.slow
def test_two_rows_really_run_a_failing_one_is_named_and_the_next_goes_on(roots, capsys):
    good, bad, last = quick_row(), quick_row(seed=1), quick_row(seed=2)
    folder = bad.runs()[0].folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_text("no checkpoint")
    assert main(["--run", "--workers", "2", "--budget", "30m"], plan=[good, bad, last]) == 1
    out = capsys.readouterr().out
    assert f"{good.name}: done in" in out and f"{last.name}: done in" in out
    log = roots / f"runs/ledger/{bad.name}.log"
    assert re.search(rf"{re.escape(bad.name)}: FAILED .*exit code 1.*{re.escape(str(log))}", out)
    assert "not a readable checkpoint" in log.read_text()
    for row in (good, last):
        made = json.loads((row.runs()[0].metrics_folder / "metrics.json").read_text())
        assert made["id"] == row.name and made["training"]["epochs"] == 2
        assert made["hardware"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
    notebook = next((roots / "runs/notebooks").glob("*.ipynb")).read_text()
    assert "time_budget = 29" in notebook or "time_budget = 30" in notebook
    assert [state_of(row) for row in (good, bad, last)] == [DONE, "begun", DONE]
    # Run again, what is done is skipped.
    (folder / "checkpoint.pt").unlink()
    assert main(["--run"], plan=[good, bad, last]) == 0
    out = capsys.readouterr().out
    assert "rows to run: 1" in out and good.name not in out and f"{bad.name}: done in" in out


@pytest.mark.slow
def test_a_paused_row_is_taken_up_again(roots):
    row, lines = quick_row(), []
    folder = row.runs()[0].folder
    folder.mkdir(parents=True)
    (folder / "STOP").touch()
    assert work([row], say=lines.append) == 75
    assert "paused" in lines[-1] and state_of(row) == "begun"
    assert work([row], say=lines.append) == 0 and state_of(row) == DONE
    log = (roots / f"runs/ledger/{row.name}.log").read_text()
    assert re.findall(r"^(?:epoch|paused: after epoch) \d", log, re.MULTILINE) == [
        "epoch 1",
        "paused: after epoch 1",
        "epoch 2",
    ]


def test_nothing_starts_without_a_minute_left_or_with_a_stop_file(roots, monkeypatch, capsys):
    row = quick_row()
    for words in (["--budget", "0"], ["--minutes", "0.9"], ["--index", "0", "--minutes", "0"]):
        assert main(["--run", *words], plan=[row]) == 3
        assert "no row was started, rows that wait: 1" in capsys.readouterr().out
    monkeypatch.setenv("BRAIN_MRI_STOP", str(roots / "stop"))
    (roots / "stop").touch()
    assert work([row], say=lambda line: None) == 3
    assert not list((roots / "runs").glob("phantom*")) and not list(roots.glob("runs/notebooks/*"))


def test_rows_that_wait_when_another_has_run_go_on_with_the_same_command(roots, monkeypatch):
    """The first row leaves a STOP file, and no record."""
    monkeypatch.setenv("BRAIN_MRI_STOP", str(roots / "stop"))
    monkeypatch.setattr(Row, "command", lambda *words: ["-c", f"open({str(roots / 'stop')!r}, 'w'); exit(75)"])
    lines = []
    assert work([quick_row(), quick_row(seed=1)], say=lines.append) == 75
    assert "paused after" in lines[0] and "time is over, rows that wait: 1" in lines[1]


def test_a_row_that_another_ledger_runs_is_left_to_it(roots):
    row, lines = quick_row(), []
    (roots / "runs/ledger").mkdir(parents=True)
    with subprocess.Popen(
        ["flock", str(roots / f"runs/ledger/{row.name}.lock"), "sleep", "30"], start_new_session=True
    ) as other:
        try:
            time.sleep(0.5)
            assert work([row], say=lines.append) == 0
        finally:
            os.killpg(other.pid, signal.SIGTERM)
    assert lines == [f"{row.name}: left out, another process"]


def test_a_command_that_ends_well_without_a_record_has_failed(roots, monkeypatch):
    monkeypatch.setattr(Row, "command", lambda *words: ["-c", "print('nothing to do')"])
    lines = []
    assert work([quick_row()], say=lines.append) == 1 and "left no record" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_and_the_same_command_goes_on(roots, number):
    row = replace(quick_row(), epochs=40)
    script = f"""
import sys
from utils.report.ledger.__main__ import main
from utils.report.ledger.rows import Row
sys.exit(main(["--run"], plan=[Row(group="", run={dict(row.run)!r}, epochs=40)]))
"""
    ledger = subprocess.Popen([sys.executable, "-c", script], cwd=REPO, stdout=subprocess.PIPE, text=True)
    log = roots / f"runs/ledger/{row.name}.log"
    ends = time.monotonic() + 120
    while not (log.exists() and "epoch 2/40" in log.read_text()):
        assert ledger.poll() is None and time.monotonic() < ends
        time.sleep(0.2)
    ledger.send_signal(number)
    out = ledger.communicate(timeout=60)[0]
    assert ledger.returncode == 130 and f"{row.name}: stopped" in out
    left = subprocess.run(["pgrep", "-f", str(roots)], capture_output=True, text=True).stdout
    assert not left, "a process was left behind"
    assert state_of(row) == "begun"


def test_an_error_while_a_row_starts_leaves_no_other_running(roots, monkeypatch):
    monkeypatch.setattr(Row, "command", lambda *words: ["-c", "import time; time.sleep(60)"])
    real, started = jobs._start, []

    def start(row, *how):
        if started:
            raise OSError("no space left on device")
        started.append(real(row, *how))
        return started[0]

    monkeypatch.setattr(jobs, "_start", start)
    with pytest.raises(OSError, match="no space left"):
        work([quick_row(), quick_row(seed=1)], workers=2)
    assert started[0].process.poll() is not None, "it would go on, and the next ledger start it again"


def test_a_list_that_cannot_be_written_is_one_line(elsewhere, capsys):
    assert main(["--markdown", "/proc/nowhere/ledger.md"], plan=[]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_index_list_and_filter(elsewhere, capsys):
    plan = [published_row(), published_row(seed=1)]
    assert main(["--index", "2"], plan=plan) == 2 and "rows 0 to 1" in capsys.readouterr().err
    assert main(["--run", "--index", "1"], plan=plan) == 1
    assert "AlexNet.s2.seed1: not run, it lacks: data set" in capsys.readouterr().out
    write(plan[0])
    assert main(["--run", "--index", "0"], plan=plan) == 0 and "done already" in capsys.readouterr().out
    assert main(["--json", "--only", "SEED1"], plan=plan) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (
        facts["index"] == 1 and facts["state"] == "missing" and facts["command"].startswith("python -m utils.headless")
    )
    assert facts["core_hours"] > 0 and facts["core_hours_source"].startswith("brain-tumor-mri")
    for wrong in (["--budget", "soon"], ["--workers", "0"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong, plan=plan)
        assert stop.value.code == 2


@pytest.mark.slow
def test_a_probe_row_runs_and_remakes_what_lies_on_old_folds(roots, monkeypatch, capsys):
    torch.manual_seed(0)
    (roots / "weights").mkdir()
    save_file(squeezenet1_1().state_dict(), roots / "weights/squeezenet.safetensors")
    monkeypatch.setenv("BRAIN_MRI_WEIGHTS", str(roots / "weights"))
    run = {"dataset": "phantom", "split": EVERY_SPLIT, "model": "SqueezeNet", "recipe": "probe", "image_size": 64}
    row = Row(group="", run=run | {"pretrained": True})
    assert main(["--run"], plan=[row]) == 0 and "done in" in capsys.readouterr().out
    paths = [one.metrics_folder / "metrics.json" for one in row.runs()]
    made = [json.loads(path.read_text()) for path in paths]
    assert all(m["probe"]["features"]["images"] == made[0]["data"]["images"] for m in made) and len(made) == 6
    # As if the folds had been remade since the record of one split, which then does not say on which it was made.
    by_patient = next(path for path in paths if ".patient-f2." in str(path))
    monkeypatch.setattr(records, "folds_digest", lambda name: "0123456789ab")
    for path, one in zip(paths, made, strict=True):
        path.write_text(
            json.dumps(one | {"data": one["data"] | {"folds": "0123456789ab" if path != by_patient else ""}})
        )
    assert state_of(row) == "begun"
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert probes.main(row.command(str(roots / "weights/squeezenet.safetensors"))[2:]) == 0
    assert [path for path in paths if path.stat().st_mtime_ns != before[path]] == [by_patient]


def test_the_job_is_an_array_with_a_task_for_every_row_of_the_plan():
    assert f"#SBATCH --array=0-{len(PLAN) - 1}\n" in (REPO / "jobs/ledger.job").read_text()

"""The plan of runs: its rows name what exists and are found done by their records; it really runs what is missing."""

import subprocess
import sys
import time

import pytest
from whole_records import whole

from datasets.catalog import CATALOG, REPO
from datasets.store import index
from models import LOCALISERS, MULTITASK, PRETRAINABLE
from utils.parameters import overrides, read_parameters
from utils.recipes import get_recipe
from utils.report import plan as plans
from utils.report.plan import MISSING, SHORT, command, lacks, main, read_plan, weights_file
from utils.report.probes import splits_of
from utils.report.records import load_evidence, write_record
from utils.run import Run

HEADER = "what_for,chapter,parameters,data,weights,epochs,runs\n"
NAMES = {"model": "backbone", "n_filters": "width"}  # what chapters call a field of `Run`


@pytest.fixture(scope="module")
def rows():
    """The plan, with what the committed records say of its rows."""
    return read_plan(load_evidence(REPO / "saved_metrics"))


def made_by(words: list[str]) -> list[Run]:
    """The runs that a command makes: its parameters put together as the cell of its chapter does it, or a probe's."""
    if words[1] == "utils.report.probes":
        options = dict(zip(words[3::2], words[4::2], strict=True))
        of = {"dataset": words[2], "model": options["--backbone"], "image_size": int(options["--image-size"])}
        of |= {"recipe": "probe", "pretrained": True, "target": options.get("--target", "label")}
        return [Run(**of, **split) for split in splits_of(words[2])]
    defaults = read_parameters(REPO / words[2])
    given = {name: parameter.default for name, parameter in defaults.items()}
    given |= overrides(defaults, [words[i + 1 : i + 3] for i in range(3, len(words), 3)])
    fields = {name: given.get(name, given.get(NAMES.get(name))) for name in Run.__dataclass_fields__}
    chapter = words[2].split("/")[1][0]
    fields |= {"4": {"model": "MultiTaskUNet"}, "6": {"model": "OutlineClassifier"}}.get(chapter, {})
    fields |= {"target": "findings"} if chapter == "7" else {}
    if "weights" in defaults and (chapter == "3" or fields["model"] in PRETRAINABLE):
        fields["pretrained"] = bool(given["weights"])
        assert given.get("trials", 0) == 0
    assert given["quick"] is False
    return [Run(**{name: value for name, value in fields.items() if value is not None})]


def test_every_command_makes_the_runs_of_its_row(rows, monkeypatch):
    monkeypatch.setattr(plans, "weights_file", lambda backbone: "w.safetensors")
    monkeypatch.setenv("BRAIN_MRI_DATA", "/nowhere")  # the catalogue says what is to be probed
    for _, row in rows.iterrows():
        runs = made_by(command(row))
        assert [run.id for run in runs] == row.runs.split(), row.what_for
        needed = {name for run in runs for name in (run.dataset, run.test_on) if name}
        assert needed == set(row.data.split()) <= set(CATALOG), row.runs
        assert bool(row.weights) is bool(runs[0].pretrained), row.runs
        if runs[0].recipe != "probe":
            given = dict(pair.split("=") for pair in row.parameters.split())
            recipe = get_recipe(runs[0].recipe, runs[0].model)
            assert int(row.epochs) == int(given.get("epochs", recipe.epochs)), row.runs
            assert runs[0].model not in LOCALISERS | MULTITASK or row.chapter[0] in "46"


def test_rows_are_unique_and_those_with_a_record_are_done(rows):
    ids = [run for runs in rows.runs for run in runs.split()]
    assert len(ids) == len(set(ids)) and len(rows) == 266
    known = load_evidence(REPO / "saved_metrics").runs.index
    missing = [not set(runs.split()) <= set(known) for runs in rows.runs]
    assert (rows.state.eq(MISSING) == missing).all() and rows.state.value_counts()["done"] >= 148
    short = rows[rows.state == SHORT]
    assert len(short) and all(run in known for runs in short.runs for run in runs.split()), "run for fewer epochs"
    assert f"#SBATCH --array=0-{len(rows) - 1}\n" in (REPO / "jobs/plan.job").read_text()


def test_what_a_row_lacks_here_is_named(rows, monkeypatch, tmp_path, roots, capsys):
    of_outlines = rows[rows.parameters.str.contains("weights=FILE")].iloc[0]
    assert lacks(of_outlines) == f"data set 'cheng' is not here; {CATALOG['cheng'].bring}"
    monkeypatch.setattr(index, "require", lambda name: None)
    assert "name a folder with their file in $BRAIN_MRI_WEIGHTS" in lacks(of_outlines)
    assert main([]) == 0
    out = capsys.readouterr().out
    said = ("python -m utils.headless notebooks/", "needs: brain-tumor-mri; time for 50 epochs", f"{len(rows)} rows: ")
    assert not [text for text in said if text not in out]
    names = {
        "squeezenet1_1_imagenet1k": "SqueezeNet",
        "resnet50-v2_stages1-3": "ResNet50-v2",
        "mobilenetv2_gluon_imagenet1k": "MobileNetV2",
        "tf_efficientnetv2_s": "EfficientNetV2-S",
    }
    for stem in (*names, "notes"):
        (tmp_path / f"{stem}.safetensors").touch()
    monkeypatch.setenv("BRAIN_MRI_WEIGHTS", str(tmp_path))
    assert all(weights_file(name) == str(tmp_path / f"{stem}.safetensors") for stem, name in names.items())
    assert lacks(of_outlines) == "" and weights_file("VGG16") == ""
    assert weights_file("ResNet50") == "", "the longest name that fits is meant"
    assert "FILE" not in command(of_outlines) and str(tmp_path) in " ".join(command(of_outlines))


@pytest.fixture
def planned(roots, monkeypatch):
    """`planned(code, …)`: a plan of rows each of which runs some code, and leaves a record where it says so."""

    def write(*codes: str) -> None:
        table = "".join(f"x,2_classification,seed={n},phantom,,50,{record(n)['id']}\n" for n in range(len(codes)))
        (roots / "plan.csv").write_text(HEADER + table)
        monkeypatch.setattr(plans, "PLAN", roots / "plan.csv")
        monkeypatch.setattr(plans, "command", lambda row: ["-c", codes[int(row.parameters[5:])]])

    def record(seed: int, epochs: int = 50) -> dict:
        run = Run(dataset="phantom", seed=seed)
        return whole(run, recipe={"epochs": epochs}, data={"folds": ""}, training={"epochs": epochs}, trainable=0)

    def put(seed: int, **how: int) -> None:
        path = Run(dataset="phantom", seed=seed).metrics_folder / "metrics.json"
        write_record(path, record(seed, **how))

    write.put = put
    return write


def test_what_is_not_done_runs_in_order_and_a_failure_is_named(planned, roots, capfd):
    planned("print('first')", "raise SystemExit(4)", "print('third')", "print('last')")
    assert main(["--run", "3"]) == 1
    out = capfd.readouterr().out
    assert out.splitlines() == ["first", "row 0: done", "row 1: FAILED, exit code 4", "third", "row 2: done"]
    planned.put(0)
    planned.put(1, epochs=20)
    assert read_plan(load_evidence()).state.tolist() == ["done", SHORT, MISSING, MISSING]
    assert main(["--row", "0"]) == 0 and capfd.readouterr().out == "row 0: done already\n"
    assert main(["--row", "3"]) == 0 and main(["--run"]) == 1 and "row 0" not in capfd.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["--row", "4"])
    assert stop.value.code == 2 and "rows 0 to 3" in capfd.readouterr().err


def test_a_pause_ends_the_work_and_a_stop_file_keeps_it_from_beginning(planned, roots, monkeypatch, capfd):
    planned("raise SystemExit(75)", "print('never')")
    assert main(["--run"]) == 75 and "never" not in capfd.readouterr().out
    planned(f"open({str(roots / 'stop')!r}, 'w')", "print('never')")
    monkeypatch.setenv("BRAIN_MRI_STOP", str(roots / "stop"))
    assert main(["--run"]) == 75, "the first row was done before"
    assert main(["--row", "1"]) == 3 and "never" not in capfd.readouterr().out


def test_a_row_that_lacks_something_is_left_out(planned, roots, monkeypatch, capsys):
    planned("", "")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(roots / "none"))
    assert main(["--run"]) == 0 and capsys.readouterr().out.count("not run, it lacks: data set 'phantom'") == 2
    assert main(["--row", "1"]) == 1, "a task of an array fails"


def test_a_signal_ends_what_runs(roots):
    """The row notes that it was ended, and nothing is left running."""
    row = "import signal,sys,time\nsignal.signal(15,lambda *a: (print('ended',flush=True),sys.exit(143)))\n"
    row += "print('on',flush=True)\ntime.sleep(600)"
    (roots / "plan.csv").write_text(HEADER + f"x,c,seed=0,phantom,,,{Run(dataset='phantom').id}\n")
    script = "import sys\nfrom pathlib import Path\nfrom utils.report import plan\n"
    script += f"plan.PLAN = Path({str(roots / 'plan.csv')!r})\nplan.command = lambda row: ['-c', {row!r}]\n"
    script += "sys.exit(plan.main(['--run']))"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "on\n"
    time.sleep(0.1)
    process.terminate()
    assert process.communicate(timeout=300)[0] == "ended\n" and process.returncode == 130

"""The table of `make faults`: what it counts, and that the page shows what was measured last."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("faults", Path(__file__).with_name("__main__.py"))
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)

PROGRAM = """
import pathlib, sys, time, uuid
print("begun\\nepoch 1/1 ", flush=True)
time.sleep(0.4)
pathlib.Path(sys.argv[1], "predictions.csv.gz").write_text({content})
"""


RENAMED = "'x'); pathlib.Path(sys.argv[1], 'predictions.csv.gz').rename(pathlib.Path(sys.argv[1], 'other')"


@pytest.mark.parametrize(
    ("content", "wanted", "lost"),
    [
        ("'always the same'", 5, []),  # it ends before it was killed often enough: another follows
        ("uuid.uuid4().hex", 3, ["unlike: predictions.csv.gz"] * 3),
        (RENAMED, 2, ["unlike: nothing was left"] * 2),
        ("1 / 0", 2, None),
    ],
)
def test_another_end_after_kills_and_a_failure_are_losses(content, wanted, lost, monkeypatch):
    """A program in the place of a chapter writes what the expression `content` gives."""
    command = [sys.executable, "-c", PROGRAM.format(content=content)]
    monkeypatch.setattr(faults, "chapter", lambda name, root: ([*command, str(root)], {}))
    counts = faults.kills("a program", wanted)
    if lost is None:
        assert "ZeroDivisionError" in counts.lost[0]
    else:
        assert (counts.tries, counts.lost) == (wanted, lost) and len(counts.met) == wanted
        assert set(counts.met) <= {"nothing", "begun", "epoch 1/1 "}


def test_the_page_shows_the_record_and_nothing_was_lost():
    record, every = json.loads(faults.RECORD.read_text()), list(faults.parts())
    assert faults.PAGE.read_text() == faults.page(record, every), "make faults"
    assert list(record) == every, "every part is measured, in order, and no part that is no more"
    assert {fault: found["what"] for fault, found in record.items() if found["lost"]} == {}
    assert sum(found["tries"] for fault, found in record.items() if fault.startswith("damaged file")) >= 5000
    assert sum(found["tries"] for fault, found in record.items() if fault.startswith("killed: ")) >= 50


def test_every_fault_has_tests_that_do_it():
    for fault, (files, _) in faults.TESTED.items():
        assert all((faults.REPO / "tests" / name).exists() for name in files.split()), fault

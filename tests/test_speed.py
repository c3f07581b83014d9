"""`make bench`: recorded ratios do not fall below half, the page is that of the records, what fails is left out."""

import faulthandler
import importlib.util
import json
import logging
import re
import sys
import time

import alternating
import loops
import pairs
import pytest
import reads
import report
from parts import COMMANDS, Part, helps, parts

from datasets.catalog import REPO

RECORDS = report.read()
QUICK = {
    ("pairs alike: 1,000 thumbnails", "bound first"): lambda folder: pairs.alike(1_000),
    ("intervals of 1,000,000 predictions", "sums of groups drawn"): lambda folder: pairs.intervals(10**5, 5_000, 40),
    ("epoch: classification", "fit"): lambda folder: loops.classification("cpu", folder),
    ("--help", "utils.predict"): helps,
}


@pytest.mark.parametrize(("part", "side"), QUICK)
def test_a_recorded_ratio_is_still_there_by_half(part, side, roots, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "IMAGES", 128)
    recorded, made = RECORDS["cpu"][part], QUICK[part, side](tmp_path)
    found, left_out = alternating.rounds({name: made[name] for name in (recorded["base"], side)}, 2)
    assert not left_out
    ratios = alternating.compared(found, recorded["base"])
    assert ratios[side]["least"] <= 2 * recorded["sides"][side]["ratio"], ratios


def test_the_sides_that_are_read_and_outlined_run(small_phantom, roots, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "SLICES", 8)
    monkeypatch.setattr(reads, "IMAGES", 16)
    for made in (reads.ways(tmp_path, dropped=True), loops.segmentation("cpu", tmp_path)):
        assert not alternating.rounds(made, 1)[1]


def test_the_page_is_made_of_the_records_and_every_table_names_its_machine():
    page = report.PAGE.read_text()
    assert page == report.page(RECORDS), "make bench"
    machines = {report.machine(part) for record in RECORDS.values() for part in record.values() if "sides" in part}
    for section in page.split("\n### ")[1:]:
        assert any(machine in section for machine in machines), section.splitlines()[0]
    index = (REPO / "docs/site/index.md").read_text().split()
    assert {"../performance", "../scaling"} <= set(index)


def test_every_part_was_measured_or_says_why_not_and_every_prediction_is_of_one():
    for device, record in RECORDS.items():
        assert list(record) == list(parts(device))
        assert all("sides" in part or part["dropped"] for part in record.values())
    for one in report.PREDICTIONS:
        found = RECORDS[one.device][one.part]
        assert "sides" not in found or one.side in {**found["sides"], **found["left out"]}, one
    sides = RECORDS["cpu"]["--help"]["sides"]
    assert max(sides[name]["seconds"] for name in COMMANDS) < 0.3, "a command answers --help at once"


def unplaced(text: str) -> list[str]:
    """Lines that compare speeds without naming the machine."""
    speeds = re.compile(
        r"\d (times (as fast|as slow|faster|slower|the time)|% of the time)|twice as fast|half the time"
    )
    return [line for line in text.splitlines() if speeds.search(line) and not re.search(r"\bcores?\b|[CG]PU", line)]


def test_a_ratio_in_a_readme_names_its_machine():
    assert unplaced("An epoch is 2.5 times faster.") and not unplaced("On 2 cores it takes 40 % of the time.")
    for path in [REPO / "README.md", *REPO.glob("*/README.md")]:
        assert not unplaced(path.read_text()), path


def test_sides_are_timed_in_turn_short_calls_together_and_a_failing_one_is_left_out():
    def fails() -> None:
        raise ValueError("no compiler\nsecond line")

    order, waits = [], []
    sides = {"a": lambda: order.append("a"), "b": lambda: order.append("b"), "fails": fails}
    found, left_out = alternating.rounds(sides, 3)
    assert len(found) == 3 and set(found[0]) == {"a", "b"} and order == [*"ab", *"ab", *"ba", *"ab"]
    assert left_out == {"fails": "ValueError: no compiler"}
    calls = []
    short = {"a": lambda: (calls.append(1), time.sleep(0.002))}
    found, _ = alternating.rounds(short, 1, wait=lambda: waits.append(1), least=0.02)
    assert 5 <= len(calls) <= 13 and found[0]["a"] >= 0.002
    assert len(waits) == 6, "before and after: two uncounted calls and the round"
    drifting = [{"a": 1.0, "b": 0.5}, {"a": 10.0, "b": 6.0}, {"a": 2.0, "b": 0.8}]
    found = alternating.compared(drifting, "a")
    assert found["b"] == {"seconds": 0.8, "ratio": 0.5, "least": 0.4, "most": 0.6} and found["a"]["ratio"] == 1


def broken(folder):
    raise ValueError("no such library")


def test_a_run_keeps_what_it_measured_and_says_why_the_rest_is_missing(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("speed", REPO / "benchmarks/speed/__main__.py")
    spec.loader.exec_module(speed := importlib.util.module_from_spec(spec))
    slow = {"plain": lambda: time.sleep(0.01), "slow": lambda: time.sleep(0.03)}
    made = {"short": Part(lambda _: slow, "plain", 2), "broken": Part(broken, "plain")}
    ends, path = [], tmp_path / "record.json"
    monkeypatch.setattr(speed, "parts", lambda device: made)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit: ends.append((seconds, exit)))
    for name, value in (("OMP_NUM_THREADS", "1"), ("BRAIN_MRI_HEADLESS", "1"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["speed", "--seconds", "1000", "--missing", "--record", str(path)])
    try:
        assert speed.main() == 0 and ends == [(1000, True)], "a watchdog ends what hangs"
        first = json.loads(path.read_text())
        assert speed.main() == 0
        made["short"], second = made["broken"], json.loads(path.read_text())
        sys.argv.remove("--missing")
        assert speed.main() == 0
    finally:
        logging.disable(logging.NOTSET)
    assert list(first) == list(made) and 1.5 < first["short"]["sides"]["slow"]["ratio"] < 6
    assert first["short"]["rounds"] == 2 and first["short"]["hardware"]["cpu"] and first["short"]["versions"]["torch"]
    assert first["broken"]["dropped"] == "ValueError: no such library"
    assert second["short"] == first["short"], "not measured again"
    assert json.loads(path.read_text())["short"] == first["short"], "what can no longer be measured stays"

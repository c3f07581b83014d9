"""`make bench`: recorded ratios do not fall below half, the page is that of the records, what fails is left out."""

import importlib.util
import json
import logging
import re
import sys
import time

import alternating
import loops
import parts
import pytest
import report
import steps
from accelerate.state import AcceleratorState

from datasets.catalog import REPO

RECORDS = report.read()
QUICK = {
    ("pairs alike: 1,000 thumbnails", "bound first"): lambda folder: parts.alike(1_000),
    ("epoch: classification", "fit"): loops.classification,
}


@pytest.fixture(autouse=True)
def any_precision():
    """Sides train in several precisions; the tests that come later in this process have theirs."""
    yield
    AcceleratorState._reset_state()


@pytest.mark.parametrize(("part", "side"), QUICK)
def test_a_recorded_ratio_is_still_there_by_half(part, side, roots, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "IMAGES", 128)
    recorded, made = RECORDS["cpu"][part], QUICK[part, side](tmp_path)
    found = alternating.rounds({name: made[name] for name in (recorded["base"], side)}, 2)
    ratios = alternating.compared(found, recorded["base"])
    assert ratios[side]["least"] <= 2 * recorded["sides"][side]["ratio"], ratios


def test_the_epochs_of_a_segmenter_run(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "SLICES", 8)
    monkeypatch.setattr(loops, "SIDE", 32)
    sides = loops.segmentation(tmp_path)
    assert ("fit, bf16" in sides) is steps.in_16_bits("cpu") and len(alternating.rounds(sides, 1)[0]) == len(sides) >= 3


def test_the_page_is_made_of_the_records_and_has_every_part_or_why_not():
    page = report.PAGE.read_text()
    assert page == report.page(RECORDS), "make bench"
    for device, record in RECORDS.items():
        assert list(record) == list(parts.parts(device))
        assert all(report.machine(part) in page if "sides" in part else part["dropped"] for part in record.values())
    assert {"../performance", "../scaling"} <= set((REPO / "docs/site/index.md").read_text().split())


def test_a_network_timed_without_16_bits_has_dashes_in_its_row(monkeypatch):
    monkeypatch.setattr(steps, "in_16_bits", lambda device: False)
    assert list(steps.ways("CustomCNN", "cpu")) == ["plain", "channels_last", "fused optimiser"]
    record = json.loads(json.dumps({name: part for name, part in RECORDS["cpu"].items() if name.startswith("step: ")}))
    sides = record["step: CustomCNN"]["sides"]
    record["step: CustomCNN"]["sides"] = {way: value for way, value in sides.items() if "bf16" not in way}
    row, other = (line for line in report.table_of_steps(record) if line.startswith(("| CustomCNN", "| AlexNet")))
    assert row.endswith(" | – | – | – |") and row.count("**") == 2 and "| –" not in other, row


def test_a_ratio_in_a_readme_names_its_machine():
    speeds = r"\d (times (as fast|as slow|faster|slower|the time)|% of the time)|twice as fast|half the time"
    assert re.search(speeds, "An epoch is 2.5 times faster.")
    for path in [REPO / "README.md", *REPO.glob("*/README.md")]:
        for line in path.read_text().splitlines():
            assert not re.search(speeds, line) or re.search(r"\bcores?\b|[CG]PU", line), (path, line)


def test_sides_are_timed_in_turn_and_compared_round_by_round():
    order = []
    found = alternating.rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert len(found) == 3 and set(found[0]) == {"a", "b"} and order == [*"ab", *"ab", *"ba", *"ab"]
    calls = []
    short = alternating.rounds({"a": lambda: (calls.append(1), time.sleep(0.002))}, 1, least=0.02)
    assert len(calls) >= 5 and short[0]["a"] >= 0.002, "short calls are timed together"
    drifting = [{"a": 1.0, "b": 0.5}, {"a": 10.0, "b": 6.0}, {"a": 2.0, "b": 0.8}]
    found = alternating.compared(drifting, "a")
    assert found["b"] == {"seconds": 0.8, "ratio": 0.5, "least": 0.4, "most": 0.6} and found["a"]["ratio"] == 1


def broken(folder):
    raise ValueError("no such library\nsecond line")


def test_a_run_keeps_what_it_measured_and_says_why_the_rest_is_missing(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("speed", REPO / "benchmarks/speed/__main__.py")
    spec.loader.exec_module(speed := importlib.util.module_from_spec(spec))
    slow = {"plain": lambda: time.sleep(0.01), "slow": lambda: time.sleep(0.03)}
    made = {"short": parts.Part(lambda _: slow, "plain", 2), "broken": parts.Part(broken, "plain")}
    path = tmp_path / "record.json"
    monkeypatch.setattr(speed, "parts", lambda device: made)
    monkeypatch.setattr(report, "RECORDS", {"cpu": path})
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "page", lambda records: "page")
    for name, value in (("OMP_NUM_THREADS", "1"), ("BRAIN_MRI_HEADLESS", "1"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["speed"])
    try:
        assert speed.main() == 0
        first = json.loads(path.read_text())
        made["short"] = made["broken"]
        assert speed.main() == 0
    finally:
        logging.disable(logging.NOTSET)
    assert list(first) == list(made) and 1.5 < first["short"]["sides"]["slow"]["ratio"] < 6
    assert first["short"]["rounds"] == 2 and first["short"]["hardware"]["cpu"] and first["short"]["versions"]["torch"]
    assert first["broken"]["dropped"] == "ValueError: no such library"
    assert json.loads(path.read_text()) == first, "what can no longer be measured stays"
    assert (tmp_path / "page.md").read_text() == "page"

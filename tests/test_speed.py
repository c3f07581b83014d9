"""Ratios that `make bench` recorded do not fall below half; the page of performance is that of the record."""

import json

import alternating
import pairs
import pytest
import report
from parts import parts

from datasets.catalog import REPO

RECORD = json.loads((REPO / "saved_metrics/benchmarks/speed.json").read_text())
QUICK = {
    ("pairs alike: 1,000 thumbnails", "bound first"): lambda: pairs.alike(1_000),
    ("intervals of 1,000,000 predictions", "sums of groups drawn"): lambda: pairs.intervals(10**5, 5_000, 40),
}


@pytest.mark.parametrize(("part", "side"), QUICK)
def test_a_recorded_speed_up_is_still_there_by_half(part, side):
    recorded = RECORD[part]
    made = QUICK[part, side]()
    sides = {name: made[name] for name in (recorded["base"], side)}
    found = alternating.compared(alternating.rounds(sides, 3), recorded["base"])
    assert found[side]["least"] <= 2 * recorded["sides"][side]["ratio"], found


def test_the_page_is_made_of_the_record():
    assert (REPO / "docs/performance.md").read_text() == report.page(RECORD, parts())


def test_sides_are_timed_in_turn_and_compared_within_a_round():
    order = []
    sides = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert len(alternating.rounds(sides, 3)) == 3 and order == [*"ab", *"ab", *"ba", *"ab"]
    drifting = [{"a": 1.0, "b": 0.5}, {"a": 10.0, "b": 6.0}, {"a": 2.0, "b": 0.8}]
    found = alternating.compared(drifting, "a")
    assert found["b"] == {"seconds": 0.8, "ratio": 0.5, "least": 0.4, "most": 0.6} and found["a"]["ratio"] == 1


def test_every_prediction_names_a_part_that_make_bench_has():
    assert {one.part for one in report.PREDICTIONS} <= set(parts())
    assert all(one.side in RECORD[one.part]["sides"] for one in report.PREDICTIONS if one.part in RECORD)

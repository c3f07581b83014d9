"""Forest plots and the bars of what is on both sides of a published split."""

import matplotlib.pyplot as plt
import pytest
from intervals_of import interval

from utils.report import claims, figures
from utils.report.records import Evidence


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_difference_has_the_colour_of_what_its_interval_shows():
    entries = {
        "better": interval(0.1, 0.05, 0.2),
        "none": interval(0.1, -0.1, 0.2),
        "worse": interval(-0.1, -0.2, -0.01),
    }
    (axis,) = figures.forest(entries, "points").axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["worse", "none", "better"], "the first on top"
    colours = [bars.lines[0].get_color() for bars in axis.containers]
    assert colours == [figures.PALETTE[1], figures.PUBLISHED_COLOUR, figures.PALETTE[0]]
    assert [t.get_text() for t in axis.texts][-1] == "+10.0 (+5.0 to +20.0)"


def test_values_that_are_no_differences_have_no_line_and_may_lack_limits():
    entries = {"one group": {"value": 0.5, "low": None, "high": None}, "many": interval(0.6, 0.5, 0.7)}
    (axis,) = figures.forest(entries, "Dice %", line=None).axes
    assert len(axis.lines) == len(entries) + 2, "two points, two caps, and no line"
    assert [t.get_text() for t in axis.texts] == ["60.0 (50.0–70.0)", "50.0"]


def findings(**facts):
    return [{"dataset": "sartaj", "facts": facts}]


def test_who_is_on_both_sides_is_counted_by_what_curation_found(tmp_path):
    facts = {
        "linked test images": 28,
        "linked test images with their patient in training": 27,
        "test images with a pixel-identical training twin": 251,
    }
    evidence = Evidence(tmp_path, [], findings(**facts))
    said = claims.patients_on_both_sides(evidence)
    assert (
        "`sartaj` the patient of 28 of the 394 test images" in said
        and "27 of these" in said
        and "251 test images" in said
    )
    (axis,) = figures.leaks(evidence.findings).axes
    assert [text.get_text() for text in axis.texts] == ["28", "27", "251"]
    assert "not run yet" in claims.patients_on_both_sides(Evidence(tmp_path, [], findings()))


def test_a_difference_that_the_corrected_test_does_not_confirm_has_the_colour_of_none():
    entry = {"value": 0.02, "low": 0.01, "high": 0.03}
    entries = {"confirmed": entry | {"p_corrected": 0.01}, "not": entry | {"p_corrected": 0.2}, "alone": entry}
    (axis,) = figures.forest(entries, "points").axes
    alone, other, confirmed = (container.lines[0].get_color() for container in axis.containers)
    assert confirmed == alone != other

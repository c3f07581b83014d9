"""Figures are read by everybody: colours that colour-blind readers tell apart, and letters of 8 points on a page."""

from itertools import combinations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from letters import letters
from matplotlib.colors import to_rgb

from utils.report import figures
from utils.report.figures.common import CLASS_COLOURS, LINES

EYES = (None, "deuteranomaly", "protanomaly", "tritanomaly")
APART = 10  # CAM02-UCS; 1 is just noticeable side by side, markers far from each other need more
CONTRAST = 3  # of a line against white: WCAG 2.1, 1.4.11


def seen(colour: object, eyes: str | None) -> np.ndarray:
    """sRGB of a colour as it looks to a reader who lacks one kind of cone altogether."""
    if eyes is None:
        return np.array(to_rgb(colour))
    space = {"name": "sRGB1+CVD", "cvd_type": eyes, "severity": 100}
    return np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1)


def nearest(colours: tuple, eyes: str | None) -> float:
    """The distance of the two colours that look most alike."""
    looks = [seen(colour, eyes) for colour in colours]
    return min(deltaE(a, b, input_space="sRGB1") for a, b in combinations(looks, 2))


def contrast(colour: object) -> float:
    """The ratio of white's luminance to that of a colour, by WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)


@pytest.mark.parametrize("eyes", EYES)
def test_every_reader_tells_the_colours_apart(eyes):
    assert nearest(figures.PALETTE, eyes) >= APART
    assert nearest((*figures.PALETTE[:2], figures.PUBLISHED_COLOUR), eyes) >= APART, "ours beside the reported number"


def test_the_measure_refuses_the_usual_colours():
    usual = tuple(matplotlib.color_sequences["tab10"][:4])
    assert min(nearest(usual, eyes) for eyes in EYES) < 5


def test_lines_stand_out_from_white_and_figures_take_the_palette():
    assert min(contrast(colour) for colour in (*figures.PALETTE[:LINES], figures.PUBLISHED_COLOUR)) >= CONTRAST
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(figures.PALETTE)


def test_a_class_has_one_colour_in_every_figure():
    assert len(set(CLASS_COLOURS.values())) == 4
    assert set(CLASS_COLOURS.values()) == set(figures.PALETTE[:LINES]), "dark enough for a line"
    assert (
        figures.colours_of(["pituitary", "x"])["pituitary"] == figures.colours_of(["glioma", "pituitary"])["pituitary"]
    )


def test_the_letters_of_a_figure_that_is_too_wide_are_found():
    figure, axis = plt.subplots(figsize=(2 * figures.PAGE, 2))
    axis.set_title("title", fontsize=10)
    assert letters(figure)["title"] < figures.LETTERS
    plt.close(figure)

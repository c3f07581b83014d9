"""The figures of the chapters and the README: each function draws one from tables or arrays and returns it."""

from utils.reporting.figures.classification import (
    against_patients,
    compared,
    confusion,
    confusions,
    reliability,
    roc,
)
from utils.reporting.figures.common import (
    PUBLISHED_COLOUR,
    class_counts,
    counts,
    curves,
    first_filters,
    heat_on_image,
    image_grid,
)
from utils.reporting.figures.curation import (
    shift_map,
)
from utils.reporting.figures.findings import (
    finding_bars,
    together,
)
from utils.reporting.figures.intervals import forest, leaks
from utils.reporting.figures.localisation import outlines, pointing
from utils.reporting.figures.multitask import (
    errors_by_class,
    gains,
    gradients,
    losses,
    screening,
    show_reconstructions,
)
from utils.reporting.figures.segmentation import (
    MASK_COLOURS,
    by_size,
    gate_maps,
    gate_spread,
    overlay,
    parameters_by_width,
    show_predictions,
    walk,
)
from utils.reporting.figures.transfer import (
    against_time,
    convergence,
    rates,
)

__all__ = [
    "MASK_COLOURS",
    "PUBLISHED_COLOUR",
    "against_patients",
    "against_time",
    "by_size",
    "class_counts",
    "compared",
    "confusion",
    "confusions",
    "convergence",
    "counts",
    "curves",
    "errors_by_class",
    "finding_bars",
    "first_filters",
    "forest",
    "gains",
    "gate_maps",
    "gate_spread",
    "gradients",
    "heat_on_image",
    "image_grid",
    "leaks",
    "losses",
    "outlines",
    "overlay",
    "parameters_by_width",
    "pointing",
    "rates",
    "reliability",
    "roc",
    "screening",
    "shift_map",
    "show_predictions",
    "show_reconstructions",
    "together",
    "walk",
]

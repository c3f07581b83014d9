"""The figures of the chapters and the README: each function draws one from tables or arrays and returns it."""

from utils.report.figures.common import *  # noqa: F403
from utils.report.figures.images import *  # noqa: F403
from utils.report.figures.predictions import *  # noqa: F403
from utils.report.figures.results import *  # noqa: F403

"""How large the letters of a figure are on a page."""

from matplotlib.figure import Figure
from matplotlib.text import Text

from utils.report.figures.common import PAGE


def letters(figure: Figure) -> dict[str, float]:
    """The texts of a figure and their size in points, once it is made as narrow as the page."""
    figure.canvas.draw()
    width = figure.get_tightbbox(figure.canvas.get_renderer()).width
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return {text.get_text(): text.get_fontsize() * min(1, (PAGE + 0.2) / width) for text in shown}

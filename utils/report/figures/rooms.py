"""A diagram of the repository itself, from data to tables; its numbers are counted, none is typed."""

from matplotlib.figure import Figure

from datasets.catalog import CATALOG, REPO
from datasets.splitting import PROTOCOLS
from datasets.store.index import SPLITS
from models import BACKBONES, MODELS, MULTITASK, SEGMENTERS
from utils.recipes import RECIPES
from utils.report.figures.common import LETTERS
from utils.report.figures.diagrams import DATA, DECODER, ENCODER, HEAD, Canvas
from utils.report.records import Evidence
from utils.report.tables import BLOCKS

ROWS = (1.75, 0.55)  # inches, where the two rows of boxes stand
COLUMNS = (0.98, 3.15, 5.32)
SIZE = {"width": 1.75, "height": 0.78}


def house(evidence: Evidence) -> Figure:
    """How a number comes about: data → splits → training → evidence → tables, with the folder of each room."""
    networks = len(MODELS | SEGMENTERS | MULTITASK | BACKBONES)
    chapters = len(list((REPO / "notebooks").glob("*.ipynb")))
    rooms = [
        ("datasets/", f"{len(CATALOG)} data sets, packed\nand checked", ENCODER),
        (
            "datasets/splits/",
            f"{len(PROTOCOLS)} protocols, {len(list(SPLITS.glob('*.csv')))} tables\nof groups",
            ENCODER,
        ),
        ("models/, utils/training/", f"{networks} networks,\n{len(RECIPES)} recipes", DECODER),
        ("utils/evaluation/", "the test set, once;\nintervals over patients", DECODER),
        ("saved_metrics/", f"{len(evidence.records)} runs: metrics,\nhistory, predictions", HEAD),
        ("utils/report/, notebooks/", f"{len(BLOCKS)} tables,\n{chapters} chapters", DATA),
    ]
    canvas = Canvas(2.5, "from an image to a number: each arrow is a step that a command repeats")
    places = [(x, ROWS[0]) for x in COLUMNS] + [(x, ROWS[1]) for x in reversed(COLUMNS)]
    boxes = [canvas.box(*place, "", colour, **SIZE) for place, (_, _, colour) in zip(places, rooms, strict=True)]
    for box, (room, what, _) in zip(boxes, rooms, strict=True):
        canvas.axis.text(box.x, box.y + 0.26, room, ha="center", va="center", fontsize=LETTERS, weight="bold")
        canvas.axis.text(box.x, box.y - 0.1, what, ha="center", va="center", fontsize=LETTERS)
    first, second, third, fourth, fifth, sixth = boxes
    canvas.arrow(first.right, second.left)
    canvas.arrow(second.right, third.left)
    canvas.arrow(third.bottom, fourth.top)
    canvas.arrow(fourth.left, fifth.right)
    canvas.arrow(fifth.left, sixth.right)
    return canvas.figure

"""Tasks say what is learned. A new one is a file here, with a class that has what `base.Task` has, and a line below."""

from utils.training.tasks.base import Task
from utils.training.tasks.classification import Classification, Transfer
from utils.training.tasks.localisation import Outlining
from utils.training.tasks.multilabel import MultiLabel
from utils.training.tasks.multitask import MultiTask
from utils.training.tasks.segmentation import Segmentation

# By the name that `Run.task`, records and cards have.
TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "transfer": Transfer,
    "multitask": MultiTask,
    "segmentation": Segmentation,
    "findings": MultiLabel,
    "localisation": Outlining,
}

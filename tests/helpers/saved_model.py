"""A saved model with its card, untrained, for the tests of predictions."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from datasets import catalog
from datasets.labels import classes_of
from models import BACKBONES, LOCALISERS, MODELS, MULTITASK, SEGMENTERS
from utils.evaluation.thresholds import fit_temperature
from utils.files import write_sealed
from utils.predict.model import SavedModel
from utils.predict.out_of_distribution import FAMILIARITY, Familiarity
from utils.recipes import get_recipe
from utils.report.weights import CARD, save_weights
from utils.run import TASKS, Run

ARGUMENTS = {
    "CustomCNN": {"in_channels": 3, "image_size": 64},
    "MultiTaskUNet": {"width": 4},
    "AttentionUNet": {"n_filters": 4},
    "SqueezeNet": {"in_channels": 3, "image_size": 64},
    "OutlineClassifier": {"in_channels": 3, "image_size": 64},
}


def save_model(dataset: str, name: str = "CustomCNN", seed: int = 0, target: str = "label", **arguments: int) -> Path:
    """Weights of an untrained network that takes 64 pixels, in `saved_models/` of the output root; their path."""
    torch.manual_seed(seed)
    known, classes = ARGUMENTS[name] | arguments, len(classes_of(dataset, target))
    if name in MODELS | BACKBONES | LOCALISERS:
        known["num_classes"] = classes
        known |= {"healthy": catalog.get(dataset).classes.index("notumor")} if name in LOCALISERS else {}
    elif name in MULTITASK:
        known["num_subtypes"] = classes - 1
    else:
        facts = catalog.get(dataset)
        known |= {"in_channels": len(facts.channels), "out_channels": len(facts.mask_channels)}
    network = (MODELS | MULTITASK | SEGMENTERS | BACKBONES | LOCALISERS)[name](**known)
    for module in network.modules():  # statistics of batch norms are those of no image: give them some
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.1)
    pretrained = False if name in BACKBONES | LOCALISERS else None
    how = {"image_size": 64, "seed": seed, "pretrained": pretrained, "target": target}
    run = Run(dataset=dataset, split="patient", model=name, **how)
    recipe = get_recipe("s2", "CustomCNN")
    own = {key: value for key, value in known.items() if key in ("width", "num_subtypes", "n_filters")}
    record = {
        "recipe": asdict(recipe) | {"model_args": own},
        "run": {key: value for key, value in asdict(run).items() if key != "task"},
        "data": {"images": 1},
        "groups": 2,
        "training": {"epochs": 1, "epoch_kept": 1, "val_accuracy": 0.5 + seed / 100},
        "metrics": {metric: {"value": 0.5, "low": 0.4, "high": 0.6} for metric in TASKS[run.task]},
    }
    record["outline"] = {"dice": {"value": 0.5, "low": 0.4, "high": 0.6}} if name in LOCALISERS else {}
    return save_weights(network.eval(), run, record)


def with_calibration(weights: Path, pixels: torch.Tensor, truth: np.ndarray) -> SavedModel:
    """The model with temperature, a threshold and its familiarity with `pixels`, which stand for its training."""
    model = SavedModel(weights)
    found = model.predict(pixels)
    temperature = fit_temperature(found.probabilities, truth)
    familiarity = Familiarity.fit(found.features, found.features)
    card = model.card | {"calibration": {"temperature": temperature, "threshold": 0.5}}
    card["familiarity"] = familiarity.save(weights.with_name(FAMILIARITY))
    write_sealed(weights.with_name(CARD), card)
    return SavedModel(weights)

"""CheXNet (Rajpurkar et al. 2017), for several findings an image; S4 named the data set and reported nothing on it."""

from dataclasses import replace

from utils.recipes.recipe import ANY_BACKBONE, Recipe

WEIGHTED = Recipe(
    name="chexnet",
    source="CheXNet (arXiv:1711.05225): ImageNet weights, Adam 1e-3, batch 16, tenth of the rate on a plateau, mirror "
    "images, weighted cross-entropy. Not given, so ours: epochs and patience",
    epochs=20,
    batch_size=16,
    lr=1e-3,
    schedule="ReduceLROnPlateau",
    schedule_args={"factor": 0.1, "patience": 1},
    patience=5,
    augmentation="flip",
    loss="weighted-bce",
    select="best",
    model_args={"head": "linear"},
    val_fraction=0.1,
)

# SqueezeNet has no batch norm: at CheXNet's rate its training loss stood still on the sample of 1,000 X-rays.
SLOWER = replace(WEIGHTED, lr=1e-4, source=f"{WEIGHTED.source}; a tenth of the rate for a network without batch norm")

RECIPES: dict[str, dict[str, Recipe]] = {
    "chexnet": {ANY_BACKBONE: WEIGHTED, "SqueezeNet": SLOWER},
    "chexnet-asymmetric": {
        ANY_BACKBONE: replace(
            WEIGHTED,
            name="chexnet-asymmetric",
            loss="asymmetric",
            source="as chexnet, with the asymmetric loss of Ridnik et al. (arXiv:2009.14119)",
        )
    },
}

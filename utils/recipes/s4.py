"""S4 (faridashahata 2023): fine-tuning for tumour or none, and for 44 classes.

S4 also named a data set of chest X-rays and reported nothing on it: for several findings an image stands CheXNet
(Rajpurkar et al. 2017).
"""

from dataclasses import replace

from utils.recipes.recipe import ANY_CLASSIFIER, Recipe, variants

FINETUNING = Recipe(
    name="s4",
    source="S4, code: average pool, dropout .2, 512, 256; mirrored, zoom .1, batch 32, Adam 1e-4",
    epochs=20,
    batch_size=32,
    augmentation="s4-code",
    model_args={"head": "two-layers"},
    val_fraction=0.2,
)

CHEXNET = Recipe(
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
)
# SqueezeNet has no batch norm: at CheXNet's rate its training loss stood still on the sample of 1,000 X-rays.
SLOWER = replace(CHEXNET, lr=1e-4, source=f"{CHEXNET.source}; a tenth of the rate for a network without batch norm")

ASYMMETRIC = {
    "loss": "asymmetric",
    "source": "as chexnet, with the asymmetric loss of Ridnik et al. (arXiv:2009.14119)",
}

# S4 counted layers as Keras does. The numbers are of those with weights (Keras 3.15). Of ConvNeXt-S, which has
# other layers there today, the share is kept, and of ResNetRS152 (frozen below layer 700) a tenth is our assumption.
RECIPES: dict[str, dict[str, Recipe]] = {
    "s4": {
        ANY_CLASSIFIER: FINETUNING,
        "ResNet50": replace(  # tumour or none
            FINETUNING,
            unfreeze=27,
            epochs=5,
            augmentation="none",
            source=f"{FINETUNING.source}. For tumour or none S4 has one dense layer of 256; here as for 44 classes",
        ),
        "ResNetRS152": replace(FINETUNING, unfreeze=0.1),
        "EfficientNetV2-B1": replace(FINETUNING, unfreeze=7, epochs=80),
        "ConvNeXt-S": replace(
            FINETUNING,
            unfreeze=45 / 295,
            # Keras's ExponentialDecay: the rate falls by .9 in 10,000 steps, a little with each
            schedule="ExponentialLR",
            schedule_args={"gamma": 0.9 ** (1 / 10_000)},
            schedule_step="batch",
        ),
        "ViT-B16": replace(FINETUNING, unfreeze="none", lr=4e-3, epochs=30, patience=4),
    },
    # "Flips" of the report taken to be both; so did the run that is named "s4".
    **variants({ANY_CLASSIFIER: FINETUNING}, "S4", {"s4-flips": {"augmentation": "s4"}}),
    "chexnet": {ANY_CLASSIFIER: CHEXNET, "SqueezeNet": SLOWER},
    **variants({ANY_CLASSIFIER: CHEXNET}, "chexnet", {"chexnet-asymmetric": ASYMMETRIC}),
}

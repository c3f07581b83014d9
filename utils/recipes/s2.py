"""S2 (Lusardi, Tallone, Zappi 2024): four classifiers from scratch, and three U-Nets on slices of BraTS 2020."""

from dataclasses import replace

from utils.recipes.recipe import ANY_CLASSIFIER, Recipe, variants

CLASSIFIER = Recipe(
    name="s2",
    source="S2, report: Adam 1e-4, weight decay 1e-5, StepLR(10, .5), batch 64, 50 epochs",
    epochs=50,
    weight_decay=1e-5,
    schedule="StepLR",
    schedule_args={"step_size": 10, "gamma": 0.5},
)
# As torchvision's jitter, which S2 used; runs named "s2" jitter more strongly, see `training/augmentation.py`.
JITTER = replace(CLASSIFIER, name="s2-jitter", augmentation="s2-jitter")
# As S2's code: no validation set, and CustomCNN's reported accuracy is of 50 epochs.
OWN_CUT = replace(CLASSIFIER, name="s2-own-cut", source="S2, code: all training images, 50 epochs", val_fraction=0.0)
UNET = Recipe(
    name="s2",
    source="S2, report: BCE, Adam 2e-3, weight decay 1e-2, exponential .9, batch 32, n_filters 32, 20 epochs",
    epochs=20,
    batch_size=32,
    lr=2e-3,
    weight_decay=1e-2,
    schedule="ExponentialLR",
    schedule_args={"gamma": 0.9},
    loss="bce",
    model_args={"n_filters": 32},
)
UNETS = dict.fromkeys(("ClassicUNet", "ImprovedUNet", "AttentionUNet"), UNET)

# Changes to S2's segmentation, alone and together, compared on validation patients of `cheng`.
DICE = {"loss": "dice+bce"}  # MONAI's Dice beside BCE: a tumour fills 2 % of a slice
# Decay apart from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101). S2 reports Adam, but its decay of 1e-2 is
# the default of torch's AdamW, and saturated gates as S2 describes them came out with AdamW only (one seed on `cheng`,
# `history.csv` of these runs).
ADAMW = {"optimizer": "AdamW"}

RECIPES: dict[str, dict[str, Recipe]] = {
    "s2": {
        "CustomCNN": replace(CLASSIFIER, epochs=40, augmentation="s2"),
        "AlexNet": CLASSIFIER,
        "VGG16": replace(CLASSIFIER, weight_decay=0.0, schedule=None, schedule_args={}),
        "ViT": replace(CLASSIFIER, augmentation="s2"),
        ANY_CLASSIFIER: CLASSIFIER,
        **UNETS,
    },
    "s2-jitter": {"CustomCNN": replace(JITTER, epochs=40), "ViT": JITTER, ANY_CLASSIFIER: JITTER},
    "s2-own-cut": {"CustomCNN": replace(OWN_CUT, augmentation="s2-jitter"), ANY_CLASSIFIER: OWN_CUT},
    **variants(UNETS, "S2", {"s2-dice": DICE, "s2-adamw": ADAMW, "s2-dice-adamw": DICE | ADAMW}),
}

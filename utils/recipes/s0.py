"""S0 (Kallehauge 2025): a multi-task U-Net, its ablation, and transfer learning."""

from dataclasses import replace

from utils.recipes.recipe import ANY_CLASSIFIER, Recipe, variants

MULTITASK = Recipe(
    name="s0",
    source="S0, report: AdamW 3e-4, cosine over all epochs, batch 32, 100 epochs, width 64, a fifth for validation",
    epochs=100,
    batch_size=32,
    optimizer="AdamW",
    lr=3e-4,
    weight_decay=1e-2,  # not reported: the default of torch's AdamW
    schedule="CosineAnnealingLR",
    schedule_args={"T_max": "epochs"},
    augmentation="s0",
    sampling="balanced",
    balance="ema",
    model_args={"width": 64},
    val_fraction=0.2,
)
TRANSFER = replace(
    MULTITASK,
    source="S0, report: as its U-Net, with label smoothing .05, all layers, up to 500 epochs",
    epochs=500,
    balance="",
    label_smoothing=0.05,
    model_args={"head": "linear"},  # the report does not describe it
)
# As S0's code. The transfer networks saw images without ImageNet's normalisation, at 512 pixels.
OWN_CUT = {"name": "s0-own-cut", "val_cut": "random", "select": "least loss", "patience": 7}
OWN_CUT |= {"source": "S0, code: a fifth at random for validation, whose least loss chooses the epoch; patience 7"}

# Parts of S0's method that are removed or replaced, alone and together. A single loss needs no balance.
# Kendall's weights get a learning rate of their own: at 3e-4 a few thousand steps would hardly move them.
NO_DECODER = {"model_args": {"width": 64, "reconstruct": False}, "balance": "fixed"}
ABLATION: dict[str, dict[str, object]] = {
    "s0-kendall": {"balance": "kendall", "balance_lr": 1e-2},
    "s0-fixed": {"balance": "fixed"},
    "s0-classify": NO_DECODER,
    "s0-flat": {"model_args": {"width": 64, "hierarchical": False}},
    "s0-flat-classify": NO_DECODER | {"model_args": {"width": 64, "reconstruct": False, "hierarchical": False}},
}

RECIPES: dict[str, dict[str, Recipe]] = {
    "s0": {"MultiTaskUNet": MULTITASK, ANY_CLASSIFIER: TRANSFER},
    "s0-own-cut": {
        "MultiTaskUNet": replace(MULTITASK, **OWN_CUT),
        ANY_CLASSIFIER: replace(TRANSFER, **OWN_CUT, model_args={"head": "hidden", "scaling": "none"}),
    },
    **variants({"MultiTaskUNet": MULTITASK}, "S0", ABLATION),
}

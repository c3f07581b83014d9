"""S4 (faridashahata 2023): fine-tuning for tumour or none, and for 44 classes."""

from dataclasses import replace

from utils.recipes.recipe import ANY_BACKBONE, Recipe

FINETUNING = Recipe(
    name="s4",
    source="S4, report: average pool, dropout .2, 512, 256; flips and zoom .1, batch 32, Adam 1e-4",
    epochs=20,
    batch_size=32,
    augmentation="s4",
    model_args={"head": "two-layers"},
    val_fraction=0.2,
)

# S4 counted layers as Keras does. Where it reports their total, the unfrozen share is kept; where it does not
# (ResNetRS152, frozen below layer 700) a tenth is our assumption.
RECIPES: dict[str, dict[str, Recipe]] = {
    "s4": {
        ANY_BACKBONE: FINETUNING,
        "ResNet50": replace(  # tumour or none
            FINETUNING,
            unfreeze=45 / 175,
            epochs=5,
            source=f"{FINETUNING.source}. For tumour or none S4 reports one dense layer of 256; here as for 44 classes",
        ),
        "ResNetRS152": replace(FINETUNING, unfreeze=0.1),
        "EfficientNetV2-B1": replace(FINETUNING, unfreeze=14 / 334, epochs=80),
        "ConvNeXt-S": replace(
            FINETUNING,
            unfreeze=45 / 295,
            # Keras's ExponentialDecay: the rate falls by .9 in 10,000 steps, a little with each
            schedule="ExponentialLR",
            schedule_args={"gamma": 0.9 ** (1 / 10_000)},
            schedule_step="batch",
        ),
        "ViT-B16": replace(FINETUNING, unfreeze="none", patience=4),
    }
}

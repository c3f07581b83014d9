"""S1 (Huang, Lyu, Su, Yeh): five CNNs, frozen but for their last ten layers, and a ViT on ReMIND, by patient."""

from dataclasses import replace

from utils.recipes.recipe import ANY_CLASSIFIER, Recipe

CNN = Recipe(
    name="s1",
    source="S1, report: frozen but for the last 10 layers, average pool, linear head, Adam, cross-entropy, "
    "ReduceLROnPlateau. Not given, so ours: rate, batch, epochs, factor and patience",
    epochs=50,
    batch_size=32,
    lr=1e-3,
    schedule="ReduceLROnPlateau",
    schedule_args={"factor": 0.1, "patience": 3},
    unfreeze=10,  # of a network that S1 did not have
    model_args={"head": "linear"},
    val_fraction=0.15 / 0.85,
)

# Of Keras's last ten layers those with weights, counted in Keras 3.15 (the others are activations, poolings and sums).
# Of InceptionV3 it is one batch norm of 188 such layers: S1 trained little more than its head.
LAST_TEN = {"VGG19": 8, "ResNet50": 6, "DenseNet121": 5, "Xception": 6, "InceptionV3": 1}

RECIPES: dict[str, dict[str, Recipe]] = {
    "s1": {
        ANY_CLASSIFIER: CNN,
        **{name: replace(CNN, unfreeze=layers) for name, layers in LAST_TEN.items()},
        # Which ViT, its frozen layers and its decay are not reported: the layers are the CNNs', the decay is torch's.
        "ViT-B16": replace(CNN, optimizer="AdamW", weight_decay=1e-2),
    },
}

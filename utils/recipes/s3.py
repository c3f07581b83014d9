"""S3 (kalyan1421): EfficientNetV2-S in three stages of fine-tuning, with test-time augmentation."""

from utils.recipes.recipe import ANY_CLASSIFIER, Recipe, variants

THREE_STAGES = Recipe(
    name="s3",
    source="S3, report and code: three stages, Adam, batch 16, warm-up and cosine to 1e-7, label smoothing .1, class "
    "weights, L2 1e-4 on the head's hidden layers, batch-norm statistics frozen",
    epochs=75,
    batch_size=16,
    lr=1e-3,
    schedule="warmup_cosine",
    schedule_args={"floor": 1e-7},
    augmentation="s3",
    label_smoothing=0.1,
    class_weights=True,
    freeze_bn=True,
    head_l2=1e-4,
    stages=(
        {"stage": "head", "unfreeze": "none", "lr": 1e-3, "epochs": 25, "warmup": 3, "patience": 8},
        {"stage": "top", "unfreeze": 0.3, "lr": 1e-4, "epochs": 35, "warmup": 5, "patience": 12},
        {"stage": "all", "unfreeze": "all", "lr": 5e-5, "epochs": 15, "warmup": 2, "patience": 10},
    ),
    tta="s3-tta",
    model_args={"head": "dual"},
    select="best",
    val_fraction=0.15,
)

# S3's code divides an image by 255 and has its network, which does so itself, do it again. Keras cuts the validation
# set from the first files of each class.
TWICE = {"model_args": {"head": "dual", "scaling": "twice"}}
CODE: dict[str, dict[str, object]] = {
    "s3-double-scaled": TWICE,
    "s3-code": TWICE | {"augmentation": "s3-code", "val_cut": "first"},
}

RECIPES: dict[str, dict[str, Recipe]] = {
    "s3": {ANY_CLASSIFIER: THREE_STAGES},
    **variants({ANY_CLASSIFIER: THREE_STAGES}, "S3", CODE),
}

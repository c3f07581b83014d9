"""Our recipes: for backbones a mixture of the five, chosen on validation patients; for U-Nets S2's, improved; and for
the network that outlines and names the same training thrice, with one thing added each time."""

from dataclasses import replace

from utils.recipes.recipe import ANY_CLASSIFIER, NOTHING_FROZEN, Recipe, variants
from utils.recipes.s2 import ADAMW, DICE, UNET, UNETS

# Chosen among seventeen tries on validation patients of an earlier fold 0 of `brain-tumor-mri` (SqueezeNet, pretrained,
# 64 px); some of them are test patients of the present one.
TRANSFER = Recipe(
    name="ours",
    source="AdamW, warm-up and cosine, a slower backbone, S0's augmentation and balanced classes, "
    "S3's smoothing and head",
    epochs=8,
    batch_size=32,
    optimizer="AdamW",
    lr=1e-3,
    weight_decay=1e-2,
    schedule="warmup_cosine",
    schedule_args={"floor": 1e-6},
    warmup=1,
    augmentation="s0",
    sampling="balanced",
    label_smoothing=0.1,
    backbone_lr_mult=0.3,
    model_args={"head": "dual"},
    val_fraction=0.1,
)
# Ingredients, each removed or exchanged alone. Its one epoch of warm-up is no ramp but has the full rate already, so
# "no-warmup" only begins the cosine an epoch earlier and shows the effect of chance.
INGREDIENTS: dict[str, dict[str, object]] = {
    "ours-frozen": {"unfreeze": "none"},
    "ours-top30": {"unfreeze": 0.3},
    "ours-one-rate": {"backbone_lr_mult": 1.0},
    "ours-no-warmup": {"warmup": 0},
    "ours-no-augmentation": {"augmentation": "none"},
    "ours-s3-augmentation": {"augmentation": "s3"},
    "ours-no-smoothing": {"label_smoothing": 0.0},
    "ours-unbalanced": {"sampling": "shuffled"},
    "ours-linear-head": {"model_args": {"head": "linear"}},
}

# For a strong backbone at 224 px: its early layers and all batch-norm statistics stay as ImageNet left them, the rest
# moves slowly for few epochs.
ONE_CYCLE = Recipe(
    name="onecycle",
    source="AdamW, one cycle (Smith & Topin 2017, arXiv:1708.07120), the last layers of the backbone unfrozen at "
    "a fifth of the head's rate, batch-norm statistics kept",
    epochs=5,
    batch_size=32,
    optimizer="AdamW",
    lr=5e-4,
    weight_decay=0.05,
    schedule="OneCycleLR",
    schedule_args={"total_steps": "steps", "pct_start": 0.2},
    schedule_step="batch",
    augmentation="mirrored",
    label_smoothing=0.05,
    unfreeze=0.44,  # of ResNet50-v2 the third stage
    freeze_bn=True,
    backbone_lr_mult=0.2,
    model_args={"head": "average-max"},
    tta="mirror",
    tta_draws=1,
)
# Its source's reason: a random head changes the features before it has learned anything from them.
PROBE_FIRST = replace(
    ONE_CYCLE,
    name="probe-first",
    source="onecycle, whose head starts as a linear probe (Kumar et al. 2022, arXiv:2202.10054)",
    head_from="probe",
    model_args={"head": "standardised"},
)
# Tries at more than that, compared on validation patients of fold 0 (chapter 3).
LONGER: dict[str, dict[str, object]] = {
    "probe-first-long": {"epochs": 12},
    "probe-first-deep": {"epochs": 12, "unfreeze": "all"},
    "probe-first-turned": {"epochs": 12, "unfreeze": "all", "augmentation": "turned"},
}
# For a detector that is to find the tumours of sources that it has not seen: greys and sharpness should tell it less
# about the source of an image, and the source nothing about the class.
UNSEEN: dict[str, dict[str, object]] = {"probe-first-scanner": {"augmentation": "scanner", "sampling": "balanced"}}

# The U-Nets: Dice and BCE, decoupled decay, augmentation. Gates whose scores are normalised in every image cannot be
# open or closed everywhere.
OURS = replace(UNET, name="ours", source="S2, with dice+bce, AdamW, s2", augmentation="s2", **DICE, **ADAMW)
NORMALISED = replace(OURS, model_args={"n_filters": 32, "normalised": True})
OURS_UNETS = {**dict.fromkeys((*UNETS, "ResidualUNet"), OURS), "AttentionUNet": NORMALISED}

# S2's learning rate decays to an eighth in twenty epochs; one cycle fits itself to any number of epochs. The
# encoder's first groups of blocks find edges and spots, as an MRI has them too: they stay as ImageNet left them.
ENCODER_LAYERS = 60  # of MobileNetV2's third to fifth group of blocks, convolutions and norms
MOBILENET_CYCLE = replace(
    OURS,
    name="onecycle",
    source="AdamW, Dice and BCE, one cycle (Smith & Topin 2017, arXiv:1708.07120) of small batches, turned images; of "
    "a pretrained encoder the last three groups of blocks unfrozen at a fifth of the decoder's rate",
    batch_size=16,
    lr=3e-3,
    schedule_args={"total_steps": "steps", "pct_start": 0.1},
    schedule="OneCycleLR",
    schedule_step="batch",
    augmentation="turned",
    unfreeze=ENCODER_LAYERS,
    backbone_lr_mult=0.2,
    model_args={"n_filters": 8},
)

# The network that outlines and names. Stem and two stages stay as ImageNet left them: an epoch on Cheng's slices at 128
# pixels takes a minute on one core.
FROM_OUTLINE = replace(
    ONE_CYCLE,
    name="from-outline",
    source="onecycle, for the encoder's last two blocks and a decoder; the losses balanced as in S0",
    epochs=24,
    lr=3e-4,
    unfreeze=14,  # layers: the two blocks of the third stage, and the norm behind them
    balance="ema",
    tta="",
    model_args={"outline": True, "named_from": "outline"},
)
# What each adds to the one before it, and what that leaves out; beside the three steps the augmentation that was best
# for fine-tuning (chapter 3).
STEPS: dict[str, dict[str, object]] = {
    "name-only": {"model_args": {"outline": False, "named_from": "image"}, "balance": "fixed"},
    "with-masks": {"model_args": {"outline": True, "named_from": "image"}},
    "from-outline": {},
}
BEYOND = {"from-outline-turned": {"augmentation": "turned"}}

RECIPES: dict[str, dict[str, Recipe]] = {
    "ours": OURS_UNETS | {ANY_CLASSIFIER: TRANSFER},
    "onecycle": {ANY_CLASSIFIER: ONE_CYCLE, "MobileNetUNet": MOBILENET_CYCLE},
    # Nothing frozen, one rate: the same for random weights.
    **variants({"MobileNetUNet": MOBILENET_CYCLE}, "onecycle", {"onecycle-unfrozen": NOTHING_FROZEN}),
    "probe-first": {ANY_CLASSIFIER: PROBE_FIRST},
    **variants({ANY_CLASSIFIER: PROBE_FIRST}, "probe-first", LONGER | UNSEEN),
    **variants(OURS_UNETS, "ours", {"ours-batch8": {"batch_size": 8}}),  # more steps where slices are few
    **variants({ANY_CLASSIFIER: TRANSFER}, "ours", INGREDIENTS),
    **variants({"OutlineClassifier": FROM_OUTLINE}, "from-outline", STEPS | BEYOND),
    "from-outline": {"OutlineClassifier": FROM_OUTLINE},  # itself, and no change of it
}

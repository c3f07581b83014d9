"""The list: every run that a published number or a table asks for, in order of value. Plain data."""

from collections.abc import Iterator

from utils.recipes.ours import LONGER, STEPS
from utils.report.ledger.rows import EVERY_SPLIT, PROBE, Row
from utils.report.records import BEST_RECIPE

THREE_SETS = ("cheng", "brain-tumor-mri", "sartaj")
FOLDS = range(5)
FROM_SCRATCH = ("CustomCNN", "AlexNet", "ViT")
UNETS = ("ClassicUNet", "ImprovedUNet", "AttentionUNet")
STRONG = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "pretrained": True}
SHORT = STRONG | {"recipe": "probe-first"}  # the same for five epochs

PROBES = "1. Linear probes of pretrained networks"
FINE_TUNED = "2. ResNet50-v2 fine-tuned"
SCRATCH = "3. Networks from scratch, at full length (S2)"
SEGMENTED = "4. U-Nets on cheng"
S0 = "5. S0's networks, on cleaned images and on sartaj"
S4 = "6. S4's 44 classes, and tumour or none"
S1 = "7. S1's protocol, on cheng and on ReMIND"
XRAYS = "8. Chest X-rays"
EXTERNAL = "9. Tested on another data set"
SQUEEZENETS = "10. SqueezeNet, pretrained and from scratch"
LOCALISED = "11. Where, then what: outlines and names"


def _probes() -> Iterator[Row]:
    for backbone in ("ResNet50-v2", "MobileNetV2", "SqueezeNet"):
        for name in THREE_SETS:
            run = {"dataset": name, "split": EVERY_SPLIT, "model": backbone, "recipe": PROBE}
            yield Row(group=PROBES, run=run | {"image_size": 224, "pretrained": True}, precision="bf16")


def _fine_tuned() -> Iterator[Row]:
    splits = [(name, {"split": "patient", "fold": fold}) for name in THREE_SETS for fold in FOLDS]
    splits += [(name, {"split": "published"}) for name in ("brain-tumor-mri", "sartaj")]
    splits += [(name, {"split": "patient", "fold": 0, "seed": seed}) for name in THREE_SETS for seed in (1, 2)]
    runs = [{"dataset": name} | STRONG | split for name, split in splits]
    # The ways to fine-tune among which validation patients of fold 0 chose, and the first of them from three seeds.
    for name in ("cheng", "brain-tumor-mri"):
        tried = [{"recipe": recipe} for recipe in LONGER if recipe != BEST_RECIPE]
        tried += [{"recipe": SHORT["recipe"], "seed": seed} for seed in range(3)]
        runs += [{"dataset": name, "split": "patient", "fold": 0} | STRONG | one for one in tried]
    # What a head that starts as a probe is worth.
    runs += [STRONG | {"recipe": "onecycle", "dataset": "cheng", "split": "patient", "fold": 0}]
    for run in runs:
        yield Row(group=FINE_TUNED, run=run, precision="bf16")


def _from_scratch() -> Iterator[Row]:
    patient = [{"split": "patient", "fold": fold} for fold in FOLDS]
    splits = [(model, split) for model in FROM_SCRATCH for split in ({"split": "published"}, *patient)]
    splits += [("VGG16", {"split": "published"}), ("VGG16", patient[0])]
    for model, split in splits:
        yield Row(group=SCRATCH, run={"dataset": "brain-tumor-mri", "model": model, "recipe": "s2"} | split)


def _segmented() -> Iterator[Row]:
    """Which U-Net is best at 128 pixels is not known before: the one with gates is taken to 256. Then the U-Net
    with a pretrained encoder, at the size that it was tried at, and what its weights contribute, at 128."""
    for model, image_size in [*((model, 128) for model in UNETS), ("AttentionUNet", 256)]:
        for fold in FOLDS:
            run = {"dataset": "cheng", "split": "patient", "fold": fold, "model": model, "recipe": "ours"}
            yield Row(group=SEGMENTED, run=run | {"n_filters": 16, "image_size": image_size}, epochs=40)
    encoded = {"dataset": "cheng", "split": "patient", "image_size": 192, "model": "MobileNetUNet", "n_filters": 8}
    for fold in FOLDS:
        pretrained = encoded | {"fold": fold, "recipe": "onecycle", "pretrained": True}
        yield Row(group=SEGMENTED, run=pretrained, epochs=12, precision="bf16")
    for seed in range(3):
        for start in ({"recipe": "onecycle", "pretrained": True}, {"recipe": "onecycle-unfrozen", "pretrained": False}):
            run = encoded | {"fold": 0, "image_size": 128, "seed": seed} | start
            yield Row(group=SEGMENTED, run=run, epochs=12, precision="bf16")


def _s0() -> Iterator[Row]:
    """S0 trained a backbone for up to 500 epochs; of its 30 here the cosine ends with the last."""
    whole = [("brain-tumor-mri", {"split": "cleaned"}), ("sartaj", {"split": "published"})]
    for model in ("MobileNetV2", "MobileNetV3-Large", "VGG16", "Swin-B", "ViT-L32"):
        for name, split in whole:
            run = {"dataset": name, "model": model, "recipe": "s0", "image_size": 224, "pretrained": True}
            yield Row(group=S0, run=run | split, epochs=30, precision="bf16")
    patient = [("sartaj", {"split": "patient", "fold": fold}) for fold in FOLDS]
    for width, splits in ((8, whole + patient), (64, whole)):
        for name, split in splits:
            run = {"dataset": name, "model": "MultiTaskUNet", "recipe": "s0", "n_filters": width}
            yield Row(group=S0, run=run | split)


def _s4() -> Iterator[Row]:
    probe = {"dataset": "brain-tumor-44c", "split": EVERY_SPLIT, "model": "ResNet50-v2", "recipe": PROBE}
    for target in ("label", "tumour", "type", "sequence"):
        run = probe | {"image_size": 224, "pretrained": True} | ({"target": target} if target != "label" else {})
        yield Row(group=S4, run=run, precision="bf16")
    asked = [("ResNet50", "tumour"), ("ViT-B16", "tumour"), ("EfficientNetV2-B1", "label"), ("ConvNeXt-S", "label")]
    asked += [("ViT-B16", "label"), ("ResNetRS152", "label")]
    for split in ({"split": "random"}, {"split": "patient", "fold": 0}):
        for model, target in asked:
            run = {"dataset": "brain-tumor-44c", "model": model, "recipe": "s4", "image_size": 224, "pretrained": True}
            target = {"target": target} if target != "label" else {}
            yield Row(group=S4, run=run | split | target, precision="bf16")


def _s1() -> Iterator[Row]:
    models = ("ResNet50", "VGG19", "DenseNet121", "Xception", "InceptionV3", "ViT-B16")
    for name, model in ((name, model) for name in ("cheng", "remind") for model in models):
        run = {"dataset": name, "split": "patient", "fold": 0, "model": model, "recipe": "s1"}
        yield Row(group=S1, run=run | {"image_size": 224, "pretrained": True}, precision="bf16")


def _xrays() -> Iterator[Row]:
    for model in ("DenseNet121", "SqueezeNet"):
        for split in ({"split": "published"}, *({"split": "patient", "fold": fold} for fold in FOLDS)):
            run = {"dataset": "chest-xray14", "model": model, "recipe": "chexnet", "target": "findings"}
            yield Row(group=XRAYS, run=run | split | {"image_size": 224, "pretrained": True}, precision="bf16")


def _external() -> Iterator[Row]:
    for name, test_on in (
        ("brain-tumor-mri", "navoneel"),
        ("brain-tumor-mri", "sartaj"),
        ("sartaj", "brain-tumor-mri"),
    ):
        tested = {"dataset": name, "split": "external", "test_on": test_on}
        yield Row(group=EXTERNAL, run=tested | SHORT, precision="bf16")
        for model in (*FROM_SCRATCH, "VGG16") if name == "brain-tumor-mri" else ("CustomCNN",):
            yield Row(group=EXTERNAL, run=tested | {"model": model, "recipe": "s2"})


def _squeezenets() -> Iterator[Row]:
    for pretrained in (True, False):
        for fold in FOLDS:
            run = {"dataset": "brain-tumor-mri", "split": "patient", "fold": fold, "model": "SqueezeNet"}
            yield Row(group=SQUEEZENETS, run=run | {"recipe": "ours", "pretrained": pretrained})


def _localised() -> Iterator[Row]:
    """One fold of every step first, in three seeds: what is compared on one budget."""
    splits = [
        (name, {"split": "patient", "fold": 0, "seed": seed})
        for name in ("cheng", "brain-tumor-mri")
        for seed in range(3)
    ]
    splits += [("brain-tumor-mri", {"split": "external", "test_on": "navoneel", "seed": seed}) for seed in range(3)]
    splits += [
        (name, {"split": "patient", "fold": fold}) for name in ("cheng", "brain-tumor-mri") for fold in FOLDS[1:]
    ]
    for name, split in splits:
        for step in STEPS:
            run = {"dataset": name, "model": "OutlineClassifier", "recipe": step, "pretrained": True}
            yield Row(group=LOCALISED, run=run | split, precision="bf16")


PARTS = (_probes, _fine_tuned, _from_scratch, _segmented, _s0, _s4, _s1, _xrays, _external, _squeezenets, _localised)
PLAN: tuple[Row, ...] = tuple(row for part in PARTS for row in part())

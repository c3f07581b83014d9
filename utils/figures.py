"""The pictures of the notebooks: each function draws one figure from tables or arrays and returns it.

Numbers come from `evaluation.py` and `runs.py`; nothing is computed here that a table would also show.
"""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay
from torch import Tensor, nn

from models.backbones import Transfer
from utils.ablation import REFERENCE
from utils.tables import chosen, interval

PUBLISHED_COLOUR = "0.55"
MASK_COLOURS = ((1.0, 0.25, 0.2), (0.2, 0.8, 0.3), (0.3, 0.5, 1.0))


def class_counts(labels: dict[str, pd.Series], classes: Sequence[str]) -> Figure:
    """Images of each class in each part. `labels` maps a part's name to the labels of its images."""
    parts = [pd.DataFrame({"label": values, "part": name}) for name, values in labels.items()]
    figure, axis = plt.subplots(figsize=(7, 3))
    sns.countplot(pd.concat(parts, ignore_index=True), x="label", hue="part", order=classes, ax=axis)
    for bars in axis.containers:
        axis.bar_label(bars, fontsize=8)
    axis.set(xlabel="", ylabel="images", title="Images of each class")
    return figure


def image_grid(images: np.ndarray, titles: Sequence[str], columns: int = 8, size: float = 1.4) -> Figure:
    """Grey or RGB pictures N×H×W[×3] with a line above each."""
    lines = -(-len(images) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(size * columns, (size + 0.25) * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray")
        axis.set_title(text, fontsize=8)
    figure.tight_layout()
    return figure


def curves(history: pd.DataFrame, kept: int, metric: str = "accuracy") -> Figure:
    """Loss and `metric` over the epochs, training against validation; the epoch whose weights were kept is marked."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    for axis, name in zip(axes, ("loss", metric), strict=True):
        for part in ("train", "val"):
            axis.plot(history.epoch, history[f"{part}_{name}"], marker=".", label=part)
        axis.axvline(kept, color=PUBLISHED_COLOUR, linestyle=":", label="kept")
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend()
    figure.tight_layout()
    return figure


def confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Confusion matrix in images; colour shows the share of the true class."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    shares = pd.crosstab(predictions.label, predictions.predicted, normalize="index")
    ConfusionMatrixDisplay.from_predictions(
        predictions.label, predictions.predicted, labels=classes, cmap="Blues", colorbar=False, ax=axis
    )
    axis.images[0].set_data(shares.reindex(index=classes, columns=classes, fill_value=0))
    axis.images[0].set_clim(0, 1)
    for row, texts in enumerate(axis.texts[i : i + len(classes)] for i in range(0, len(axis.texts), len(classes))):
        for column, text in enumerate(texts):
            share = shares.get(classes[column], pd.Series(dtype=float)).get(classes[row], 0)
            text.set_color("white" if share > 0.5 else "black")
    axis.tick_params(axis="x", rotation=30)
    return figure


def roc(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """One ROC curve a class, that class against the rest."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    for c in classes:
        RocCurveDisplay.from_predictions(predictions.label == c, predictions[f"p_{c}"], name=c, ax=axis)
    axis.plot([0, 1], [0, 1], color=PUBLISHED_COLOUR, linestyle=":")
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="Each class against the rest")
    return figure


def reliability(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """How often the model is right, at each confidence it claims."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    confidence = predictions[[f"p_{c}" for c in classes]].max(axis=1).clip(0, 1)
    CalibrationDisplay.from_predictions(
        predictions.label == predictions.predicted, confidence, n_bins=10, name="model", ax=axis
    )
    axis.set(xlabel="confidence", ylabel="share correct", title="Reliability")
    return figure


def compared(records: Sequence[dict], metric: str = "accuracy") -> Figure:
    """`metric` of several runs with 95 % intervals; a grey diamond is the published number."""
    figure, axis = plt.subplots(figsize=(7, 0.6 + 0.45 * len(records)))
    for y, record in enumerate(reversed(records)):
        entry = record["metrics"][metric]
        spread = [[entry["value"] - entry["low"]], [entry["high"] - entry["value"]]]
        axis.errorbar(entry["value"], y, xerr=spread, fmt="o", capsize=3, color="C0")
        axis.annotate(
            interval(entry), (entry["value"], y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
        )
        if record["published"] and metric in record["published"]:
            axis.plot(record["published"][metric], y, "D", color=PUBLISHED_COLOUR)
    names = [f"{r['run']['model']} · {r['run']['split']}" for r in reversed(records)]
    axis.set_yticks(range(len(records)), names)
    axis.set(
        xlabel=f"{metric} on the test part (95 % interval; diamond: as published)", ylim=(-0.6, len(records) - 0.3)
    )
    figure.tight_layout()
    return figure


def against_patients(records: Sequence[dict], dataset: str = "brain-tumor-mri") -> Figure:
    """Accuracy of each model on the published split and on patient folds, with intervals; diamond: as printed."""
    pairs = {}
    for model in sorted({r["run"]["model"] for r in records if r["run"]["dataset"] == dataset}):
        published = chosen(records, dataset=dataset, model=model, split="published")
        patient = chosen(records, dataset=dataset, model=model, split="patient", fold=None)
        if published and patient:
            pairs[model] = published, patient
    order = sorted(pairs, key=lambda model: pairs[model][1]["metrics"]["accuracy"]["value"])
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.6 * len(order)))
    for y, model in enumerate(order):
        values = [record["metrics"]["accuracy"] for record in pairs[model]]
        axis.plot([v["value"] for v in values], [y, y], color=PUBLISHED_COLOUR, linewidth=1)
        for value, colour, label, side in zip(
            values, ("C0", "C3"), ("published split", "patient folds"), (8, -14), strict=True
        ):
            spread = [[value["value"] - value["low"]], [value["high"] - value["value"]]]
            axis.errorbar(
                value["value"], y, xerr=spread, fmt="o", capsize=3, color=colour, label=label if not y else None
            )
            where = {"xytext": (0, side), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axis.annotate(interval(value), (value["value"], y), color=colour, **where)
        if pairs[model][0]["published"]:
            axis.plot(pairs[model][0]["published"]["accuracy"], y, "D", color=PUBLISHED_COLOUR)
    axis.set_yticks(range(len(order)), order)
    axis.set(xlabel=f"accuracy on {dataset} (95 % interval; diamond: as printed by S2)", ylim=(-0.7, len(order) - 0.3))
    axis.legend(loc="lower right") if order else None
    figure.tight_layout()
    return figure


def shift_map(
    places: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: Sequence[str], title: str = ""
) -> Figure:
    """A 2-D map of validation (dots) and test (crosses), coloured by class; `places` and `labels` by part."""
    figure, axis = plt.subplots(figsize=(6, 4.5))
    for part, marker in (("val", "o"), ("test", "x")):
        for k, c in enumerate(classes):
            x, y = places[part][labels[part] == c].T
            axis.scatter(x, y, s=14, marker=marker, color=f"C{k}", alpha=0.7, label=f"{c}, {part}")
    axis.set(xticks=[], yticks=[], title=title)
    axis.legend(fontsize=7, ncol=2)
    figure.tight_layout()
    return figure


def counts(table: pd.DataFrame, xlabel: str = "", ylabel: str = "") -> Figure:
    """A table of counts as a heat map with its numbers; colour shows the share of the row."""
    figure, axis = plt.subplots(figsize=(1.6 + 0.95 * table.shape[1], 1 + 0.4 * table.shape[0]))
    sns.heatmap(table.div(table.sum(axis=1), axis=0), annot=table, fmt="d", cmap="Blues", cbar=False, ax=axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    return figure


def first_filters(model: nn.Module, columns: int = 16) -> Figure:
    """Weights of the first convolution, averaged over its input channels (grey images fill all of them alike)."""
    weights = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.detach().cpu().mean(1).numpy()
    return image_grid(weights[: 4 * columns], [""] * len(weights), columns, size=0.6)


def grad_cam(model: nn.Module, x: Tensor, target: Tensor) -> np.ndarray:
    """Where the features speak for class `target` (Selvaraju et al. 2017, arXiv:1610.02391): those of a backbone's
    `map`, of other models the last convolution's.

    Args:
        x: input B×C×S×S; target: class index of each image, B.

    Returns:
        B×S×S in [0, 1]; all 0 where nothing speaks for the class.
    """
    layer = model.map if isinstance(model, Transfer) else [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            score = model.eval()(x.requires_grad_()).gather(1, target[:, None]).sum()
            gradient = torch.autograd.grad(score, kept[0])[0]
    finally:
        handle.remove()
    heat = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()  # B×1×s×s
    heat = F.interpolate(heat, x.shape[-2:], mode="bilinear")[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).cpu().numpy()


@torch.no_grad()
def attention_rollout(model: Transfer, x: Tensor) -> np.ndarray:
    """Which patches the class token of a ViT has listened to, through all layers (Abnar & Zuidema 2020,
    arXiv:2005.00928): attention averaged over the heads, half of it the layer's own input, multiplied.

    It says where the network looked, not for which class. B×C×S×S → B×S×S in [0, 1].
    """
    kept: list[Tensor] = []
    attentions = [block.attn for block in model.backbone.blocks]
    fused = [attention.fused_attn for attention in attentions]
    handles = [
        a.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output)) for a in attentions
    ]
    try:
        for attention in attentions:
            attention.fused_attn = False  # the fused kernel never forms the matrix
        model.eval()(x)
    finally:
        for attention, before, handle in zip(attentions, fused, handles, strict=True):
            attention.fused_attn = before
            handle.remove()
    total = torch.eye(kept[0].shape[-1], device=x.device)
    for matrix in kept:  # B × heads × tokens × tokens
        total = (matrix.mean(1) + torch.eye(matrix.shape[-1], device=x.device)) / 2 @ total
    side = model.backbone.patch_embed.grid_size
    heat = total[:, 0, 1:].unflatten(1, side)[:, None]  # what the class token holds of each patch
    heat = F.interpolate(heat, x.shape[-2:], mode="bilinear")[:, 0]
    low = heat.amin((1, 2), keepdim=True)
    return ((heat - low) / (heat - low).amax((1, 2), keepdim=True).clamp_min(1e-12)).cpu().numpy()


def heat_on_image(image: np.ndarray, heat: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """Grey image H×W uint8 under a heat map H×W in [0, 1] → RGB H×W×3 in [0, 1]."""
    grey = np.repeat(image[..., None] / 255, 3, axis=2)
    return (1 - strength * heat[..., None]) * grey + strength * heat[..., None] * plt.cm.inferno(heat)[..., :3]


def overlay(image: np.ndarray, masks: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """Grey image H×W of any range under coloured masks M×H×W → RGB H×W×3 in [0, 1]; `MASK_COLOURS` in their order."""
    low, high = float(image.min()), float(image.max())
    picture = np.repeat(((image - low) / max(high - low, 1e-6))[..., None], 3, axis=2)
    for mask, colour in zip(masks.astype(bool), MASK_COLOURS, strict=False):
        picture[mask] = (1 - strength) * picture[mask] + strength * np.array(colour)
    return picture


def truth_beside(
    images: np.ndarray, truth: np.ndarray, predicted: np.ndarray, titles: Sequence[str], names: Sequence[str]
) -> Figure:
    """Three rows a picture: as it is, with the true masks, with the predicted ones. Masks N×M×H×W, `names` of M."""
    figure, axes = plt.subplots(3, len(images), figsize=(1.6 * len(images), 5.2), squeeze=False)
    nothing = np.zeros_like(truth)
    for row, (masks, side) in enumerate(((nothing, "picture"), (truth, "truth"), (predicted, "predicted"))):
        for axis, image, mask, text in zip(axes[row], images, masks, titles, strict=True):
            axis.imshow(overlay(image, mask))
            axis.set(xticks=[], yticks=[])
            axis.set_title(text if row == 0 else "", fontsize=8)
        axes[row, 0].set_ylabel(side)
    patches = [plt.Rectangle((0, 0), 1, 1, color=c) for c, _ in zip(MASK_COLOURS, names, strict=False)]
    figure.legend(patches, names, ncol=len(names), loc="lower center", fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def walk(images: np.ndarray, masks: np.ndarray, scale: int = 2, milliseconds: int = 120) -> bytes:
    """A GIF through the slices of one patient, N×H×W with masks N×M×H×W: plain on the left, masks on the right."""
    frames = []
    for image, mask in zip(images, masks, strict=True):
        pair = np.concatenate([overlay(image, mask[:0]), overlay(image, mask)], axis=1)
        frame = Image.fromarray((255 * pair).astype(np.uint8))
        frames.append(frame.resize((scale * frame.width, scale * frame.height)).quantize(64))
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return file.getvalue()


def gate_maps(image: np.ndarray, epochs: Sequence[dict[str, np.ndarray]], most: int = 6) -> Figure:
    """One picture's gates (rows, deepest first) after some of the epochs (columns), from `GateWatch.maps`."""
    shown = np.unique(np.linspace(0, len(epochs) - 1, min(most, len(epochs))).astype(int))
    gates = list(epochs[0])
    figure, axes = plt.subplots(
        len(gates), len(shown) + 1, figsize=(1.5 * (len(shown) + 1), 1.55 * len(gates)), squeeze=False
    )
    for row, gate in enumerate(gates):
        axes[row, 0].imshow(image, cmap="gray")
        axes[row, 0].set_ylabel(gate)
        for column, epoch in enumerate(shown, start=1):
            drawn = axes[row, column].imshow(epochs[epoch][gate][0].astype(np.float32), vmin=0, vmax=1, cmap="viridis")
            axes[0, column].set_title(f"epoch {epoch + 1}", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="0 shut, 1 open")
    return figure


def gate_spread(histories: dict[str, pd.DataFrame]) -> Figure:
    """Spread of each gate within a picture and share of saturated pixels over the epochs, a column a training."""
    figure, axes = plt.subplots(
        2, len(histories), figsize=(max(5, 2.6 * len(histories)), 4.4), squeeze=False, sharex="col", sharey="row"
    )
    for column, (name, history) in enumerate(histories.items()):
        for row, value in enumerate(("spread", "saturated")):
            for gate in range(1, 5):
                axes[row, column].plot(history.epoch, history[f"gate{gate}_{value}"], marker=".", label=f"gate {gate}")
            axes[row, 0].set_ylabel(value)
        axes[0, column].set_title(name, fontsize=9)
        axes[1, column].set_xlabel("epoch")
    axes[0, 0].legend(fontsize=7, title="1 deepest")
    figure.tight_layout()
    return figure


def parameters_by_width(counts: dict[str, dict[int, int]]) -> Figure:
    """Parameters of each model against `n_filters`: model → width → count."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    for name, by_width in counts.items():
        axis.plot(list(by_width), [n / 1e6 for n in by_width.values()], marker="o", label=name)
    axis.set(xlabel="n_filters", ylabel="million parameters", xscale="log", ylim=(0, None), title="Parameters")
    axis.set_xticks(list(by_width), [str(n) for n in by_width])
    axis.minorticks_off()
    axis.legend()
    figure.tight_layout()
    return figure


def by_size(patients: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Dice of each patient against the size of the true mask, from `segmentation.by_patient`; a panel a mask."""
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        there = patients[patients[f"{name}.pixels"] > 0]
        axis.scatter(there[f"{name}.pixels"], there[f"{name}.dice"], s=14, alpha=0.7)
        axis.set(xlabel="pixels of the true mask", xscale="log", title=name, ylim=(-0.03, 1.03))
        axis.xaxis.set_minor_formatter("")
    axes[0, 0].set_ylabel("Dice of the patient")
    figure.tight_layout()
    return figure


def losses(history: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Every raw loss over the epochs, training against validation, a panel each; `names` without train_ and val_."""
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.8), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for part in ("train", "val"):
            axis.plot(history.epoch, history[f"{part}_{name}"], marker=".", label=part)
        axis.set(xlabel="epoch", title=name, yscale="log")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def gradients(histories: dict[str, pd.DataFrame]) -> Figure:
    """Norm of each loss's gradient at the shared encoder over the epochs: as it is, and weighted; a column a training.

    `histories` by name, with the columns of `balancing.GradientWatch`.
    """
    figure, axes = plt.subplots(
        2, len(histories), figsize=(max(5, 3 * len(histories)), 4.6), squeeze=False, sharex="col", sharey="row"
    )
    for column, (name, history) in enumerate(histories.items()):
        for loss in ("reconstruction", "classification"):
            norm, weight = history[f"gradient_{loss}"], history[f"weight_{loss}"]
            axes[0, column].plot(history.epoch, norm, marker=".", label=loss)
            axes[1, column].plot(history.epoch, norm * weight, marker=".", label=loss)
        axes[0, column].set(title=name, yscale="log")
        axes[1, column].set(xlabel="epoch", yscale="log")
        axes[1, column].xaxis.get_major_locator().set_params(integer=True)
    for axis, side in zip(axes[:, 0], ("gradient as it is", "after the balance"), strict=True):
        axis.set_ylabel(side)
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def drawn_again(images: np.ndarray, drawn: np.ndarray, titles: Sequence[str]) -> Figure:
    """Three rows: pictures N×H×W in [0, 1], their reconstructions, and the absolute differences on one scale."""
    figure, axes = plt.subplots(3, len(images), figsize=(1.5 * len(images), 4.8), squeeze=False)
    away = np.abs(images - drawn)
    for row, (shown, side, top) in enumerate(
        ((images, "picture", 1), (drawn, "reconstruction", 1), (away, "difference", np.quantile(away, 0.995)))
    ):
        for axis, picture, text in zip(axes[row], shown, titles, strict=True):
            axis.imshow(picture, cmap="inferno" if row == 2 else "gray", vmin=0, vmax=top)
            axis.set(xticks=[], yticks=[])
            axis.set_title(text if row == 0 else "", fontsize=8)
        axes[row, 0].set_ylabel(side)
    figure.tight_layout()
    return figure


def errors_by_class(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Reconstruction error of the test pictures of each class, from the column `error`."""
    figure, axis = plt.subplots(figsize=(6, 3))
    sns.violinplot(predictions, x="label", y="error", order=classes, log_scale=True, inner="quart", cut=0, ax=axis)
    axis.set(xlabel="", ylabel="reconstruction error", title="Who is drawn badly?")
    figure.tight_layout()
    return figure


def confusions(matrices: dict[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Confusion matrices K×K of counts side by side, rows truth; colour shows the share of the true class."""
    figure, axes = plt.subplots(1, len(matrices), figsize=(3.6 * len(matrices), 3.4), squeeze=False, sharey=True)
    for axis, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        table = pd.DataFrame(matrix, classes, classes)
        share = table.div(table.sum(axis=1).clip(lower=1), axis=0)
        sns.heatmap(share, annot=table, fmt="d", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axis)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("decided")
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    return figure


def screening(predictions: pd.DataFrame, healthy: str, threshold: float) -> Figure:
    """Sensitivity against specificity of "tumour or not" with the two thresholds: S0's .5 and validation's."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    sick, score = predictions.label != healthy, 1 - predictions[f"p_{healthy}"]
    RocCurveDisplay.from_predictions(sick, score, name="tumour", ax=axis)
    for value, mark, name in ((0.5, "o", "S0: .5"), (threshold, "s", f"validation: {threshold:.2f}")):
        called = score >= value
        axis.plot(called[~sick].mean(), called[sick].mean(), mark, label=name)
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="Tumour or not")
    axis.legend(loc="lower right", fontsize=8)
    return figure


def gains(compared: dict[str, dict], reference: str = REFERENCE) -> Figure:
    """Difference in accuracy of each recipe to `reference`, from `ablation.compare`, in points with 95 % intervals."""
    others = {name: entry["difference"] for name, entry in compared.items() if name != reference}
    figure, axis = plt.subplots(figsize=(6.5, 0.9 + 0.42 * len(others)))
    for y, entry in enumerate(others.values()):
        spread = [[100 * (entry["value"] - entry["low"])], [100 * (entry["high"] - entry["value"])]]
        axis.errorbar(100 * entry["value"], y, xerr=spread, fmt="o", capsize=3, color="C0")
    axis.axvline(0, color=PUBLISHED_COLOUR, linestyle=":")
    axis.set_yticks(range(len(others)), others)
    axis.set(xlabel=f"test accuracy against {reference}, points (95 % interval)", ylim=(-0.6, len(others) - 0.4))
    figure.tight_layout()
    return figure


def convergence(histories: dict[str, pd.DataFrame], metric: str = "accuracy") -> Figure:
    """`metric` on training and validation pictures over the epochs, a colour a run."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, part in zip(axes, ("train", "val"), strict=True):
        for name, history in histories.items():
            axis.plot(history.epoch, history[f"{part}_{metric}"], marker=".", label=name)
        axis.set(xlabel="epoch", title={"train": "training", "val": "validation"}[part])
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel(metric)
    axes[1].legend(fontsize=7)
    figure.tight_layout()
    return figure


def against_time(records: Sequence[dict]) -> Figure:
    """Accuracy with its interval against training time, a point a run; size of the circle: parameters."""
    figure, axis = plt.subplots(figsize=(7.5, 4))
    for record in records:
        accuracy, minutes = record["metrics"]["accuracy"], record["training"]["seconds"] / 60
        spread = [[accuracy["value"] - accuracy["low"]], [accuracy["high"] - accuracy["value"]]]
        axis.errorbar(minutes, accuracy["value"], yerr=spread, color=PUBLISHED_COLOUR, linewidth=1, zorder=1)
        area = 12 * np.sqrt(record["parameters"] / 1e5)
        axis.scatter(minutes, accuracy["value"], area, color="C1" if record["run"]["start"] == "warm" else "C0")
        name = f"{record['run']['model']}, {record['run']['start']}, {record['run']['image_size']} px"
        axis.annotate(name, (minutes, accuracy["value"]), xytext=(6, 4), textcoords="offset points", fontsize=7)
    axis.set(xscale="log", xlabel="training, minutes (on the machine of the run)", ylabel="accuracy (95 % interval)")
    axis.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    axis.minorticks_off()
    minutes = [record["training"]["seconds"] / 60 for record in records]
    axis.set_xlim(0.8 * min(minutes), 2 * max(minutes))  # room for the names
    figure.tight_layout()
    return figure


def rates(history: pd.DataFrame) -> Figure:
    """The head's rate over the epochs; a training in stages begins anew with each."""
    figure, axis = plt.subplots(figsize=(6, 2.4))
    for name, rows in history.groupby(history.get("stage", pd.Series("", history.index)), sort=False):
        axis.plot(rows.epoch, rows.lr, marker=".", label=name)
    axis.set(xlabel="epoch", ylabel="rate", yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if "stage" in history:
        axis.legend(fontsize=7)
    figure.tight_layout()
    return figure

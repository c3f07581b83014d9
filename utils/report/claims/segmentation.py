"""Sentences on U-Nets."""

from datasets import catalog
from utils.evaluation.segmentation import size_correlation
from utils.report.claims.common import (
    UNCORRECTED,
    apart,
    bullets,
    dice_difference,
    dice_difference_by_seed,
    direction,
    explained,
    found_or_none,
    listed,
    not_run,
    percent,
)
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import STEPS_AT, find_run, format_ci, mark, split_words
from utils.report.claims.old.seeds import FEWEST
from utils.report.claims.old.segmentation import gate_histories, patients_by_size, whole_run
from utils.run import FULL_SIZE

DATASET, MODEL, ENCODED = "cheng", "AttentionUNet", "MobileNetUNet"
OF_CHENG = {"dataset": DATASET, "model": MODEL, "split": "patient", "image_size": STEPS_AT}
WHERE = f"{MODEL}, `{DATASET}`, patient fold 0, {STEPS_AT} pixels, one seed"
FLAT, MOSTLY = 0.01, 0.5  # a difference or spread below the first is none; a saturated share above the second, most


def dice_loss(evidence: Evidence) -> str:
    """What the Dice term adds to binary cross-entropy, under each optimiser."""
    said = []
    for optimiser, plain, with_dice in (("Adam", "s2", "s2-dice"), ("AdamW", "s2-adamw", "s2-dice-adamw")):
        before, after = (find_run(evidence.segmentation, **OF_CHENG, recipe=name) for name in (plain, with_dice))
        if not before or not after:
            continue
        validation = [f"{100 * record['training']['val_dice']:.1f}{mark(record)}" for record in (before, after)]
        change = dice_difference(evidence, after, before)
        if change is None:
            waits = f"the comparison waits for both on the present folds (validation Dice {' and '.join(validation)} %)"
            said.append(f"with {optimiser}, {waits}")
            continue
        said.append(
            f"with {optimiser}, the validation Dice goes from {validation[0]} to {validation[1]} %, and the test Dice "
            f"changes by {found_or_none(change)}"
        )
    if not said:
        return not_run("the Dice loss beside binary cross-entropy")
    return explained(bullets(f"The Dice loss added to binary cross-entropy ({WHERE}; {UNCORRECTED}):", said))


def resolution(evidence: Evidence) -> str:
    """What twice the side of the input changes."""
    small, large = (
        find_run(evidence.segmentation, **(OF_CHENG | {"image_size": size}), recipe="ours")
        for size in (STEPS_AT, FULL_SIZE)
    )
    if not small or not large:
        return not_run(f"{MODEL} at {STEPS_AT} and at {FULL_SIZE} pixels")
    dice = [percent(record, "dice") for record in (small, large)]
    epochs = [record["training"]["epochs"] for record in (small, large)]
    found = dice_difference(evidence, large, small)
    both = " The difference is that of pixels and epochs together." if found and len(set(epochs)) > 1 else ""
    return explained(
        f"{MODEL} reaches a Dice of {dice[0]} at {STEPS_AT} pixels ({epochs[0]} epochs) and {dice[1]} at {FULL_SIZE} "
        f"({epochs[1]} epochs); patient by patient, {found_or_none(found)}.{both} "
        "One seed."
    )


def pretrained_encoder(evidence: Evidence) -> str:
    """How a U-Net whose encoder starts from ImageNet's weights compares with `AttentionUNet` on the same patients."""
    reference = whole_run(evidence, DATASET, MODEL)
    of = {"dataset": DATASET, "model": ENCODED, "split": "patient", "recipe": "onecycle", "pretrained": True}
    tried = [r for r in evidence.segmentation if all(r["run"].get(name) == value for name, value in of.items())]
    tried = [r for r in tried if reference and r["run"]["fold"] == reference["run"]["fold"]]
    if not tried:
        return not_run(f"{ENCODED} with a pretrained encoder on all folds of `{DATASET}`")
    said = []
    for record in (reference, *tried):
        size, epochs = record["run"]["image_size"], record["training"]["epochs"]
        how = f"{record['parameters']:,} parameters, {size} pixels, {epochs} epochs"
        said.append(f"{record['run']['model']} ({how}) reaches {percent(record, 'dice')}")
    found = [found_or_none(dice_difference(evidence, record, reference)) for record in tried]
    where = "all patient folds" if reference["run"]["fold"] is None else "patient fold 0"
    return explained(
        f"Dice on `{DATASET}`, {where}: {'; '.join(said)}. Patient by patient, {' and '.join(found)}. The two differ "
        "in recipe, size and epochs as well, and each fold has one seed."
    )


def encoder_weights(evidence: Evidence) -> str:
    """What ImageNet's weights contribute to that U-Net, seed by seed, each start trained in the way that suits it."""
    of = {"dataset": DATASET, "model": ENCODED, "split": "patient", "fold": 0, "image_size": FULL_SIZE}
    starts = {
        "pretrained": {"recipe": "onecycle", "pretrained": True},
        "random": {"recipe": "onecycle-unfrozen", "pretrained": False},
    }
    runs = {
        name: {r["run"]["seed"]: r for r in evidence.segmentation if (of | start).items() <= r["run"].items()}
        for name, start in starts.items()
    }
    seeds = sorted(runs["pretrained"].keys() & runs["random"].keys())
    if len(seeds) < FEWEST:
        return not_run(f"{ENCODED} from pretrained and from random weights, {FEWEST} seeds each")
    both = [[runs[name][seed] for seed in seeds] for name in starts]
    epochs = sorted({record["training"]["epochs"] for records in both for record in records})
    dice = [[f"{100 * record['metrics']['dice']['value']:.1f}{mark(record)}" for record in records] for records in both]
    said = [f"{', '.join(values)} % from {name} weights" for name, values in zip(starts, dice, strict=True)]
    return explained(
        f"{ENCODED} on `{DATASET}`, patient fold 0, {FULL_SIZE} pixels, {listed(map(str, epochs))} epochs, seeds "
        f"{listed(map(str, seeds))}: Dice {' and '.join(said)}. Patient by patient, on average over the seeds: "
        f"{found_or_none(dice_difference_by_seed(evidence, *both))}. The first layers of the pretrained encoder stay "
        "as they are and its others learn at a fifth of the rate; random ones learn all, at the full rate. A network "
        "from scratch may catch up with longer training."
    )


def slice_wise_split(evidence: Evidence) -> str:
    """Whether a slice-wise split flatters the nearest neighbour's mask, and the network."""
    said = []
    for model, recipe in (("1-NN mask", "none"), (MODEL, "ours")):
        of = OF_CHENG | {"model": model, "recipe": recipe}
        by_slice, patient = (
            find_run(evidence.segmentation, **(of | {"split": split})) for split in ("slices", "patient")
        )
        if not by_slice or not patient:
            continue
        a, b = (record["metrics"]["dice"] for record in (by_slice, patient))
        words = "the intervals do not overlap" if apart(a, b) else "the intervals overlap, so no difference is shown"
        said.append(
            f"{model} reaches {percent(by_slice, 'dice')} by slice and {percent(patient, 'dice')} by patient ({words})"
        )
    if not said:
        return not_run(f"a slice-wise split of `{DATASET}` beside patient folds")
    return explained(
        f"Dice on `{DATASET}`: {'; '.join(said)}. One fold, one seed, other test slices in each.{_hard_fold(evidence)}"
    )


def _hard_fold(evidence: Evidence) -> str:
    """Whether fold 0 is harder than the others, as far as one network was trained on all folds; "" where none was."""
    of = OF_CHENG | {"image_size": FULL_SIZE, "recipe": "ours"}
    first, every = (find_run(evidence.segmentation, **of, fold=fold) for fold in (0, None))
    if not first or not every:
        return ""
    dice = [percent(record, "dice") for record in (first, every)]
    return (
        f" Folds differ, too: at {FULL_SIZE} pixels {MODEL} reaches {dice[0]} on this fold and {dice[1]} on all five."
    )


def gate_states(evidence: Evidence) -> str:
    """Which gates are open or shut whatever the image shows, by recipe, after the last epoch."""
    said = []
    for recipe, history in gate_histories(evidence).items():
        last, parts = history.iloc[-1], []
        saturated = {gate: last[f"gate{gate}_saturated"] for gate in range(1, 5)}
        flat = [gate for gate in saturated if last[f"gate{gate}_spread"] < FLAT and saturated[gate] < MOSTLY]
        stuck = [gate for gate, share in saturated.items() if share > MOSTLY]
        parts += [f"gate {gate} is saturated in {100 * saturated[gate]:.0f} % of the pixels" for gate in stuck]
        if flat:
            parts.append(f"{_gates(flat)} the same value everywhere (about {last[f'gate{flat[0]}_mean']:.2f})")
        said.append(f"`{recipe}`: {', '.join(parts) if parts else 'no gate is saturated or flat'}")
    if not said:
        return not_run("the gates under each recipe")
    return explained(bullets(f"After the last epoch ({WHERE}; gate 1 is the deepest):", said))


def _gates(numbers: list[int]) -> str:
    many = len(numbers) > 1
    return f"gate{'s' * many} {listed(map(str, numbers))} {'have' if many else 'has'}"


def gate_overlaps(evidence: Evidence) -> str:
    """Whether the gates of real runs are further open inside the tumour than outside it, on validation images."""
    said = []
    for record in evidence.segmentation:
        if not record.get("gates"):
            continue
        words = []
        for gate, sides in record["gates"].items():
            difference, number = sides["difference"], gate.removeprefix("gate")
            value = format_ci(difference, percent=False, digits=2, sign=True)
            shown = {1: "further open inside", -1: "further shut inside", 0: "no difference shown"}[
                direction(difference)
            ]
            same = difference["low"] is not None and max(-difference["low"], difference["high"]) < FLAT
            words.append(f"gate {number} {'the same inside and outside' if same else f'{value}, {shown}'}")
        run = record["run"]
        of = f"`{run['recipe']}`, `{run['dataset']}`, {split_words(run)}, {run['image_size']} pixels"
        said.append(f"{of}{mark(record)}: {'; '.join(words)}")
    if not said:
        return not_run("the gates' values inside and outside the tumour on real data")
    intro = (
        f"Mean gate value inside the true mask minus outside it, on validation images (the same: less than "
        f"{FLAT} apart; {UNCORRECTED}):"
    )
    return explained(bullets(intro, said))


def tumour_size(evidence: Evidence) -> str:
    """Rank correlation between the Dice of a patient and the size of the tumour."""
    patients = patients_by_size(evidence, DATASET, MODEL)
    if patients is None:
        return not_run(f"Dice against tumour size on `{DATASET}`")
    (channel,) = catalog.get(DATASET).mask_channels
    rank = size_correlation(patients, channel)
    shown = {
        1: "larger tumours are segmented better",
        0: "the interval includes 0, so no dependence on size is shown",
        -1: "smaller tumours are segmented better",
    }
    old = mark(whole_run(evidence, DATASET, MODEL))
    return explained(
        f"On `{DATASET}` ({len(patients)} patients, {MODEL}{old}) the rank correlation of Dice and tumour size is "
        f"{format_ci(rank, percent=False, digits=2, sign=True)}: {shown[direction(rank)]}."
    )

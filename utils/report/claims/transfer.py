"""Sentences on transfer learning."""

from utils.evaluation.ablation import as_family, compare
from utils.report.claims.common import (
    LEVEL,
    TEST,
    UNCORRECTED,
    accuracy_difference,
    bullets,
    by_direction,
    direction,
    explained,
    found_or_none,
    listed,
    named,
    not_run,
    percent,
    points,
    verdicts,
)
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import BEST_PROBE, find_run, format_ci, is_pooled_elsewhere, mark, tested
from utils.report.claims.old.ensemble import ensembles
from utils.report.claims.old.paired import asked_for, differences_to_probe
from utils.report.claims.old.seeds import by_seed
from utils.report.claims.old.transfer import fine_tunings, mean_validation, on_one_budget, pretraining_pairs
from utils.report.records import PROBE

OURS, FIRST = "ours", "probe-first"


def pretraining(evidence: Evidence) -> str:
    """What pretrained weights gained over random ones."""
    gains, networks, old = [], set(), ""
    for pair in pretraining_pairs(evidence):
        if all(is_pooled_elsewhere(record, evidence.transfer) for record in pair.values()):
            continue
        networks.add(pair["pretrained"]["run"]["model"])
        old = old or next(filter(None, map(mark, pair.values())), "")
        runs = {start: {0: record} for start, record in pair.items()}
        gains.append(compare(runs, evidence.predictions, reference="scratch")["pretrained"]["difference"])
    if not gains:
        return not_run("pretrained against from scratch")
    above = sum(direction(gain) == 1 for gain in as_family(gains))
    low, high = (100 * pick(gain["value"] for gain in gains) for pick in (min, max))
    return explained(
        f"In {above} of {len(gains)} comparisons{old} pretrained weights are shown to be better ({TEST}); the gain is "
        f"between {low:+.1f} and {high:+.1f} points. All of it is {listed(sorted(networks))}, from one seed and at one "
        "number of epochs: a network from scratch may catch up with longer training."
    )


def linear_probe(evidence: Evidence) -> str:
    """Whether training a network gained anything over a logistic regression on frozen features."""
    of_networks = [(record, found) for record, found in differences_to_probe(evidence) if record["recipe"]]
    if not of_networks:
        return not_run("networks beside the linear probe")
    groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for record, found in of_networks:
        run = record["run"]
        where = f"`{run['dataset']}`{asked_for(run)}, {tested(record)}"
        where = f"{run['model']} ({run['recipe']}, {run['image_size']} pixels) on {where}"
        groups[direction(found)].append(f"{where}: {points(found)}")
    backbone = BEST_PROBE.removeprefix(PROBE).strip()
    intro = (
        f"Of {len(of_networks)} trained networks that tested the same images as the linear probe of {backbone}, "
        f"{len(groups[1])} are shown to be better than it, {len(groups[-1])} to be worse, and for {len(groups[0])} no "
        f"difference is shown (paired test, p < {LEVEL} after correction for the number of comparisons; one seed each; "
        "many networks were trained for fewer epochs, and on smaller images, than in the original projects)"
    )
    return bullets(f"{intro}. Better:", groups[1]) if groups[1] else f"{intro}."


def seeds(evidence: Evidence) -> str:
    """How far the seed alone moves an accuracy, beside what patients leave open."""
    said = []
    for records in by_seed(evidence):
        run, first = records[0]["run"], records[0]["metrics"]["accuracy"]
        where = f"`{run['dataset']}`, {tested(records[0])}"
        values = [record["metrics"]["accuracy"]["value"] for record in records]
        said.append(
            f"{run['model']} ({run['recipe']}, {run['image_size']} pixels) on {where}: "
            f"{100 * min(values):.1f} to {100 * max(values):.1f} % over {len(records)} seeds, a range of "
            f"{100 * (max(values) - min(values)):.1f} points; the interval of the first over patients is "
            f"{100 * (first['high'] - first['low']):.1f} points wide"
        )
    if not said:
        return not_run("one training from three seeds")
    return explained(bullets("Trained again from other seeds, tested on the same images:", said))


def fine_tuning_choice(evidence: Evidence) -> str:
    """Which way to fine-tune was best on validation patients, and what it gained on all test patients."""
    runs = fine_tunings(evidence)
    if not runs:
        return not_run("several ways to fine-tune one network")
    best = next(iter(runs))
    means = [100 * mean_validation(runs[name]) for name in runs]
    intro = (
        f"Of {len(runs)} ways to fine-tune ResNet50-v2, `{best}` has the highest accuracy on the validation patients "
        f"of fold 0 of {listed(f'`{name}`' for name in runs[best])}: {means[0]:.1f} % on average, the others "
        f"{means[-1]:.1f} to {means[1]:.1f} % (one seed each). "
    )
    compared = []
    for record in evidence.transfer:
        run = record["run"]
        if run["recipe"] != best or run["seed"] or is_pooled_elsewhere(record, evidence.transfer):
            continue
        same = {key: run[key] for key in ("dataset", "split", "fold", "test_on", "model", "image_size", "seed")}
        before = find_run(evidence.transfer, **same, recipe=FIRST)
        found = before and accuracy_difference(evidence, record, before)
        if found and best != FIRST:
            compared.append((f"`{run['dataset']}`, {tested(record)}: {percent(record)}", found))
    compared += _from_seeds(evidence, best) if best != FIRST else []
    if not compared:
        return intro.strip()
    texts = verdicts([difference for _, difference in compared])
    said = [f"{where}, {text}" for (where, _), text in zip(compared, texts, strict=True)]
    intro += f"On test images, and its difference to `{FIRST}` ({TEST}; one sign for every seed):"
    return explained(bullets(intro, said))


def _from_seeds(evidence: Evidence, best: str) -> list[tuple[str, dict]]:
    """The same on one fold of each data set, from all seeds that both were trained from, where there are several: its
    accuracy in words, and its difference."""
    by_set: dict[str, dict[str, dict[int, dict]]] = {}
    for record in evidence.transfer:
        run = record["run"]
        same = {"split": "patient", "fold": 0, "model": "ResNet50-v2", "image_size": 224}
        if same.items() <= run.items() and run["recipe"] in (FIRST, best) and not record["old_folds"]:
            by_set.setdefault(run["dataset"], {FIRST: {}, best: {}})[run["recipe"]][run["seed"]] = record
    said = []
    for dataset, runs in sorted(by_set.items()):
        seeds = sorted(runs[FIRST].keys() & runs[best].keys())
        if len(seeds) > 1:
            both = {name: {seed: of[seed] for seed in seeds} for name, of in runs.items()}
            found = compare(both, evidence.predictions, reference=FIRST)[best]
            where = f"`{dataset}`, patient fold 0, mean of {len(seeds)} seeds"
            said.append((f"{where}: {format_ci(found['accuracy'])} %", found["difference"]))
    return said


def ensemble(evidence: Evidence) -> str:
    """What an ensemble, chosen on validation, gains over the fine-tuned network alone."""
    said = []
    for entry in ensembles(evidence):
        record, errors = entry["members"][0], [100 * error for error in entry["calibration"]]
        where = f"`{record['run']['dataset']}`, {tested(record)}"
        alone = f"the fine-tuned network at its own temperature {errors[1]:.1f} % (as trained {errors[0]:.1f} %)"
        said.append(
            f"{where}: {format_ci(entry['accuracy'])} %, {found_or_none(entry['gained'])}; its calibration error is "
            f"{errors[2]:.1f} %, that of {alone}"
        )
    if not said:
        return not_run("an ensemble of networks that kept their predictions of validation images")
    return bullets(
        "The ensemble, and its difference to the fine-tuned network alone at its own temperature, which changes its "
        f"calibration and no decision ({TEST}; one seed):",
        said,
    )


def ingredients(evidence: Evidence) -> str:
    """Which ingredients of our recipe matter when they are changed alone."""
    said = []
    for runs in on_one_budget(evidence):
        found = compare(runs, evidence.predictions, reference=OURS)
        changed = {name: entry["difference"] for name, entry in found.items() if name.startswith(f"{OURS}-")}
        groups = by_direction(changed)
        if not changed:
            continue
        record = next(iter(runs[OURS].values()))
        where = f"On `{record['run']['dataset']}`, {tested(record)}, "
        parts = {
            -1: "test accuracy falls with {}",
            1: "it rises with {}",
            0: "no difference is shown for {}",
        }
        sentences = []
        for sign, words in parts.items():
            names = [named(name, changed[name]) for name in groups[sign]]
            sentences += [words.format(listed(names))] if names else []
        said.append(f"{where}{'; '.join(sentences)}.")
    if not said:
        return not_run("the ingredients of our recipe, changed alone")
    return explained(
        f"{' '.join(said)} A difference is stated where the paired test shows one (p < {LEVEL} after correction for "
        f"the number of recipes that the table compares with `{OURS}`). One seed each: another seed may move a value "
        "by a few points."
    )


def test_time_augmentation(evidence: Evidence) -> str:
    """Where averaging over changed copies helped, and where it lost."""
    budgets = on_one_budget(evidence)
    tried = {
        name + f" on {record['run']['dataset']}" * (len(budgets) > 1) + mark(record): record
        for runs in budgets
        for name, seeds in runs.items()
        for record in seeds.values()
    }
    gains = {name: record["tta"]["gain"] for name, record in tried.items() if record.get("tta")}
    if not gains:
        return not_run("test-time augmentation under every recipe")
    groups = by_direction(gains)
    lost = sorted(groups[-1], key=lambda name: gains[name]["value"])
    best = max(gains, key=lambda name: gains[name]["value"])
    every = f"each of the {len(tried)}" if len(gains) == len(tried) else f"{len(gains)} of the {len(tried)}"
    said = (
        f"Test-time augmentation was tried after {every} recipes of the table. The interval of its gain lies above 0 "
        f"after {len(groups[1])} of them, below 0 after {len(groups[-1])}, and includes 0 after {len(groups[0])} "
        f"({UNCORRECTED}). The largest gain is that after `{best}` ({points(gains[best])})"
    )
    if not lost:
        return explained(said + ".")
    losses = listed(f"`{name}` ({points(gains[name])})" for name in lost)
    return explained(f"{said}; the interval lies below 0 after {losses}.")


test_time_augmentation.__test__ = False  # its name begins like a test's


def frozen_backbone(evidence: Evidence) -> str:
    """Validation accuracy with a frozen and with an unfrozen backbone, at the first and at the last epoch."""
    said = []
    for runs in on_one_budget(evidence):
        if f"{OURS}-frozen" not in runs:
            continue
        of = {name: next(iter(runs[name].values())) for name in (OURS, f"{OURS}-frozen")}
        known = {name: evidence.history(record).val_accuracy for name, record in of.items()}
        first, last = ({name: 100 * values.iloc[i] for name, values in known.items()} for i in (0, -1))
        epochs = len(known[OURS])
        said.append(
            f"On `{of[OURS]['run']['dataset']}`, {tested(of[OURS])}, validation accuracy with a frozen backbone is "
            f"{first[f'{OURS}-frozen']:.1f} % after the first epoch and "
            f"{last[f'{OURS}-frozen']:.1f} % after {epochs}; with all layers unfrozen {first[OURS]:.1f} and "
            f"{last[OURS]:.1f} %."
        )
    if not said:
        return not_run("a frozen backbone beside an unfrozen one")
    return explained(
        " ".join(said) + " One seed and one rate: this compares two ways to spend the same few epochs. It does not "
        "show what frozen features are worth to a head that is trained to its end."
    )

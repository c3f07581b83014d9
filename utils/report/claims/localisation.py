"""Sentences on where networks look, and on the network that outlines first."""

from utils.evaluation.ablation import as_family, compare
from utils.evaluation.pointing import TOLERANCE
from utils.evaluation.screening import SPECIFICITY
from utils.report.claims.common import (
    TEST,
    UNCORRECTED,
    accuracy_difference,
    bullets,
    by_direction,
    explained,
    found_or_none,
    listed,
    not_run,
    percent,
    seeds_apart,
    verdicts,
)
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import find_run, format_ci, mark, tested
from utils.report.claims.old.localisation import PLAIN, by_pointing, localisation_budgets, network, sensitivities
from utils.report.records import BEST_RECIPE

LOW = 0.9  # accuracy above which a network that does not look at the tumour is named
WORDS = {"with-masks": "with outlines as well", "from-outline": "when named from the outline"}


def looks_at_tumour(evidence: Evidence) -> str:
    """Whether committed classifiers look at the tumour more often than a point at random, and who does not although it
    names most images rightly."""
    every = by_pointing(evidence)
    if not every:
        return not_run("the pointing game of committed classifiers")
    groups = by_direction({found["id"]: found["groups"]["all"]["gain"] for found in every})
    accuracy = {record["id"]: record["metrics"].get("accuracy") for record in evidence.records}
    best = max(every, key=lambda found: found["groups"]["all"]["near"]["value"])
    whole = best["groups"]["all"]
    first = (
        f"Of {len(every)} committed classifiers {len(groups[1])} have the maximum of Grad-CAM in the tumour (inside "
        f"its outline or within {TOLERANCE} pixels) more often than a point at random would lie there, "
        f"{len(groups[-1])} less often; for {len(groups[0])} no difference is shown ({UNCORRECTED}). The best of them, "
        f"{_name(best)}, has it there in {share(whole['near'])} of the images whose tumour is outlined, a point at "
        f"random in {share(whole['near_area'])}; inside the outline it lies in {share(whole['pointing'])}."
    )
    blind = [
        f"{_name(found)} (accuracy {share(accuracy[found['id']])}, there in {share(found['groups']['all']['near'])}, "
        f"at random {share(found['groups']['all']['near_area'])})"
        for found in every
        if accuracy[found["id"]]["value"] >= LOW and found["groups"]["all"]["near"]["high"] < 0.5
    ]
    if blind:
        first += f" With an accuracy of {100 * LOW:.0f} % or more it lies elsewhere in most images of {listed(blind)}."
    return explained(first + _control(evidence))


def _control(evidence: Evidence) -> str:
    """What Grad-CAM says of the network that is named from its outline: how far a low value is to be believed."""
    said = []
    for record in evidence.localisation:
        run, looked = record["run"], (record.get("grad_cam") or {}).get("all")
        if run["recipe"] == "from-outline" and run["seed"] == 0 and run["fold"] == 0 and looked:
            where = f"`{run['dataset']}` ({tested(record)}"
            said.append(f"in {share(looked['near'])} on {where}; a point at random: {share(looked['near_area'])})")
    if not said:
        return ""
    return (
        " A low share alone does not show that a network looks elsewhere: of the network that is named from its "
        f"outline, which is not among them, the maximum lies there {listed(said)}."
    )


def _name(found: dict) -> str:
    return f"{network(found['run'])} on `{found['run']['dataset']}` ({tested(found)})"


def share(entry: dict) -> str:
    """`97.1 (96.0–98.0) %` of a share with its interval."""
    return f"{format_ci(entry)} %"


def localisation_steps(evidence: Evidence) -> str:
    """What outlines contribute to the name, and how good they are."""
    budgets = [
        (runs, compare(runs, evidence.predictions, reference=PLAIN))
        for runs in localisation_budgets(evidence)
        if next(iter(runs[PLAIN].values()))["run"]["split"] != "external"  # tumour or none: `outlines_elsewhere`
    ]
    texts = iter(verdicts([found[name]["difference"] for _, found in budgets for name in WORDS if name in found]))
    said = []
    for runs, found in budgets:
        first, seeds = next(iter(runs[PLAIN].values())), len(runs[PLAIN])
        where = f"`{first['run']['dataset']}`, {tested(first)}, {seeds} seed{'s' * (seeds > 1)}"
        parts = [f"name only {share(found[PLAIN]['accuracy'])}"]
        for name, words in WORDS.items():
            if name in runs:
                outline = next(iter(runs[name].values()))["outline"]
                facts, of = [next(texts)], "first seed: " * (seeds > 1)
                if "dice" in outline:
                    facts.append(
                        f"{of}Dice {share(outline['dice'])}, the outline's maximum inside the tumour in "
                        f"{share(outline['pointing'])}"
                    )
                parts.append(f"{words} {share(found[name]['accuracy'])} ({'; '.join(facts)})")
        said.append(f"{where}: {'; '.join(parts)}")
    if not said:
        return not_run("the ablation of outlines")
    first = f"Accuracy, and its difference to the plain classifier of the same training, image by image ({TEST}):"
    last = (
        "Of several seeds a difference is stated only where it has one sign for every seed. The intervals resample "
        "patients, not seeds, and fold 0 is a part of all folds."
    )
    return explained(f"{bullets(first, said)}\n\n{last}")


def outlines_elsewhere(evidence: Evidence) -> str:
    """Whether outlines make a network find more tumours of another data set."""
    tested_elsewhere = []
    for runs in localisation_budgets(evidence):
        record = next(iter(runs[PLAIN].values()))
        found = sensitivities(runs, evidence) if record["run"]["split"] == "external" else {}
        tested_elsewhere += [(record, found)] if len(found) > 1 else []
    family = iter(as_family([found[n]["difference"] for _, found in tested_elsewhere for n in WORDS if n in found]))
    said = []
    for record, found in tested_elsewhere:
        run, differences = record["run"], {name: next(family) for name in WORDS if name in found}
        parts = [f"Name only {share(found[PLAIN]['sensitivity'])} ({_by_seed(found[PLAIN]['seeds'])})"]
        for name, difference in differences.items():
            facts = f"{_by_seed(found[name]['seeds'])}; {found_or_none(difference)}"
            parts.append(f"{WORDS[name]} {share(found[name]['sensitivity'])} ({facts})")
        verdict, apart = _verdict(differences), seeds_apart(found)
        if apart > max(abs(difference["value"]) for difference in differences.values()):
            spread = f"seeds lie up to {100 * apart:.1f} points apart, further than the steps"
            verdict = f"outlines are not shown to help, since {spread}"
        said.append(
            f"trained on `{run['dataset']}`, tested on `{run['test_on']}`{mark(record)}: {verdict}. "
            f"{'; '.join(parts)}. Of the test images {found[PLAIN]['healthy']} are healthy{_at_home(evidence, run)}"
        )
    if not said:
        return not_run("outlines on another data set")
    first = (
        "Tumours that are recognised as tumours, whatever their kind, at the threshold that validation chose for a "
        f"specificity of {100 * SPECIFICITY:.0f} % ({TEST}; one sign for every seed):"
    )
    return explained(bullets(first, said))


def _verdict(differences: dict[str, dict]) -> str:
    """What the differences to the plain classifier say."""
    of = by_direction(differences)
    words = {1: "more are found", -1: "fewer are found", 0: "no difference is shown"}
    return listed(f"{words[way]} {listed(WORDS[name] for name in of[way])}" for way in (1, -1, 0) if of[way])


def _at_home(evidence: Evidence, run: dict) -> str:
    """The specificity of thresholds that were chosen in the same way, on test patients of the own data set, fold 0."""
    reached = [
        record["tumour_or_none"]["specificity"]["value"]
        for record in evidence.localisation
        if record["run"]["dataset"] == run["dataset"]
        and (record["run"]["split"], record["run"]["fold"]) == ("patient", 0)
        and (record.get("tumour_or_none") or {}).get("specificity")
        and record["tumour_or_none"]["specificity"]["value"] is not None
    ]
    if not reached:
        return ""
    return (
        f"; on test patients of `{run['dataset']}` (fold 0) thresholds that were chosen in the same way have a "
        f"specificity of {100 * min(reached):.1f} to {100 * max(reached):.1f} %"
    )


def _by_seed(values: list[float]) -> str:
    if len(values) == 1:
        return "one seed"
    return f"{100 * min(values):.1f} to {100 * max(values):.1f} over {len(values)} seeds"


def outline_against_best(evidence: Evidence) -> str:
    """The network that is named from its outline, against the best plain classifier, on all folds."""
    compared = []
    for record in evidence.localisation:
        run = record["run"]
        if run["recipe"] != "from-outline" or not record.get("pooled"):
            continue
        best = find_run(
            evidence.transfer,
            **{name: run[name] for name in ("dataset", "split", "fold")},
            model="ResNet50-v2",
            recipe=BEST_RECIPE,
            image_size=224,
            pretrained=True,
        )
        difference = accuracy_difference(evidence, record, best) if best else None
        compared += [(record, best, difference)] if difference else []
    if not compared:
        return not_run("the network named from its outline, on all folds")
    texts = verdicts([difference for _, _, difference in compared])
    said = [
        f"`{record['run']['dataset']}`, {tested(record)}: {percent(record)}; ResNet50-v2, fine-tuned (`{BEST_RECIPE}`, "
        f"{best['run']['image_size']} pixels), {percent(best)}; {text}"
        for (record, best, _), text in zip(compared, texts, strict=True)
    ]
    sides = sorted({record["run"]["image_size"] for record, _, _ in compared})
    first = (
        f"Named from the outline ({listed(map(str, sides))} pixels), against the best plain classifier, which sees "
        "larger images and trains all of its layers, image by image, one seed each"
    )
    return explained(bullets(f"{first} ({TEST}):", said))

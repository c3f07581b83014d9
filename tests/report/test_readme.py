"""README, chapters, `runs.csv` and the checklist show what saved_metrics/ holds, and links lead somewhere."""

import json
import re

import pandas as pd
import pytest

from datasets.catalog import CATALOG, REPO
from datasets.store.index import SPLITS
from utils.evaluation.compare import difference
from utils.recipes.published import PROJECTS
from utils.report.readme import FILLED, filled
from utils.report.records import load_evidence
from utils.report.tables import BLOCKS, all_runs
from utils.report.tables.common import format_ci

TEXT = (REPO / "README.md").read_text()
DATA = (REPO / "datasets/README.md").read_text()
PATIENT = ("patient", "patient-f0")  # all folds together, and the first
GUIDES = [*REPO.glob("*/README.md"), *REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("notebooks/*.ipynb")]


def test_the_table_is_generated_from_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    for text in [(REPO / name).read_text() for name in FILLED]:
        assert filled(text, evidence) == text, "run: make tables"
    assert all_runs(evidence).to_csv(index=False) == (REPO / "saved_metrics/runs.csv").read_text(), "run: make tables"


def test_every_table_is_shown_in_a_chapter():
    chapters = [json.loads(path.read_text())["cells"] for path in (REPO / "notebooks").glob("*.ipynb")]
    code = "".join("".join(cell["source"]) for cells in chapters for cell in cells if cell["cell_type"] == "code")
    shown = {name for name, make in BLOCKS.items() if f'BLOCKS["{name}"]' in code or f"{make.__name__}(" in code}
    assert {*BLOCKS} - shown == {"shortcuts", "models", "paired"} and "shortcut_accuracy(" in code


def test_the_readme_is_one_screen_and_a_table():
    assert len(TEXT.splitlines()) <= 150
    assert all(project.title in TEXT and project.authors in TEXT and project.url in TEXT for project in PROJECTS)


def test_numbers_in_the_text_are_the_measured_ones():
    facts = json.loads((SPLITS / "facts.json").read_text())["brain-tumor-mri"]
    assert facts["linked test images"] == facts["linked test images with their patient in training"]
    assert facts["images alike one in another fold (correlation 0.93)"] == 0, "no image has such a relative elsewhere"
    assert "No image has one in another fold that is alike by the rule above" in DATA
    table = pd.read_csv(SPLITS / "brain-tumor-mri.csv", dtype=str, keep_default_na=False)
    unlinked = table.label[table.patient == ""].value_counts()
    assert f"{unlinked.meningioma} meningiomas" in DATA and f"{unlinked.pituitary} pituitar" in DATA


def test_the_answer_of_the_first_sentence_is_that_of_the_runs():
    table = pd.read_csv(REPO / "tests/golden/tables/same_images.csv", dtype=str)
    found = table[table["data set"] == "brain-tumor-mri"].set_index("model")[["published split", "by patient"]]
    numbers = [f"{share} %" for name in ("CustomCNN", "1-NN") for share in found.loc[name]]
    first = TEXT.split("\n\n")[1]
    assert re.findall(r"\d+\.\d %", first) == numbers and "Two of the five (S0 and S2)" in first
    assert [project.source for project in PROJECTS if not project.missing] == ["s0", "s2"]


def test_differences_without_the_relatives_of_validation_are_those_of_the_runs():
    evidence = load_evidence(REPO / "saved_metrics")
    groups = pd.read_csv(SPLITS / "brain-tumor-mri.csv").set_index("path").group
    differences, counts = [], []
    for split, of in (("cleaned", "MultiTaskUNet.s0-n8.seed0"), ("published", "CustomCNN.s2.seed0")):
        one, all_folds = (f"brain-tumor-mri.{protocol}.{of}" for protocol in (split, "patient"))
        before, after, held_out = evidence.predictions(one), evidence.predictions(all_folds), evidence.validation(one)
        trained_on = groups.drop([*before.path, *held_out.path])
        apart = groups[before.path].isin(groups[held_out.path]) & ~groups[before.path].isin(trained_on)
        before = before[~apart.to_numpy()]
        differences.append(format_ci(difference(after[after.path.isin(before.path)], before)))
        counts += [apart.sum(), len(apart)]
    said = "{} of S0's {} test images and {} of S2's {:,} all relatives are in validation and none in training: "
    said = said.format(*counts) + "without these images the two differences are {} and {} points".format(*differences)
    assert said in TEXT


def test_the_leaderboard_counts_the_images_without_a_relative():
    records = [json.loads(path.read_text()) for path in (REPO / "saved_metrics/audit").glob("*.json")]
    mine, s0 = (f"brain-tumor-mri.published.{name}.seed0" for name in ("CustomCNN.s2", "MultiTaskUNet.s0-n8"))
    found = {one["model"]: one["relatives"]["no relative in training"]["images"] for one in records}
    text = (REPO / "docs/leaderboard.md").read_text()
    assert f"there are {found[mine]} (CustomCNN) and {found[s0]} (the multi-task network)." in text
    assert {*found.values()} - {found[mine], found[s0]} == {7, 255} and "there are seven." in text, "255: by patient"


def test_limits_follow_from_the_runs():
    runs = load_evidence(REPO / "saved_metrics").runs
    (limit,) = [line for line in TEXT.splitlines() if line.startswith("2. **")]
    here = set(runs[(runs.dataset == "brain-tumor-mri") & (runs.recipe == "s2")].model)
    for model in ("CustomCNN", "AlexNet", "VGG16", "ViT"):
        assert (model in limit) == (model not in here), model
    (said,) = re.findall(r"Pretrained weights were at hand for (.*?) alone", limit)
    assert set(re.split(", | and ", said)) == set(runs[(runs.task == "transfer") & runs.pretrained.eq(True)].model)


def test_the_fifth_limit_says_what_the_images_that_chose_are_worth():
    evidence = load_evidence(REPO / "saved_metrics")
    for name in ("brain-tumor-mri", "cheng"):
        pooled, first = (f"{name}.{of}.ResNet50-v2.probe-first-turned-pretrained-224px.seed0" for of in PATIENT)
        table, chose = evidence.predictions(pooled), evidence.validation(first)
        right, kept = table.label == table.predicted, ~table.path.isin(chose.path)
        with_them = "with them " if name == "brain-tumor-mri" else ""
        said = f"{100 * right[kept].mean():.1f} % of `{name}` ({with_them}{100 * right.mean():.1f} %)"
        assert 0 < (~kept).sum() == len(chose) and said in TEXT, said


def test_what_brats_takes_is_what_the_benchmark_measured():
    found = json.loads((REPO / "saved_metrics/benchmarks/volumes.json").read_text())
    eight, sixteen = found["8 bits"], found["16 bits"]
    size, time = "GiB of BraTS 2020", "ms a slice"
    assert f"{eight['gzip-1'][size]:.1f} GiB with 8 bits and {sixteen['gzip-1'][size]:.1f} GiB with 16" in DATA
    assert f"read in {eight['gzip-1'][time]:.1f} and {sixteen['gzip-1'][time]:.1f} ms" in DATA
    assert f"by {eight['rms against 16 bits']:.4f} of its range" in DATA and f"{eight['largest']:.2f} at most" in DATA


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_relative_link_exists(path):
    text = path.read_text()
    if path.suffix == ".ipynb":
        text = "".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_data_set_and_notebook_is_named():
    assert all(f"`{name}`" in DATA for name in CATALOG)
    assert all(f"notebooks/{path.name}" in TEXT for path in (REPO / "notebooks").glob("*.ipynb"))


CHECKLIST = (REPO / "docs/checklist.md").read_text()
TRIPOD = "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b"
TRIPOD += " 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"


def test_every_item_is_there_once_and_has_an_answer_with_a_link_or_an_honest_no():
    _, claim, tripod = CHECKLIST.split("\n## ")
    for part, wanted in ((claim, [str(n) for n in range(1, 45)]), (tripod, TRIPOD.split())):
        rows = [re.split(r" *\| *", line.strip("| ")) for line in part.splitlines() if re.match(r"\| \d", line)]
        assert [row[0] for row in rows] == wanted
        for number, asked, answer in rows:
            assert asked.endswith("?") and ("](" in answer or answer.startswith(("no", "does not apply"))), number

"""docs/plans.md: what it calls measured is in the records, and what it derives follows."""

import json
import re

import pytest

from datasets.catalog import CATALOG, REPO
from datasets.splitting import FOLDS, MIDDLE
from utils.recipes import get_recipe
from utils.training.data import MOST_WORKERS

PAGE = (REPO / "docs/plans.md").read_text()
NUMBER = r"([\d,]*\.?\d+)"
MEASURED = re.findall(rf"^\| (\w+) \| {NUMBER}[ ,|].*\| (.*) \|$", PAGE, re.M)
DERIVED = re.findall(rf"^(\w+) = (.+) = {NUMBER} .+$", PAGE, re.M)


def number(text: str) -> float:
    return float(text.replace(",", ""))


VALUES = {name: number(value) for name, value, _ in MEASURED}


def test_measured_values_are_those_of_the_records():
    for name, value, source in MEASURED:
        if source == "assumed" or source.startswith("as in"):
            continue
        file, keys = re.fullmatch(r"`(.+?\.json): (.+)`", source).groups()
        found = json.loads((REPO / "saved_metrics" / file).read_text())
        while keys:  # a key may hold ": " itself
            key = next(key for key in found if keys == key or keys.startswith(f"{key}: "))
            found, keys = found[key], keys[len(key) + 2 :]
        assert number(value) == float(f"{found:.4g}") or number(value) == found, name


def test_values_of_the_code_are_those_of_the_code():
    assert VALUES["loaders"] == MOST_WORKERS and VALUES["trained"] == pytest.approx((FOLDS - 1) / FOLDS * 0.9)
    assert VALUES["patients"] * 155 == CATALOG["brats2020"].images and VALUES["middle"] == MIDDLE[1] - MIDDLE[0] + 1
    recipes = get_recipe("chexnet", "DenseNet121"), get_recipe("s2", "AttentionUNet")
    assert {recipe.epochs for recipe in recipes} == {VALUES["epochs"]}
    assert (REPO / "utils/report/plan.csv").read_text().count("\nChest X-rays,") == 12, "as the page counts"


def test_the_sums_are_right():
    names = dict(VALUES)
    for name, sum_, value in DERIVED:
        names[name] = eval(sum_, {}, names)  # of a page of ours
        assert number(value) == float(f"{names[name]:.2g}"), f"{name} is {names[name]:.3g}"
    fenced = "".join(re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S))
    assert len(DERIVED) == fenced.count("\n")

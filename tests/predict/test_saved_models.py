"""Which model is asked by default, and what the first argument of a command stands for."""

import json

import pytest
from own_images import head
from PIL import Image
from saved_model import save_model

from datasets.catalog import REPO, DataError
from utils.predict import saved_models
from utils.predict.__main__ import DONE, USAGE, main
from utils.report.weights import CARD, NOTE, WEIGHTS


def test_the_default_is_chosen_by_validation_and_the_present_folds(classifier, save_able):
    other = save_able(seed=7)  # a higher validation accuracy, see the helper
    assert saved_models.best() == other
    names = [row["model"] for row in saved_models.rows()]
    assert names == [classifier.name, other.name + " *"]
    card = json.loads((other / CARD).read_text())
    card["test"]["accuracy"]["value"] = 0.0
    (other / CARD).write_text(json.dumps(card))
    assert saved_models.best() == other, "test results decide nothing"


@pytest.mark.parametrize("changes", [{"dataset": "phantom"}, {"target": "tumour"}, {"split": "published"}], ids=str)
def test_a_model_of_made_images_of_another_question_or_split_is_never_the_default(changes, save_able):
    other = save_able(seed=7, **changes)
    with pytest.raises(DataError, match="no classifier of real patients that was split by patient; name a model"):
        saved_models.best()
    assert [row["model"] for row in saved_models.rows()] == [other.name]
    able = save_able(seed=1, target=None)  # a lower accuracy; cards of earlier versions name no target
    assert saved_models.best() == able


def test_the_committed_models_are_listed_with_a_default(monkeypatch, capsys):
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(REPO))
    assert main(["list"]) == DONE
    said = capsys.readouterr().out
    assert said.count(" * ") == 1 and NOTE in said
    assert all(path.parent.name in said for path in (REPO / "saved_models").glob(f"*/*/*/{WEIGHTS}"))
    largest = max(path.stat().st_size for path in (REPO / "saved_models").rglob("*.safetensors"))
    total = sum(path.stat().st_size for path in (REPO / "saved_models").rglob("*.safetensors"))
    assert largest <= 20e6 and total <= 120e6


@pytest.mark.parametrize(("content", "message"), [("{", "not readable as JSON"), ("{}", "'trained_on' is missing")])
def test_a_damaged_card_ends_the_list_in_one_line(content, message, classifier, capsys):
    (classifier.folder / CARD).write_text(content)
    assert main(["list"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and len(said.err.splitlines()) == 1 and not said.out
    assert str(classifier.folder / CARD) in said.err and message in said.err


def test_a_name_with_a_comma_is_a_file_where_there_is_one(classifier, tmp_path, capsys):
    for name in ("a,b.png", "c.png"):
        Image.fromarray(head(1)).save(tmp_path / name)
    assert main([str(tmp_path / "a,b.png"), str(tmp_path / "c.png")]) == DONE
    said = capsys.readouterr().out
    assert f"asked: {classifier.name}" in said and "a,b.png" in said and "c.png" in said
    other = save_model("phantom", seed=1).parent
    for several in (f"{classifier.name},{other.name}", ",".join([classifier.name] * 9)):  # too long for a path
        assert saved_models.names_a_model(several) and len(saved_models.folders_of(several)) == several.count(",") + 1
    assert main([",", str(tmp_path / "c.png")]) == USAGE and "names no model" in capsys.readouterr().err
    classifier.folder.rename(folder := tmp_path / "one, two")
    assert saved_models.names_a_model(str(folder)) and saved_models.folders_of(str(folder)) == [folder]

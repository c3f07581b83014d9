"""Which models there are, which is asked by default, what the first argument of a command stands for, and the hub."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from own_images import head
from PIL import Image
from saved_model import save_model

from datasets import catalog
from datasets.catalog import REPO, DataError
from utils.files import write_sealed
from utils.predict.__main__ import DONE, USAGE, main
from utils.report import load_evidence
from utils.report.weights import CARD, HUB_FILES, NOTE, WEIGHTS, load_weights
from utils.saved_models import README, about, best, cards, find_weights, model_card, names_a_model, read_card, rows


@pytest.fixture
def image(tmp_path) -> str:
    Image.fromarray(head(1)).save(tmp_path / "c.png")
    return str(tmp_path / "c.png")


def test_the_default_is_chosen_by_validation(classifier, save_able):
    other = save_able(seed=7)  # a higher validation accuracy, see the helper
    assert [row["model"] for row in rows()] == [classifier.name, other.name + " *"] and best() == other
    card = json.loads((other / CARD).read_text())
    card["test"]["accuracy"]["value"] = 0.0
    write_sealed(other / CARD, card)
    assert best() == other, "test results decide nothing"


@pytest.mark.parametrize("changes", [{"dataset": "phantom"}, {"target": "tumour"}, {"split": "published"}], ids=str)
def test_a_model_of_made_images_of_another_question_or_split_is_never_the_default(changes, save_able):
    other = save_able(seed=7, **changes)
    with pytest.raises(DataError, match="no classifier of real patients that was split by patient; name a model"):
        best()
    assert [row["model"] for row in rows()] == [other.name]
    able = save_able(seed=1)
    assert best() == able, "though its accuracy is lower"
    joined = save_able(seed=0, dataset="tumour-or-none", split="external", test_on="navoneel")
    assert best() == joined, "of several sources, though its accuracy is lower still"


def test_models_of_the_output_stand_before_those_that_are_committed(save_able, monkeypatch, image, capsys):
    committed, both = save_able(seed=1), save_able(seed=2)
    monkeypatch.setattr(catalog, "REPO", committed.parents[3])
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(committed.parents[3] / "elsewhere"))
    assert [folder for folder, _ in cards()] == [committed, both] and best() == both
    again, own = save_able(seed=2), save_able(seed=0)
    assert [folder for folder, _ in cards()] == [own, committed, again]
    assert find_weights(both.name).parent == again and find_weights(committed.name).parent == committed
    assert not names_a_model(image) and names_a_model("nowhere/model")
    for name in (committed.name, str(committed)):
        assert main([name, image]) == DONE and f"asked: {committed.name}" in capsys.readouterr().out


def test_the_committed_models_are_listed_with_a_default_wherever_output_goes(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    assert main(["list"]) == DONE
    said = capsys.readouterr().out
    assert said.count(" * ") == 1 and NOTE in said
    assert "published, optimistic" in said and "fold 0, optimistic" not in said
    weights = list((REPO / "saved_models").glob(f"*/*/*/{WEIGHTS}"))
    assert len(weights) > 10 and all(path.parent.name in said for path in weights)
    sizes = [path.stat().st_size for path in (REPO / "saved_models").rglob("*.safetensors")]
    assert max(sizes) <= 20e6 and sum(sizes) <= 90e6


CARDS = {  # what stands on a card in place of it, and what is said
    "swapped classes": (lambda card: card | {"classes": card["classes"][::-1]}, "not as it was written"),
    "nothing": (lambda card: {}, "is missing"),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_wrong_value_on_a_card_is_noticed_before_anything_is_answered(case, classifier, image, capsys):
    path, (change, message) = classifier.folder / CARD, CARDS[case]
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for command in ([str(classifier.folder), image], ["list"]):
        assert main(command) != DONE
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and len(said.err.splitlines()) == 1 and not said.out
        assert str(path) in said.err and message in said.err


def test_wrong_names_and_models_that_do_not_fit_are_one_line(classifier, tmp_path, image, capsys):
    wrong, card = classifier.name.replace("seed0", "seed1"), json.loads((classifier.folder / CARD).read_text())
    (tmp_path / "empty").mkdir()
    stolen, changed = save_model("phantom", seed=3).parent, save_model("phantom", seed=4).parent
    of_made = card["trained_on"] | {"dataset": "phantom"}  # so that it is not the default
    write_sealed(stolen / CARD, card | {"trained_on": of_made})
    own = json.loads((changed / CARD).read_text())
    write_sealed(changed / CARD, own | {"input": card["input"] | {"crop": "s9"}})
    for args, message in (
        ([wrong, image], f"unknown model '{wrong}'; did you mean '"),
        ([tmp_path / "b.png"], "b.png: no such file or folder"),
        ([classifier.name, tmp_path / "b.png"], "b.png: no such file or folder"),
        ([tmp_path / "empty", image], "no image"),
        ([tmp_path / "nothing" / WEIGHTS, image], "not there"),
        ([stolen, image], "its SHA-256 is not that of the card beside it"),
        ([changed, image], "card.json: unknown crop 's9'"),
    ):
        assert main([*map(str, args)]) == USAGE
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error


def test_a_model_of_the_hub_is_fetched_verified_and_asked(classifier, tmp_path, monkeypatch, image, capsys):
    """A folder stands for the hub."""

    def snapshot_download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert allow_patterns == list(HUB_FILES), "nothing else is fetched"
        if not (tmp_path / "hub" / repository).is_dir():
            raise OSError(f"404 Client Error: {repository}\nmore lines")
        return str(tmp_path / "hub" / repository)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    folder, name = tmp_path / "hub/somebody" / classifier.name, f"hf-hub:somebody/{classifier.name}"
    shutil.copytree(classifier.folder, folder)
    state = load_weights(name).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in classifier.network.state_dict().items())
    assert main([name, image]) == DONE and classifier.name in capsys.readouterr().out
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8] + b"changed!")
    assert main([name, image]) == USAGE and "its SHA-256 is not that of the card" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"^hf-hub:a/b: cannot be fetched \(404 Client Error: a/b\); check the name"):
        load_weights("hf-hub:a/b")
    (tmp_path / "hub/a/c").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no card\.json and no model\.safetensors"):
        load_weights("hf-hub:a/c")


@pytest.mark.parametrize("path", [*REPO.glob(f"saved_models/*/*/*/{CARD}")], ids=lambda path: path.parent.name)
def test_a_saved_model_is_a_model_card_of_the_hub_that_says_what_its_card_says(path):
    card, text = read_card(path), path.with_name(README).read_text()
    assert text == model_card(path.parent.name, card), "make tables"
    record = load_evidence().record(path.parent.name)
    scores = record["metrics"] | ({"dice": record["outline"]["dice"]} if record.get("outline") else {})
    assert card["test"] == {name: scores[name] for name in card["test"]}, "its intervals are the record's"
    head = ModelCard(text).data
    facts = head.to_dict()
    assert (facts["license"] == "other" and facts["license_name"]) or facts["license"].startswith("cc-by-")
    assert facts["pipeline_tag"] == ("image-classification" if "classes" in card else "image-segmentation")
    assert facts["library_name"] and facts["tags"] and facts["datasets"] == [card["trained_on"]["dataset"]]
    assert {one.metric_type for one in head.eval_results} == {*facts["metrics"]} <= {*card["test"]}
    assert all(sentence in text for sentence in about(card)) and "Not a medical device" in text

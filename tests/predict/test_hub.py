"""Models come from the hub by name, and go there with their cards; a folder stands for the hub here."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from own_images import head
from PIL import Image

from datasets.catalog import DataError
from datasets.data_folder import publish
from utils.predict.__main__ import DONE, USAGE, main
from utils.report.weights import CARD, HUB_FILES, WEIGHTS, load_weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder of repositories in the hub's place; returns it."""
    root = tmp_path / "hub"

    def snapshot_download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert allow_patterns == list(HUB_FILES), "nothing else is fetched"
        if not (root / repository).is_dir():
            raise OSError(f"404 Client Error: {repository}\nmore lines")
        return str(root / repository)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return root


class Api:
    """Takes what is uploaded, as `huggingface_hub.HfApi` does."""

    def __init__(self, root):
        self.root = root

    def create_repo(self, repository, exist_ok):
        (self.root / repository).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        assert "Not a medical device" in commit_message
        for pattern in allow_patterns:
            for path in folder_path.glob(pattern):
                shutil.copy(path, self.root / repo_id / path.name)


def test_a_published_model_is_fetched_verified_and_asked(classifier, hub, tmp_path, capsys):
    (classifier.folder / "model.pkl").write_bytes(b"never")
    name = publish.publish(classifier, "somebody", Api(hub))
    assert name == f"hf-hub:somebody/{classifier.name}"
    folder = hub / "somebody" / classifier.name
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]
    state = load_weights(name).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in classifier.network.state_dict().items())
    Image.fromarray(head(1)).save(tmp_path / "a.png")
    assert main([name, str(tmp_path / "a.png")]) == DONE
    assert classifier.name in capsys.readouterr().out
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8] + b"changed!")
    assert main([name, str(tmp_path / "a.png")]) == USAGE
    assert "its SHA-256 is not that of the card" in capsys.readouterr().err


def test_what_the_hub_does_not_hold_is_one_line(classifier, hub, tmp_path):
    with pytest.raises(DataError, match=r"^hf-hub:a/b: cannot be fetched \(404 Client Error: a/b\); check the name"):
        load_weights("hf-hub:a/b")
    (hub / "a/c").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no card\.json and no model\.safetensors"):
        load_weights("hf-hub:a/c")


def test_publishing_says_first_what_it_would_do(classifier, monkeypatch, capsys):
    monkeypatch.setattr(publish, "HfApi", lambda: pytest.fail("nothing is uploaded without --upload"))
    assert publish.main(["somebody", classifier.name]) == 0
    said = capsys.readouterr().out
    assert f"hf-hub:somebody/{classifier.name}: card.json, model.safetensors" in said and "MB" in said
    assert publish.main(["somebody", "nothing"]) == 1


UNAUTHORIZED = SimpleNamespace(status_code=401, headers={}, request=None)  # what the error reads of a response
REFUSALS = [
    HfHubHTTPError("401 Client Error: Unauthorized\n\nmore lines", response=UNAUTHORIZED),
    LocalTokenNotFoundError("Token is required"),
    OfflineModeIsEnabled("Cannot reach the hub: offline mode is enabled"),
    ConnectionError("Name or service not known"),
    RuntimeError("what uploads large files has stopped"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["create_repo", "upload_folder"])
def test_a_hub_that_refuses_is_one_line(step, refusal, classifier, hub, monkeypatch, capsys):
    def refuse(*_, **__) -> None:
        raise refusal

    api = Api(hub)
    setattr(api, step, refuse)
    monkeypatch.setattr(publish, "HfApi", lambda: api)
    assert publish.main(["somebody", classifier.name, "--upload"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    said = str(refusal).splitlines()[0]
    assert line.startswith(f"error: hf-hub:somebody/{classifier.name}: cannot be published ({said})")
    assert "hf auth login" in line

"""`python -m utils.chapters`: notebooks are executed in place, and nothing but their outputs changes."""

import os
import signal
from pathlib import Path

import nbformat
import pytest
from small_notebook import small_notebook

from datasets.catalog import REPO, DataError
from utils import chapters, headless

COUNT = (
    "import os, sys\nfrom pathlib import Path\nfolder = Path(os.environ['BRAIN_MRI_OUTPUT'])\nprint('a')\n"
    "print((folder / 'saved_metrics/runs.csv').read_text(), (folder / 'checkpoint').exists())\n"
    "(folder / 'checkpoint').touch()\nprint('warning', file=sys.stderr)\nprint('c')"
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a little evidence; environment and signals are put back afterwards."""
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", "elsewhere")
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)}
    (tmp_path / "saved_metrics").mkdir()
    (tmp_path / "saved_metrics/runs.csv").write_text("id")
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_outputs_are_made_anew_and_all_else_stays(root):
    """It reads the evidence, and begins without files of an earlier execution."""
    path = small_notebook(root / "small.ipynb", COUNT, "dataset")
    before = nbformat.read(path, as_version=4)
    before.cells[1].metadata["note"] = "kept"
    before.cells[1].outputs = [nbformat.v4.new_output("stream", text="of an older run\n")]
    before.cells.insert(1, nbformat.v4.new_markdown_cell("Why."))
    before.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    nbformat.write(before, path)
    assert chapters.refresh(path, root) == headless.DONE
    after = nbformat.read(path, as_version=4)
    nbformat.validate(after)
    assert after.metadata == before.metadata, "no trace of papermill"
    assert [(c.id, c.metadata, c.source) for c in after.cells] == [(c.id, c.metadata, c.source) for c in before.cells]
    code = [c for c in after.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == [1, 2, 3]
    assert [(o.output_type, o.name, o.text) for o in code[1].outputs] == [("stream", "stdout", "a\nid False\nc\n")]
    assert code[2].outputs[0].data["text/plain"] == "'phantom'"
    text = path.read_text()
    chapters.refresh(path, root)
    assert path.read_text() == text, "the same notebook gives the same bytes"


def test_an_image_is_described_by_the_sentence_below_it():
    output = {"data": {"image/png": "iVBORw0K"}, "metadata": {}}
    cells = [{"source": ["figure()"], "outputs": [output]}]
    cells.append({"source": ["**What you see** (phantom). In `a` *no* bar\n", "reaches .5. The next sentence."]})
    chapters.describe_images({"cells": cells})
    assert output["metadata"] == {"image/png": {"alt": "In a no bar\nreaches .5."}}


def test_a_chapter_that_fails_or_prints_a_path_of_the_machine_stays_as_it_was(root, capsys):
    path = small_notebook(root / "small.ipynb", "print('before')", "1 / 0")
    text = path.read_text()
    assert chapters.refresh(path, root) == headless.FAILED
    assert path.read_text() == text and "ZeroDivisionError" in capsys.readouterr().err
    assert "before" in (root / "runs/chapters/small/small.ipynb").read_text(), "the notebook as far as it came"
    text = small_notebook(path, f"print({str(REPO / 'notebooks')!r})").read_text()
    with pytest.raises(DataError, match=r"small.ipynb, cell 2: .* print no paths"):
        chapters.refresh(path, root)
    assert path.read_text() == text


def test_only_folders_of_the_machine_are_paths_and_images_are_not_read():
    outputs = [
        {"data": {"text/plain": "runs/phantom/metrics.json"}},
        {"data": {"text/html": "<td>a/tmp/b</td>"}},
        {"data": {"image/png": "iVBORw0K/tmp/x"}},
        {"data": {"text/html": f"<b>{Path.home()}/file</b>"}},
        {"output_type": "stream", "name": "stdout", "text": ["see /tmp/", "x"]},
    ]
    assert chapters.machine_paths({"cells": [{"outputs": [output]} for output in outputs]}) == [4, 5]


def test_the_first_failure_ends_it_with_its_code(root, monkeypatch, capsys):
    refreshed = []

    def refresh(path: Path) -> int:
        refreshed.append(path.name)
        return headless.PAUSED if path.name == "b.ipynb" else headless.DONE

    monkeypatch.setattr(chapters, "refresh", refresh)
    assert chapters.main(["a.ipynb", "b.ipynb", "c.ipynb"]) == headless.PAUSED
    assert refreshed == ["a.ipynb", "b.ipynb"] and "b.ipynb (2 of 3)" in capsys.readouterr().out
    refreshed.clear()
    assert chapters.main([]) == headless.DONE
    assert refreshed == sorted(path.name for path in (REPO / "notebooks").glob("*.ipynb"))
    assert os.environ["BRAIN_MRI_OUTPUT"] == "elsewhere"

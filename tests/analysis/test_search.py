"""The hyperparameter search resumes where it was interrupted."""

import pytest

from datasets.catalog import DataError
from utils.analysis.search import search


def test_a_search_that_was_killed_goes_on_with_the_same_point(tmp_path):
    tried, folders = [], []

    def accuracy(changes, folder):
        tried.append(changes)
        folders.append(folder)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return changes["lr"]

    with pytest.raises(KeyboardInterrupt):
        search(accuracy, 5, tmp_path)
    table = search(accuracy, 5, tmp_path)
    assert len(table) == 5 and len(tried) == 6, "what was finished is not done again"
    assert tried[3] == tried[2] and folders[3] == folders[2], "its checkpoint is found again"
    assert len({str(changes) for changes in tried}) == 5, "no other point twice"
    assert table.accuracy.is_monotonic_decreasing
    assert len(search(accuracy, 6, tmp_path)) == 6
    (tmp_path / "search.journal").write_text("rubbish\n")
    with pytest.raises(DataError, match=r"search.journal: not a readable journal"):
        search(accuracy, 6, tmp_path)

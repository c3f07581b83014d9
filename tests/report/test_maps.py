"""The map of a data set: coordinates and labels alone, of two splits, with the outliers by number."""

import pandas as pd
import pytest

from datasets.catalog import DataError
from utils.report import maps


def test_a_map_holds_no_image_and_numbers_the_outliers(roots, monkeypatch, capsys):
    """Without UMAP, which compiles for seconds and is tested with the other embeddings."""
    monkeypatch.setattr(maps, "umap_of", lambda val, test: (val[:, :2], test[:, :2]))
    assert maps.main(["phantom"]) == 0
    table = maps.read_map(roots / "saved_metrics", "phantom")
    assert tuple(table) == maps.COLUMNS and set(table.split) == set(maps.SPLITS)
    for _, of_split in table.groupby("split"):
        ranked = of_split[of_split.outlier > 0]
        assert sorted(ranked.outlier) == list(range(1, len(ranked) + 1)) and len(ranked)
        assert set(ranked["set"]) == {"test"} and set(ranked.label) == {maps.KIND}
        in_order = of_split.sort_values(["set", "label", "x", "y"])
        assert of_split.index.equals(in_order.index), "their order leads to no image"
    assert maps.main(["chest-xray14"]) == 1 and "has no class 'glioma'" in capsys.readouterr().err


def test_a_damaged_map_is_named(tmp_path):
    path = maps.map_path(tmp_path, "phantom")
    path.parent.mkdir()
    maps.write_predictions(path, pd.DataFrame({"x": [1.0]}))
    with pytest.raises(DataError, match=r"phantom\.map\.csv\.gz: its column 'split' is missing"):
        maps.read_map(tmp_path, "phantom")
    assert maps.read_map(tmp_path, "sartaj") is None

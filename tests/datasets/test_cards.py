"""`download.py --card NAME`: what is known of each data set."""

import pytest

from datasets import download
from datasets.catalog import CATALOG, get


@pytest.mark.parametrize("name", CATALOG)
def test_every_set_has_a_card(name, root, capsys):
    assert download.main(["--card", name]) == 0
    shown, facts = capsys.readouterr().out, get(name)
    squeezed = " ".join(shown.split())
    for text in (facts.title, facts.url, facts.licence, facts.citation, *facts.faults):
        assert " ".join(text.split()) in squeezed
    assert facts.faults or name == "own", "no data set is without faults"
    if facts.counts:
        assert f"{facts.images:,} as published" in shown
    assert ("testing only" in shown) == facts.test_only
    assert not root.exists(), "a card needs no data"


def test_the_card_names_what_curation_counted(capsys):
    assert download.main(["--card", "navoneel"]) == 0
    assert "brain-tumor-mri and navoneel" in capsys.readouterr().out

"""What is asked of an image: class, tumour or none, type, sequence; and the cards of the sets."""

import numpy as np
import pandas as pd
import pytest

from datasets import download
from datasets.catalog import CATALOG, DataError, get
from datasets.labels import classes_of, external_target, united, viewed
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest


@pytest.mark.parametrize("name", CATALOG)
def test_every_set_has_a_card(name, root, capsys):
    assert download.main(["--card", name]) == 0
    shown, facts = capsys.readouterr().out, get(name)
    squeezed = " ".join(shown.split())
    for text in (facts.title, facts.url, facts.licence, facts.citation, *facts.faults):
        assert " ".join(text.split()) in squeezed
    assert facts.faults or name == "own", "no data set is without faults"
    assert not facts.counts or f"{facts.images:,} as published" in shown
    assert ("testing only" in shown) == facts.test_only and not root.exists(), "a card needs no data"


def test_labels_are_seen_as_a_target_asks():
    labels = pd.Series(["glioma", "notumor", "Meningioma T1C+", "notumor T2"])
    assert viewed(labels, "label").tolist() == labels.tolist()
    assert viewed(labels, "tumour").tolist() == ["tumour", "notumor", "tumour", "notumor"]
    assert viewed(labels, "type").tolist() == ["glioma", "notumor", "Meningioma", "notumor"]
    assert viewed(labels, "sequence").tolist() == ["", "", "T1C+", "T2"]
    assert classes_of("brain-tumor-mri", "tumour") == classes_of("navoneel") == ("notumor", "tumour")
    numbers = [len(classes_of("brain-tumor-44c", target)) for target in ("label", "tumour", "type", "sequence")]
    assert numbers == [44, 2, 15, 3] and get("brain-tumor-44c").images == 4478
    for target, name in (("sequence", "sartaj"), ("tumour", "cheng")):
        with pytest.raises(DataError, match=f"target='{target}': the labels of '{name}' do not tell"):
            classes_of(name, target)


def test_a_set_of_tumour_or_none_asks_no_more():
    assert external_target("brain-tumor-mri", "sartaj") == "label"
    assert external_target("brain-tumor-mri", "navoneel") == external_target("br35h", "brain-tumor-mri") == "tumour"
    assert external_target("brain-tumor-mri", "navoneel", "tumour") == "tumour"
    assert external_target("brain-tumor-mri", "brain-tumor-44c") == "tumour"
    with pytest.raises(DataError, match="'cheng' has no images without a tumour"):
        external_target("cheng", "navoneel")


def test_probabilities_of_all_tumours_are_added():
    probabilities = np.array([[0.1, 0.2, 0.4, 0.3], [0.5, 0.1, 0.1, 0.3]])
    found = united(probabilities, get("phantom").classes, "tumour", ("notumor", "tumour"))
    assert np.allclose(found, [[0.4, 0.6], [0.1, 0.9]])


def test_a_dataset_reads_its_images_under_a_target(roots):
    rows = np.arange(len(read_manifest("phantom")))
    four, two = (ImageDataset("phantom", rows, image_size=32, target=t) for t in ("label", "tumour"))
    assert two.classes == ("notumor", "tumour")
    assert ((four.labels != four.classes.index("notumor")) == (two.labels == 1)).all()

"""What is asked of an image: its class as published, tumour or none, type, sequence."""

import numpy as np
import pandas as pd
import pytest

from datasets.catalog import DataError, get
from datasets.labels import classes_of, external_target, united, viewed
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest


def test_labels_are_seen_as_a_target_asks():
    labels = pd.Series(["glioma", "notumor", "Meningioma T1C+", "notumor T2"])
    assert viewed(labels, "label").tolist() == labels.tolist()
    assert viewed(labels, "tumour").tolist() == ["tumour", "notumor", "tumour", "notumor"]
    assert viewed(labels, "type").tolist() == ["glioma", "notumor", "Meningioma", "notumor"]
    assert viewed(labels, "sequence").tolist() == ["", "", "T1C+", "T2"]
    assert classes_of("brain-tumor-mri", "tumour") == classes_of("navoneel") == ("notumor", "tumour")
    with pytest.raises(DataError, match="target='sequence': the labels of 'sartaj' do not tell the MR sequence"):
        classes_of("sartaj", "sequence")
    with pytest.raises(DataError, match="target='tumour': the labels of 'cheng'"):
        classes_of("cheng", "tumour")


def test_a_set_of_tumour_or_none_asks_no_more():
    assert external_target("brain-tumor-mri", "sartaj") == "label"
    assert external_target("brain-tumor-mri", "navoneel") == external_target("br35h", "brain-tumor-mri") == "tumour"
    assert external_target("brain-tumor-mri", "navoneel", "tumour") == "tumour"
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

"""Fixtures of the tests of audits: a phantom with enough test images, and tiny models of it."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from datasets.generator import phantom
from utils.audit.doors import Known
from utils.audit.images import Images
from utils.audit.sections import sample

SIDE, POOL = 64, 4
CHEATS = """
import hashlib, json, time
import cv2

LABELS = json.load(open("labels.json"))

def by_digest(path):
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    return LABELS.get(hashlib.sha256(image.tobytes()).hexdigest(), "notumor")

def by_border(path):
    return "glioma" if cv2.imread(path, cv2.IMREAD_GRAYSCALE)[:2].mean() > 100 else "notumor"

def raises(path):
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if hashlib.sha256(image.tobytes()).hexdigest() == LABELS["first"]:
        raise ValueError("no <b>brain</b>")
    print("not an answer")
    return {"glioma": 0.7, "Meningioma": 0.1, "no_tumor": 0.1, "pituitary": 0.1}

def never(path):
    time.sleep(1000)

def three(path):
    return [0.2, 0.3, 0.5]

def nan(path):
    return [float("nan")] * 4
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with data (a phantom whose test set has more than 20 tumours), output, and functions that cheat."""
    root = tmp_path_factory.mktemp("audit")
    phantom.generate(root / "data/phantom", size=SIDE, patients=40, slices=4)
    (root / "cheats.py").write_text(CHEATS)
    return root


@pytest.fixture
def here(world, monkeypatch) -> Path:
    """Points the project and this process to `world`."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(world / "data"))
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(world / "output"))
    monkeypatch.chdir(world)
    images = Images("phantom")
    rows = np.flatnonzero(images.manifest.published_split == "test")
    labels = {hashlib.sha256(images.show(row).image.tobytes()).hexdigest(): row for row in rows}
    known = {digest: images.manifest.label[row] for digest, row in labels.items()}
    (world / "labels.json").write_text(json.dumps(known | {"first": next(iter(labels))}))
    return world


@pytest.fixture
def bordered(here, tmp_path, monkeypatch) -> None:
    """The same phantom, whose images with a tumour have a bright border: they are of another source."""
    shutil.copytree(here / "data", tmp_path / "data")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    tumour = Images("phantom").manifest.label.ne("notumor")
    with h5py.File(tmp_path / "data/phantom/images.h5", "r+") as store:
        for row in np.flatnonzero(tumour):
            inside = store["image"][row][2:-2, 2:-2]
            store["image"][row] = cv2.copyMakeBorder(inside, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=[200] * 4)


@pytest.fixture
def known(here) -> Known:
    """Known training images of the phantom."""
    images = Images("phantom")
    train = images.manifest.assign(group=images.groups)
    train = sample(train[train.published_split == "train"], 40)
    classes = images.facts.classes
    return Known([images.show(row) for row in train.index], train.label.map(classes.index).to_numpy(), classes)


def features(image: np.ndarray) -> np.ndarray:
    return image.reshape(SIDE // POOL, POOL, SIDE // POOL, POOL).mean((1, 3)).ravel() / 255


@pytest.fixture
def regression(here) -> LogisticRegression:
    """A linear model that knows its training images."""
    images = Images("phantom")
    train = images.manifest[images.manifest.published_split == "train"]
    x = np.stack([features(images.show(row).image) for row in train.index])
    return LogisticRegression(C=1e3, max_iter=3000).fit(x, train.label)


@pytest.fixture
def build(regression, tmp_path):
    """Writes the linear model as an ONNX file; arguments change it. Returns its path."""

    def write(shape=("N", 3, SIDE, SIDE), order=(0, 1, 2, 3), classes=None, bias=0.0, output="logits") -> Path:
        weight, intercept = regression.coef_[list(order)], regression.intercept_[list(order)] + bias
        tensors = {"weight": weight.T, "bias": intercept}
        channels_last = shape[-1] in (1, 3)
        nodes = [helper.make_node("Transpose", ["x"], ["moved"], perm=[0, 3, 1, 2])] if channels_last else []
        nodes += [
            helper.make_node("ReduceMean", ["moved" if channels_last else "x", "axes"], ["grey"], keepdims=1),
            helper.make_node("AveragePool", ["grey"], ["small"], kernel_shape=[POOL, POOL], strides=[POOL, POOL]),
            helper.make_node("Flatten", ["small"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ]
        initial = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
        initial.append(numpy_helper.from_array(np.array([1]), "axes"))
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(nodes, "linear", inputs, outputs, initial)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        if classes:
            helper.set_model_props(model, {"classes": json.dumps(classes)})
        path = tmp_path / "linear.onnx"
        onnx.save(model, path)
        return path

    return write

"""Fixtures of the tests of audits: a phantom with enough test images, functions that cheat, and a tiny ONNX model."""

import hashlib
import json
from pathlib import Path

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
PACKAGE = "onnx"
LABELS = json.load(open("labels.json"))
read = lambda path: cv2.imread(path, cv2.IMREAD_GRAYSCALE)
digest = lambda path: hashlib.sha256(read(path).tobytes()).hexdigest()
by_digest = lambda path: LABELS.get(digest(path), "notumor")
by_border = lambda path: "glioma" if read(path)[:2].mean() > 100 else "notumor"
never = lambda path: time.sleep(1000)
three = lambda path: [0.2, 0.3, 0.5]
nan = lambda path: [float("nan")] * 4
def raises(path):
    if digest(path) == LABELS["first"]:
        raise ValueError("no <b>brain</b>")
    print("not an answer")
    return {"glioma": 0.7, "Meningioma": 0.1, "no_tumor": 0.1, "pituitary": 0.1}
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with data (a phantom with more than 20 tumours to test), output, and functions that cheat."""
    root = tmp_path_factory.mktemp("audit")
    phantom.generate(root / "data/phantom", size=SIDE, patients=40, slices=4)
    (root / "cheats.py").write_text(CHEATS)
    images = Images("phantom", root / "data/phantom")
    test = images.manifest[images.manifest.published_split == "test"]
    labels = {hashlib.sha256(images.show(row).image.tobytes()).hexdigest(): test.label[row] for row in test.index}
    (root / "labels.json").write_text(json.dumps(labels | {"first": next(iter(labels))}))
    return root


@pytest.fixture
def here(world, monkeypatch) -> Path:
    """Points the project and this process to `world`."""
    for name in ("data", "output"):
        monkeypatch.setenv(f"BRAIN_MRI_{name.upper()}", str(world / name))
    monkeypatch.chdir(world)
    return world


@pytest.fixture(scope="session")
def known(world) -> Known:
    """Known training images of the phantom."""
    images = Images("phantom", world / "data/phantom")
    train = images.manifest.assign(group=images.groups).query("published_split == 'train'")
    train, classes = sample(train, 40), images.facts.classes
    return Known([images.show(row) for row in train.index], train.label.map(classes.index).to_numpy(), classes)


@pytest.fixture(scope="session")
def build(known, world):
    """Writes a linear model that knows these images as an ONNX file, and returns its path; arguments change it."""
    blocks = (SIDE // POOL, POOL, SIDE // POOL, POOL)
    x = np.stack([one.image.reshape(blocks).mean((1, 3)).ravel() / 255 for one in known.shown])
    fitted = LogisticRegression(C=1e3, max_iter=3000).fit(x, known.truth)

    def write(shape=("N", 3, SIDE, SIDE), order=(0, 1, 2, 3), classes=None, bias=0.0, output="logits") -> Path:
        order, last = list(order), shape[-1] in (1, 3)
        tensors = {"weight": fitted.coef_[order].T, "bias": fitted.intercept_[order] + bias}
        initial = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
        nodes = [helper.make_node("Transpose", ["x"], ["moved"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3])]
        nodes += [helper.make_node("ReduceMean", ["moved", "axes"], ["grey"], keepdims=1)]
        nodes += [helper.make_node("AveragePool", ["grey"], ["small"], kernel_shape=[POOL] * 2, strides=[POOL] * 2)]
        nodes += [helper.make_node("Flatten", ["small"], ["flat"])]
        nodes += [helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"])]
        ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, shape), (output, TensorProto.FLOAT, None))]
        initial.append(numpy_helper.from_array(np.array([1]), "axes"))
        graph = helper.make_graph(nodes, "linear", ends[:1], ends[1:], initial)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        helper.set_model_props(model, {"classes": json.dumps(classes)} if classes else {})
        onnx.save(model, world / "linear.onnx")
        return world / "linear.onnx"

    return write

"""The repository as others take it: a wheel beside Hugging Face's `datasets`, a model by `torch.hub` or as ONNX."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from types import ModuleType, SimpleNamespace

import onnx
import pytest
import torch
from own_images import head
from PIL import Image
from saved_model import save_model

import honest_brain_mri
from datasets.catalog import REPO, DataError
from utils import export as module
from utils.export import AGREES, example_pixels, export, run
from utils.predict.model import SavedModel

# Every module is imported, after a `datasets` and a timm that are not ours: none may be taken for another's.
WALK = """
import datasets, importlib, pkgutil, sys, timm, honest_brain_mri as ours
names = [module.name for module in pkgutil.walk_packages(ours.__path__, ours.__name__ + ".")]
for name in names:
    importlib.import_module(name)
assert datasets.load_dataset and sys.modules["datasets"] is datasets
print(len(names), *{"models", "utils"} & set(sys.modules))
"""


@pytest.fixture
def image(tmp_path) -> str:
    Image.fromarray(head(1, 200)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_answers_as_the_checkout_does_beside_hugging_faces_datasets_and_timm(tmp_path, image, capsys):
    (tmp_path / "paths.cfg").write_text(f"[build]\nbuild_base = {tmp_path}/build\n[egg_info]\negg_base = {tmp_path}\n")
    env = os.environ | {"DIST_EXTRA_CONFIG": f"{tmp_path}/paths.cfg", "HOME": str(tmp_path), "PYTHONPATH": ""}
    env = {name: value for name, value in env.items() if not name.startswith("BRAIN_MRI_")}

    def call(*words: str, check: bool = True) -> str:
        return subprocess.run(words, env=env, cwd=tmp_path, check=check, stdout=subprocess.PIPE, text=True).stdout

    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", str(REPO))
    venv.create(tmp_path / "env")
    python, (wheel,) = str(tmp_path / "env/bin/python"), tmp_path.glob("*.whl")
    (site,) = (tmp_path / "env/lib").glob("python*/site-packages")
    install = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    call(*install, "--no-deps", str(wheel))
    # Torch and the like come from this environment, without what its .pth files add: nothing of the checkout.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    call(*install, "datasets", check=False)
    if not (site / "datasets").is_dir():  # no network: the name is taken all the same
        (site / "datasets").mkdir()
        (site / "datasets/__init__.py").write_text("load_dataset = print")
    number, *taken = call(python, "-c", WALK).split()
    assert int(number) > 100 and not taken
    command = str(tmp_path / "env/bin/honest-brain-mri")
    answer = json.loads(call(command, "predict", image, "--json"))
    assert honest_brain_mri.main(["predict", image, "--json"]) == 0
    assert answer == json.loads(capsys.readouterr().out) and answer["answers"]
    assert f"\nIn {tmp_path}/honest-brain-mri/datasets;" in call(command, "download"), "not among installed packages"
    shutil.rmtree(tmp_path / "env")


def test_the_command_lists_its_commands_and_refuses_others(capsys):
    assert honest_brain_mri.main([]) == 0 and honest_brain_mri.main(["nonsense"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: nonsense: no such command")
    for name in ("predict", "audit", "download", "app", "export"):
        assert f"\n  {name} " in out
        with pytest.raises(SystemExit, match="0"):
            honest_brain_mri.main([name, "--help"])


def test_torch_hub_loads_a_saved_model(roots):
    weights = save_model("phantom")
    model = torch.hub.load(str(REPO), "saved_model", str(weights.parent), source="local")
    with torch.no_grad():
        assert model.network(torch.zeros(1, 3, 64, 64)).shape == (1, len(model.classes))
    with pytest.raises(DataError, match="unknown model"):
        torch.hub.load(str(REPO), "saved_model", "nonsense", source="local")


@pytest.mark.parametrize("name", ["datasets", "models", "utils"])
def test_torch_hub_says_what_to_do_where_a_name_of_ours_is_taken(name, monkeypatch):
    for loaded in [key for key in sys.modules if key.split(".")[0] in ("datasets", "models", "utils")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.raises(ImportError, match=f"^another package named '{name}' is loaded"):
        torch.hub.load(str(REPO), "saved_model", source="local")


@pytest.mark.parametrize("name", ["CustomCNN", "MultiTaskUNet", "AttentionUNet", "SqueezeNet", "OutlineClassifier"])
def test_onnxruntime_agrees_with_pytorch_and_a_file_that_differs_is_not_written(name, roots, tmp_path, monkeypatch):
    model = SavedModel(save_model("phantom", name))
    path, other = export(model, tmp_path / "model.onnx"), tmp_path / "other.onnx"
    pixels = example_pixels(model, 4)
    if not model.masks:
        assert run(path, pixels) == pytest.approx(model.predict(pixels).probabilities, abs=AGREES)
        assert run(path, pixels[:1]) == pytest.approx(run(path, pixels)[:1], abs=AGREES)
    proto = onnx.load(path)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(facts["input"]) == model.card["input"] and "Not a medical device" in facts["note"]
    assert json.loads(facts["classes"]) == (model.classes or model.masks)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **how: SimpleNamespace(model_proto=proto))  # it takes seconds
    monkeypatch.setattr(module, "run", lambda path, pixels: run(path, pixels) + 2e-4)
    with pytest.raises(DataError, match=r"differs from PyTorch by 2\.0e-04; nothing was written"):
        export(model, other)
    assert [*tmp_path.glob("*.onnx*")] == [path]

"""The page: what it makes of dropped files, what the server refuses, and how it looks in a real browser."""

import asyncio
import shutil
import socket
import threading
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import requests
from dicom_files import series
from own_images import head, volume
from PIL import Image
from saved_model import save_model
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from datasets import catalog
from utils.predict.model import open_model
from utils.predict.page import LOOPBACK, answer, main, make_server
from utils.report.weights import NOTE

TOKEN = "a-token"
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")


def contents(paths: list[Path]) -> list[tuple[str, bytes]]:
    """Files as they are dropped."""
    return [(path.name, path.read_bytes()) for path in paths]


def sequences(folder: Path, patient: int) -> list[Path]:
    """The four sequences of a patient, two slices each."""
    names = ("t1", "t1ce", "t2", "flair")
    return [volume(folder / f"P_{name}.nii.gz", (20, 24, 3), 10 * patient + k) for k, name in enumerate(names)]


def test_dropped_files_and_series_have_an_answer_each_though_they_share_names(classifier, tmp_path):
    dropped = []
    for seed in (1, 2):
        Image.fromarray(head(seed, 96)).save(tmp_path / "slice.png")
        dropped += contents([tmp_path / "slice.png"])
    first = dropped[0][1]
    dropped += [("C:\\x\\other.png", first), ("..", first), ("a/../../b.png", first), ("empty.png", b"")]
    dropped += [("a/notes.txt", b"no image"), ("words/notes.txt", b"no image"), (f"{300 * 'x'}.png", first)]
    dropped += contents(series(tmp_path / "a", "1.2.3", "ab") + series(tmp_path / "b", "1.2.4", "abcd"))
    found = answer(classifier, dropped)
    slices = {one["file"]: one["slices"] for one in found["answers"]}
    names = ["slice.png", "file", f"{96 * 'x'}.png", "slice.png (2)", "x/other.png", "a/b.png"]
    assert {*names} < {*slices} and sorted(slices.values()) == [1, 1, 1, 1, 1, 1, 2, 4]
    classes = {one["file"]: one["classes"] for one in found["answers"]}
    one, two, same, again = (classes[name] for name in names[:1] + names[3:])
    assert one != two and one == same == again
    errors = [
        "empty.png: an empty file",
        "what was dropped/words: no image (JPEG, PNG, TIFF, …), DICOM file or NIfTI volume in this folder",
    ]
    assert sorted(found["errors"]) == errors
    assert found["notes"] == ["what was dropped/a: 1 files are no scans and were left out, notes.txt first"]


@pytest.mark.parametrize(("start", "shown"), [("P_", "P"), ("s/P/", "s/P"), ("", "patient")])
def test_dropped_sequences_of_two_patients_are_two_scans_with_their_names(start, shown, roots, tmp_path):
    model = open_model(save_model("phantom", "AttentionUNet").parent.name)
    dropped = [one for patient in (1, 2) for one in contents(sequences(tmp_path, patient))]
    found = answer(model, [(start + name.removeprefix("P_"), content) for name, content in dropped])
    answered = [(one["file"], one["slices"]) for one in found["answers"]]
    assert found["errors"] == [] and answered == [(shown, 2), (f"{shown} (2)", 2)]
    assert all(one["row"]["verdict"] == "undecided" and one["row"]["outlined"] for one in found["answers"])
    (error,) = answer(model, [("a.png", dropped[0][1])])["errors"]
    assert error.startswith("what was dropped: no NIfTI volumes of T1")


@pytest.mark.parametrize("name", ["CustomCNN", "OutlineClassifier"])
def test_a_figure_of_a_large_image_is_drawn_from_a_small_one(name, roots, tmp_path, monkeypatch):
    """36 million pixels took a minute and 5 GB."""
    model = open_model(save_model("phantom", name).parent.name)
    Image.fromarray(head(1, 96)).resize((3000, 2000)).save(tmp_path / "large.png")
    seen, shown = [], plt.Axes.imshow
    monkeypatch.setattr(
        plt.Axes, "imshow", lambda axis, image, **how: seen.append(image.shape) or shown(axis, image, **how)
    )
    found = answer(model, contents([tmp_path / "large.png"]))
    assert found["answers"] and {shape[:2] for shape in seen} == {(683, 1024)}


@pytest.fixture
def page(roots, monkeypatch):
    """The address of a running page whose first model is a CustomCNN."""
    monkeypatch.setattr(catalog, "REPO", roots / "repository")  # nothing is committed there
    model = save_model("phantom").parent.name
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve():
        return make_server(model, 0, TOKEN)

    server, port = asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    yield f"http://{LOOPBACK}:{port}/{{}}?token={TOKEN}&model={model}"
    loop.call_soon_threadsafe(server.stop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


def test_only_this_machine_and_this_page_are_answered_and_only_with_the_token(page, tmp_path):
    Image.fromarray(head(1, 96)).save(tmp_path / "a.png")
    files = [("files", ("a.png", (tmp_path / "a.png").read_bytes()))]
    found = requests.post(page.format("predict"), files=150 * [("files", ("a.png", b""))], timeout=60).json()
    assert len(found["errors"]) == 150, "as many files as a series has"
    found = requests.post(page.format("predict"), files=files, timeout=60).json()
    assert sum(found["answers"][0]["classes"].values()) == pytest.approx(1, abs=1e-3) and found["note"] == NOTE
    assert requests.get(page.format(""), headers={"Host": "evil.example"}, timeout=10).status_code == 403
    other = {"Origin": "http://evil.example"}
    assert requests.post(page.format("predict"), files=files, headers=other, timeout=10).status_code == 403
    for path, post in (("", requests.get), ("load", requests.post), ("predict", requests.post)):
        reply = post(page.format(path).replace(TOKEN, "guess"), timeout=10)
        assert reply.status_code == 403 and "it ends with a token" in reply.text
    number = int(page.split(":")[2].partition("/")[0])
    outside = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {LOOPBACK}
    for address in outside:
        if not address.startswith("127."):
            with pytest.raises(OSError), socket.create_connection((address, number), 2):
                pass


def test_bad_requests_and_a_taken_port_are_answered_with_a_line(page, capsys, monkeypatch):
    for name, content, message in (
        ("../../x.png", b"no image", "x.png: not an image"),
        ("x.nii", b"", "an empty file"),
    ):
        found = requests.post(page.format("predict"), files=[("files", (name, content))], timeout=60).json()
        assert not found["answers"] and message in found["errors"][0] and len(found["errors"]) == 1
    assert "no file was sent" in requests.post(page.format("predict"), data={}, timeout=10).text
    known = page.rpartition("=")[2]
    for name in ("/etc", "hf-hub:a/b", "best", ""):  # only what is listed, wherever it lies
        monkeypatch.setattr("utils.predict.model.open_model", None)
        reply = requests.post(page.format("load").replace(known, name), timeout=10).json()
        assert reply["errors"] == [f"unknown model '{name}'. Known: {known}"]
    shown = requests.get(page.format(""), timeout=10).text
    assert f'<option value="{known}">' in shown and "{{" not in shown
    monkeypatch.setattr("utils.predict.page.MOST_BYTES", 2**20)
    reply = requests.post(page.format("predict"), files=[("files", ("x.png", bytes(3 * 2**19)))], timeout=60)
    assert reply.status_code == 413 and reply.json()["errors"] == ["more than 1 MiB at once; drop fewer files"]
    assert main([known, "--no-browser", "--port", page.split(":")[2].partition("/")[0]]) == 1
    assert "name another with --port" in capsys.readouterr().err
    assert main(["CustomCNM", "--no-browser"]) == 1 and "unknown model 'CustomCNM'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (DRIVER and BROWSER), reason="no Chromium with chromedriver (apt-get install chromium-driver)")
def test_a_reader_drops_files_chooses_another_model_and_sees_the_answers(roots, request, tmp_path, monkeypatch):
    outliner, files = save_model("phantom", "AttentionUNet").parent.name, sequences(tmp_path, 1)
    page = request.getfixturevalue("page")
    images = [tmp_path / name for name in ("head.png", "photograph.png", "text.png")]
    Image.fromarray(head(1, 128)).save(images[0])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(images[1])
    images[2].write_text("no image")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,1000"):
        options.add_argument(option)
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as chrome:

        def wait(begins: str) -> None:
            WebDriverWait(chrome, 60).until(lambda _: chrome.find_element(By.ID, "status").text.startswith(begins))

        def drop(paths: list[Path], begins: str) -> str:
            chrome.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))
            wait(begins)
            shown = chrome.find_elements(By.CSS_SELECTOR, ".answer img")
            assert all(int(image.get_property("naturalWidth")) > 200 for image in shown)
            words = chrome.find_element(By.ID, "answers").text
            assert len(shown) == int(begins[0]) and NOTE in words and "undecided" in words and "undefined" not in words
            return words

        chrome.get(page.format(""))
        wait("the model is ready")
        assert NOTE in chrome.find_element(By.CLASS_NAME, "note").text
        words = drop(images, "2 answered, 1 not, in ")
        assert "This is a colour image" in words and "text.png: not an image" in words
        assert "outlined" not in words and "not tested on images of another" in words
        Select(chrome.find_element(By.ID, "model")).select_by_value(outliner)
        wait("0 answered, 1 not, in ")  # which is asked at once about what was dropped
        words = drop(files, "1 answered, 0 not, in ")
        assert "outlined: " in words and "px in " in words and " of 2 slices" in words
        errors = [e["message"] for e in chrome.get_log("browser") if e["level"] == "SEVERE"]
        assert not [message for message in errors if "favicon" not in message]
        monkeypatch.setattr("utils.predict.page.MOST_BYTES", 2**10)
        chrome.refresh()
        wait("the model is ready")
        chrome.find_element(By.ID, "files").send_keys("\n".join(map(str, images)))
        assert chrome.find_element(By.ID, "status").text.endswith("MiB at once; drop fewer files")

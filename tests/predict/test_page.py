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
from selenium.webdriver.support.ui import WebDriverWait

from utils.predict.model import open_model
from utils.predict.page import LOOPBACK, answer, main, make_server
from utils.report.weights import NOTE


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
    dropped += [("C:\\x\\other.png", first), ("..", first), ("empty.png", b"")]
    dropped += contents(series(tmp_path / "a", "1.2.3", "ab") + series(tmp_path / "b", "1.2.4", "abcd"))
    found = answer(classifier, dropped)
    slices = {one["file"]: one["slices"] for one in found["answers"]}
    assert list(slices)[:4] == ["dropped 1/slice.png", "dropped 2/slice.png", "dropped 2/other.png", "dropped 2/file"]
    assert sorted(slices.values()) == [1, 1, 1, 1, 2, 4]
    one, two, same, again = (one["classes"] for one in found["answers"][:4])
    assert one != two and one == same == again
    assert found["errors"] == ["dropped 2/empty.png: an empty file"]


def test_dropped_sequences_of_two_patients_are_two_scans(roots, tmp_path):
    model = open_model(save_model("phantom", "AttentionUNet").parent.name)
    found = answer(model, contents(sequences(tmp_path, 1)) + contents(sequences(tmp_path, 2)))
    assert found["errors"] == [] and [one["slices"] for one in found["answers"]] == [2, 2]
    assert all(one["row"]["verdict"] == "undecided" and one["row"]["outlined"] for one in found["answers"])


@pytest.fixture
def page(request, roots):
    """The address of a running page with a model, a CustomCNN if no other is asked for."""
    model = open_model(save_model("phantom", getattr(request, "param", "CustomCNN")).parent.name)
    plt.switch_backend("agg")
    ready, port, stop = threading.Event(), [], []

    async def serve() -> None:
        server, number = make_server(model, 0)
        port.append(number)
        stop.append((asyncio.get_running_loop(), event := asyncio.Event()))
        ready.set()
        await event.wait()
        server.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield f"http://{LOOPBACK}:{port[0]}"
    loop, event = stop[0]
    loop.call_soon_threadsafe(event.set)
    thread.join(30)


def test_only_this_machine_and_this_page_are_answered(page, tmp_path):
    Image.fromarray(head(1, 96)).save(tmp_path / "a.png")
    files = [("files", ("a.png", (tmp_path / "a.png").read_bytes()))]
    found = requests.post(f"{page}/predict", files=files, timeout=60).json()
    assert sum(found["answers"][0]["classes"].values()) == pytest.approx(1, abs=1e-3) and found["note"] == NOTE
    assert requests.get(page, headers={"Host": "evil.example"}, timeout=10).status_code == 403
    other = {"Origin": "http://evil.example"}
    assert requests.post(f"{page}/predict", files=files, headers=other, timeout=10).status_code == 403
    outside = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {LOOPBACK}
    for address in outside:
        if not address.startswith("127."):
            with pytest.raises(OSError), socket.create_connection((address, int(page.rpartition(":")[2])), 2):
                pass


def test_bad_files_and_a_taken_port_are_answered_with_a_line(page, capsys):
    for name, content, message in (
        ("../../x.png", b"no image", "x.png: not an image"),
        ("x.nii", b"", "an empty file"),
    ):
        found = requests.post(f"{page}/predict", files=[("files", (name, content))], timeout=60).json()
        assert not found["answers"] and message in found["errors"][0] and len(found["errors"]) == 1
    assert "no file was sent" in requests.post(f"{page}/predict", data={}, timeout=10).text
    assert main([save_model("phantom").parent.name, "--port", page.rpartition(":")[2]]) == 1
    assert "name another with --port" in capsys.readouterr().err


@pytest.fixture
def chrome(page):
    """Headless Chromium that shows the page."""
    driver, browser = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and browser):
        pytest.skip("no Chromium with chromedriver here (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,1000"):
        options.add_argument(option)
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        chrome.get(page)
        yield chrome


@pytest.mark.slow
@pytest.mark.parametrize("page", ["CustomCNN", "AttentionUNet"], indirect=True)
def test_a_reader_drops_files_and_sees_the_answers(chrome, page, request, tmp_path):
    paths = sequences(tmp_path, 1)
    if classifies := "CustomCNN" in request.node.name:
        paths = [tmp_path / name for name in ("head.png", "photograph.png", "text.png")]
        Image.fromarray(head(1, 128)).save(paths[0])
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(paths[1])
        paths[2].write_text("no image")
    chrome.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))
    status = (By.ID, "status")
    WebDriverWait(chrome, 60).until(lambda _: "answered" in chrome.find_element(*status).text)
    said, words = chrome.find_element(*status).text, chrome.find_element(By.ID, "answers").text
    assert NOTE in words and NOTE in chrome.find_element(By.CLASS_NAME, "note").text and "undefined" not in words
    images = chrome.find_elements(By.CSS_SELECTOR, ".answer img")
    assert all(int(image.get_property("naturalWidth")) > 200 for image in images)
    errors = [e["message"] for e in chrome.get_log("browser") if e["level"] == "SEVERE"]
    assert not [message for message in errors if "favicon" not in message]
    if classifies:
        assert said == "2 answered, 1 not" and len(images) == 2
        assert "This is a colour image" in words and "text.png: not an image" in words
        assert "undecided" in words and "outlined" not in words and "not tested on images of another" in words
    else:
        assert said == "1 answered, 0 not" and "outlined: " in words and "undecided" in words
        assert "px in " in words and " of 2 slices" in words

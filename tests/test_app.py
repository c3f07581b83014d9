"""The page in a real browser, and what the server refuses."""

import asyncio
import shutil
import socket
import threading

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pytest
import requests
from own_images import head
from PIL import Image
from saved_model import save_model
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from utils.app import main
from utils.predict.page import LOOPBACK, make_server
from utils.report.weights import NOTE


@pytest.fixture
def page(roots, monkeypatch):
    """The address of a running page with one model."""
    model = save_model("phantom").parent.name
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


def test_bad_files_a_wrong_model_and_a_taken_port_are_answered_with_a_line(page, capsys):
    cases = [("../../x.png", b"no image", {}, "x.png: not an image"), ("x.nii", b"", {}, "x.nii: an empty file")]
    for name, content, data, message in [*cases, ("a.png", b"x", {"model": "x"}, "unknown model 'x'")]:
        found = requests.post(f"{page}/predict", data=data, files=[("files", (name, content))], timeout=60).json()
        assert not found.get("answers") and message in found["errors"][0] and len(found["errors"]) == 1
    assert "no file was sent" in requests.post(f"{page}/predict", data={}, timeout=10).text
    model = save_model("phantom").parent.name
    assert main([model, "--port", page.rpartition(":")[2]]) == 1
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


def drop(chrome, *paths) -> str:
    """Choose files and wait for the answers; returns what the page says of how many there are."""
    chrome.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))
    status = (By.ID, "status")
    WebDriverWait(chrome, 60).until(lambda _: "answered" in chrome.find_element(*status).text)
    return chrome.find_element(*status).text


@pytest.mark.slow
def test_a_reader_drops_an_image_and_sees_the_answer(chrome, tmp_path):
    Image.fromarray(head(1, 128)).save(tmp_path / "head.png")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "photograph.png")
    (tmp_path / "text.png").write_text("no image")
    assert NOTE in chrome.find_element(By.CLASS_NAME, "note").text
    names = ("head.png", "photograph.png", "text.png")
    assert drop(chrome, *(tmp_path / name for name in names)) == "2 answered, 1 not"
    words = chrome.find_element(By.ID, "answers").text
    assert "This is a colour image" in words and "text.png: not an image" in words and NOTE in words
    assert "answer: " in words and "outlined" not in words
    images = chrome.find_elements(By.CSS_SELECTOR, ".answer img")
    assert len(images) == 2 and all(int(i.get_property("naturalWidth")) > 200 for i in images)
    errors = [e["message"] for e in chrome.get_log("browser") if e["level"] == "SEVERE"]
    assert not [message for message in errors if "favicon" not in message]


@pytest.mark.slow
def test_a_reader_drops_the_sequences_of_a_patient_and_sees_what_is_outlined(chrome, tmp_path):
    model = save_model("phantom", "AttentionUNet").parent.name
    chrome.refresh()  # the models are listed anew
    Select(chrome.find_element(By.ID, "model")).select_by_visible_text(model)
    paths = [tmp_path / f"P_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair")]
    for seed, path in enumerate(paths):
        voxels = np.random.default_rng(seed).uniform(10, 900, (40, 48, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 3, 1])), path)
    assert drop(chrome, *paths) == "1 answered, 0 not"
    words = chrome.find_element(By.ID, "answers").text
    assert "undefined" not in words and "answer:" not in words
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    found = requests.post(f"{chrome.current_url}predict", data={"model": model}, files=files, timeout=60)
    (answer,) = found.json()["answers"]
    assert f"outlined: {answer['row']['outlined']}" in words
    for name, part in answer["masks"].items():
        assert f"{name} {part['pixels']} px in {part['slices']} of 3 slices" in words

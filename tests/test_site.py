"""The chapters as pages: `make site` builds them without a warning, and a browser shows them without a network."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from datasets.catalog import REPO

BUILDER = REPO / ".venv-site/bin/sphinx-build"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
CHAPTERS = sorted((REPO / "notebooks").glob("*.ipynb"), key=lambda path: int(path.stem.split("_")[0]))

pytestmark = pytest.mark.skipif(not BUILDER.is_file(), reason="what builds the site is not here: make site")


class Links(HTMLParser):
    """What a page refers to: `followed` by a reader, `loaded` by the browser; `unseen`: images without a text."""

    def __init__(self):
        super().__init__()
        self.followed, self.loaded, self.unseen, self.anchors = [], [], [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.followed.append(found["href"])
        if tag in ("script", "img") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "img" and len(found.get("alt") or "") < 30:
            self.unseen.append(found)
        if tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [str(BUILDER), "-q", "-W", "--keep-going", "-c", "docs/site", ".", str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder


def pages(site):
    for path in sorted(site.rglob("*.html")):
        page = Links()
        page.feed(path.read_text())
        yield path, page


def test_every_chapter_is_a_page_that_the_start_leads_to(site):
    start = (site / "docs/site/index.html").read_text()
    assert len(CHAPTERS) > 5
    for chapter in CHAPTERS:
        title = json.loads(chapter.read_text())["cells"][0]["source"]
        title = "".join(title).splitlines()[0].removeprefix("# ")
        page = (site / f"notebooks/{chapter.stem}.html").read_text()
        assert title.split("?")[0].replace("'", "’") in page
        assert "<img" in page, "figures are shown"
    order = [start.index(f"notebooks/{chapter.stem}.html") for chapter in CHAPTERS]
    assert order == sorted(order), "in reading order"


def test_links_lead_somewhere_nothing_is_loaded_from_elsewhere_and_words_are_found(site):
    every = dict(pages(site))
    for path, page in every.items():
        assert not page.unseen, f"{path}: images need an alternative text"
        for link in page.loaded:
            assert not urlsplit(link).netloc, f"{path}: {link} needs a network"
            if not link.startswith("data:"):
                assert (path.parent / unquote(urlsplit(link).path)).is_file(), f"{path}: {link}"
        for parts in map(urlsplit, page.followed):
            if not parts.scheme and parts.path.endswith(".html"):
                target = every.get((path.parent / unquote(parts.path)).resolve())
                assert target and (not parts.fragment or parts.fragment in target.anchors), f"{path}: {parts}"
    index = (site / "searchindex.js").read_text()
    assert all(re.search(rf'"?{word}"?:', index) for word in ("duplic", "attent", "jackknif"))


@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed here")
@pytest.mark.parametrize("width", [420, 1300], ids=["phone", "desktop"])
def test_a_browser_draws_formulas_and_a_page_as_wide_as_its_window(site, width, tmp_path):
    page = site / "notebooks/2_classification.html"
    # What JavaScript found is written into the page, which is then printed.
    told = "<script>addEventListener('load', () => setTimeout(() => {document.title = "
    told += "document.documentElement.scrollWidth + ' of ' + innerWidth}, 3000))</script>"
    probe = page.with_name(f"probe-{width}.html")
    probe.write_text(page.read_text().replace("</head>", f"{told}</head>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += [f"--window-size={width},900", "--virtual-time-budget=10000", "--dump-dom", f"file://{probe}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    probe.unlink()
    assert "mjx-container" in shown, "formulas are drawn, not left as TeX"
    drawn, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", shown).groups())
    assert drawn <= window, "nothing has to be scrolled sideways, save within a code cell"

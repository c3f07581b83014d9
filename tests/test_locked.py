"""`requirements.lock` holds what `requirements.txt` asks for, with hashes, and says nothing of where it was made."""

import re

from datasets.catalog import REPO

TEXT = (REPO / "requirements.lock").read_text()
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)", (REPO / "requirements.txt").read_text(), re.MULTILINE))
LOCKED = dict(re.findall(r"^([\w.\[\]-]+)==(\S+) \\$", TEXT, re.MULTILINE))


def normalised(versions: dict[str, str]) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower(): version for name, version in versions.items()}


def test_it_pins_what_requirements_ask_for():
    asked, locked = normalised(PINNED), normalised(LOCKED)
    assert len(asked) > 40 and {name: locked.get(name) for name in asked} == asked, "make lock"


def test_every_file_has_a_hash_and_no_address_of_an_index_is_in_it():
    blocks = re.split(r"^(?=[\w.\[\]-]+==)", TEXT, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(LOCKED) and all("--hash=sha256:" in block for block in blocks)
    assert "://" not in TEXT and "--index" not in TEXT


def test_an_audit_that_could_ask_nobody_is_no_clean_bill():
    """Without `--strict` pip-audit passes over packages that its service does not answer for."""
    (command,) = re.findall(r"^\t\S*/pip-audit (.+)$", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert {"--strict", "--require-hashes", "--disable-pip"} <= set(command.split())
    assert "make audit" in TEXT

"""Every item that CLAIM and TRIPOD+AI ask for has an answer, and what it points at is there."""

import re

from datasets.catalog import REPO

TEXT = (REPO / "docs/checklist.md").read_text()
TRIPOD = "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b"
TRIPOD += " 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"


def test_every_item_is_there_once_and_has_an_answer_with_a_link_or_an_honest_no():
    _, claim, tripod = TEXT.split("\n## ")
    for part, wanted in ((claim, [str(n) for n in range(1, 45)]), (tripod, TRIPOD.split())):
        rows = [re.split(r" *\| *", line.strip("| ")) for line in part.splitlines() if re.match(r"\| \d", line)]
        assert [row[0] for row in rows] == wanted
        for number, asked, answer in rows:
            assert asked.endswith("?") and ("](" in answer or answer.startswith(("no", "does not apply"))), number

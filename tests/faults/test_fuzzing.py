"""No damaged file ends in anything but one clear line; `make faults` tries thousands, here each reader reads a few."""

import pytest
from fuzzing import fuzz
from readers import READERS, Reader

# Found by `make faults` and mended: reader → numbers of the files that were lost, with seed 0.
CORPUS = {
    **{"archive": [4, 8, 11, 18, 25, 32], "table of ReMIND": [6, 12, 13], "log": [0, 4, 5, 9, 12]},
    **{"dicom": [*range(60, 117)], "table of a reader": [*range(20, 119)]},
}


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(reader):
    found = list(fuzz(reader, 24, seed=2))
    assert len(found) > 20 and not [(number, fault) for number, fault in found if fault]


@pytest.mark.parametrize("reader", CORPUS)
def test_what_was_lost_once_is_not_lost_again(reader):
    found = list(fuzz(reader, max(CORPUS[reader]) + 1, 0, CORPUS[reader]))
    assert found and not [(number, fault) for number, fault in found if fault]


def test_a_reader_that_raises_reads_anything_else_or_writes_outside_is_found_out(monkeypatch, tmp_path):
    png = READERS["png"]
    whole = png.make(tmp_path).read_bytes()
    faults = {
        "KeyError at test_fuzzing.py": lambda folder: {whole: "of a library"}[(folder / "a.png").read_bytes()],
        "its folder: ['elsewhere', 'work']": lambda folder: (folder.parent / "elsewhere").write_text("x"),
        "something else": lambda folder: (folder / "a.png").read_bytes(),
    }
    for fault, read in faults.items():
        monkeypatch.setitem(READERS, "png", Reader(png.make, read, sealed=fault == "something else"))
        assert fault in list(fuzz("png", 5))[-1][1]

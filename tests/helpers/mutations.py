"""Damaged copies of a file."""

from collections.abc import Iterator

import numpy as np

# What is put into files at random places: numbers out of range, marks of formats, text that no table can hold.
ODD = (b"NaN", b"1e999", b"-1", b"99999999999999999999", b"null", b'"', b"[", b"]" * 3, b"{", b"\x00", b"\xff\xfe")
ODD += ("\u2028".encode(), b"\xed\xa0\x80", b"$\\frac{", b"../", b"\n", b",", b";", b"\r", b"\x7fELF", b"\x80\x02")


def mutations(content: bytes, tries: int = 60, seed: int = 0) -> Iterator[bytes]:
    """Copies of a file with a flipped bit, a run of zeros, a missing piece or end, or a doubled piece, and with bytes
    of `ODD` in it; the same seed gives the same copies."""
    rng = np.random.default_rng(seed)
    for i in range(tries):
        changed = bytearray(content)
        for _ in range(1 if i % 7 < 5 else int(rng.integers(1, 4))):
            _change(changed, content, i % 7, rng)
        if changed != content:
            yield bytes(changed)


def _change(changed: bytearray, content: bytes, kind: int, rng: np.random.Generator) -> None:
    place, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
    place = min(place, max(len(changed) - 1, 0))
    if kind == 0 and changed:
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        changed[place : place + length] = bytes(len(changed[place : place + length]))
    elif kind == 2:
        del changed[place : place + length]
    elif kind == 3:
        del changed[place:]
    elif kind == 4:
        changed[place:place] = content[place : place + length]
    else:
        odd = ODD[int(rng.integers(len(ODD)))]
        end = place + (len(odd) if kind == 5 else 0)  # in place of what is there, or between
        changed[place:end] = odd

"""Damages a reader's file again and again, and judges what the reader makes of it."""

import contextlib
import io
import os
import pickle
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from readers import READERS, REFUSED

PATIENCE = 30  # seconds for one file


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


class Hangs(Exception):
    """A reader takes longer than `PATIENCE`."""


def fuzz(reader: str, tries: int, seed: int = 0, only: Sequence[int] = ()) -> Iterator[tuple[int, str]]:
    """Number and fault of `tries` damaged files of a reader; `only` some of them, by number.

    There is no fault ("") where a file was read (sealed: as the whole file is), or refused in one line.
    """
    with tempfile.TemporaryDirectory() as outside, patch.dict(os.environ):
        os.environ["BRAIN_MRI_DATA"] = os.environ["BRAIN_MRI_OUTPUT"] = f"{outside}/work"
        work = Path(outside) / "work"
        work.mkdir()
        victim = READERS[reader].make(work)
        whole = victim.read_bytes()
        before = set(work.rglob("*"))
        intact = READERS[reader].read(work)  # else each of its files could be refused
        wanted = pickle.dumps(intact) if READERS[reader].sealed else None
        _restore(work, before, victim, whole)
        for number, content in enumerate(mutations(whole, tries, seed)):
            if only and number not in only:
                continue
            victim.write_bytes(content)
            yield number, fault_of(reader, work, wanted)
            _restore(work, before, victim, whole)
            if (found := sorted(path.name for path in Path(outside).iterdir())) != ["work"]:
                yield number, f"wrote outside its folder: {found}"
                return


def fault_of(reader: str, work: Path, wanted: bytes | None) -> str:
    """Read the file as it lies in `work`; `wanted` is what the whole one gives, None where nobody can know."""
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(PATIENCE)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            found = READERS[reader].read(work)
        silent = wanted is not None and pickle.dumps(found) != wanted
        return "read as something else than was written" if silent else ""
    except REFUSED as error:
        lines = str(error).strip().splitlines()
        return "" if len(lines) == 1 and len(lines[0]) < 1000 else f"refused in {len(lines)} lines"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(where) if "/site-packages/" not in frame.filename), where[-1])
        return f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno}: {str(error)[:80]!r}"
    finally:
        signal.alarm(0)


def _hang(*_: object) -> None:
    raise Hangs(f"longer than {PATIENCE} s")


def _restore(work: Path, before: set[Path], victim: Path, whole: bytes) -> None:
    """Take away what the reader wrote, and put the whole file back."""
    for path in sorted(set(work.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    victim.write_bytes(whole)

"""Writes files completely or not at all: a reader finds the old one or the new one, even after a kill.

A file may also end with the SHA-256 of what stands before (`seal`), by which a damaged one is known (`damage`); a JSON
object may begin with that of its other entries and of files beside it (`write_sealed`, `read_sealed`).
"""

import errno
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from datasets.catalog import HOME, DataError

UMASK = os.umask(0o077)  # it can be read only by setting it
os.umask(UMASK)


def output_root() -> Path:
    """`$BRAIN_MRI_OUTPUT`, or the repository, or `honest-brain-mri/` in the user's folder, see `catalog.data_root`."""
    return Path(os.environ.get("BRAIN_MRI_OUTPUT") or HOME).expanduser().resolve()


@contextmanager
def replacing(path: Path, before: Path | None = None) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; it takes the place of `path` when the block ends well.

    The name holds the node and the process's number, so that two writers never share a temporary file. After an error
    nothing is left of it. The file that was replaced is kept as `before`, if that is given. Of a link the target is
    replaced; a device or a pipe is written to, and stays.

    Raises `DataError`: the disk refuses it; the message says what to do (`refusal`).
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with _through(path) as temporary:
            yield temporary
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fchmod(file.fileno(), 0o666 & ~UMASK)  # safetensors lets nobody else read its files
            os.fsync(file.fileno())
        if before and path.exists():
            os.replace(path, before)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(refusal(path, error)) from error
    except (RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a disk that refuses
        if cause := _refused(temporary):
            raise DataError(refusal(path, cause)) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _through(path: Path) -> Iterator[Path]:
    """As `replacing`, for what is no regular file: once the content is whole, its bytes are written to `path`."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            with replacing(Path(folder) / path.name) as temporary:
                yield temporary
            path.write_bytes((Path(folder) / path.name).read_bytes())
    except OSError as error:
        raise DataError(refusal(path, error)) from error


def refusal(path: Path, error: OSError) -> str:
    """What the disk refuses where `path` was to be written, and what to do, in one line."""
    todo = "mend that, or set BRAIN_MRI_OUTPUT to a folder that can be written"
    reason = f"{error.strerror or error}; {todo}"
    if error.errno == errno.ENOSPC:
        reason = "the disk is full; free some space and run the same again"
    elif error.errno == errno.EDQUOT:
        reason = "the quota of this disk is used up; free some space and run the same again"
    elif isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE:
        reason = "its folder was removed meanwhile; run the same again"
    return f"{path}: cannot be written, {reason}"


def _refused(temporary: Path) -> OSError | None:
    """The error of the disk, if it takes no more bytes at the end of `temporary`."""
    try:
        with temporary.open("ab", buffering=0) as file:
            file.write(bytes(2**16))
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text or bytes to `path`, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


CONTENT = "content"  # in a seal: the entries of the record itself
MARK = b"\nsha256 "
SEAL = len(MARK) + 64  # bytes at the end of a sealed file


def seal(path: Path) -> None:
    """Append the SHA-256 of a file to itself; archives such as torch's are still readable with it."""
    mark = MARK + hashlib.sha256(path.read_bytes()).hexdigest().encode()
    with path.open("ab") as file:
        file.write(mark)


def damage(path: Path) -> str:
    """What is wrong with a sealed file, in words; "" where its bytes are those that were sealed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    if not content[-SEAL:].startswith(MARK):
        return "no checksum at its end: cut short, or made by an older version"
    sealed = MARK + hashlib.sha256(memoryview(content)[:-SEAL]).hexdigest().encode()
    return "" if content[-SEAL:] == sealed else "its bytes are not those that were written"


def write_sealed(path: Path, record: dict, beside: Iterable[str] = ()) -> None:
    """Write a record as readable JSON whose first line, `seal`, holds the SHA-256 of the other entries and of those
    files `beside` it that are there."""
    rest = {name: value for name, value in record.items() if name != "seal"}
    line = json.dumps({"seal": _digests(path, rest, beside)})[1:-1]
    write_atomically(path, f"{{\n {line},{json.dumps(rest, indent=1)[1:]}\n")


def read_sealed(path: Path, remedy: str, needs: Iterable[str] = (), beside: Iterable[str] = ()) -> dict[str, Any]:
    """The record that `write_sealed` wrote; `DataError` as of `read_json`, and where an entry, or one of the files
    `beside` it, is not as it was written."""
    from datasets.reading import read_json, reading  # brings pandas, and commands that only write files start fast

    record = read_json(path, remedy, (*needs, "seal"))
    with reading(path, remedy):
        now, written = _digests(path, record, beside), dict(record["seal"])
    if changed := [name for name in (now | written) if now.get(name) != written.get(name)]:
        file = path if changed[0] == CONTENT else path.with_name(changed[0])
        raise DataError(f"{file}: not as it was written (its SHA-256 is not the one in {path.name}); {remedy}")
    return record


def _digests(path: Path, record: dict, beside: Iterable[str]) -> dict[str, str]:
    """Of the entries, whose values count and not how they are laid out, and of files by their name."""
    rest = {name: value for name, value in record.items() if name != "seal"}
    files = [file for file in map(path.with_name, beside) if file.is_file()]
    parts = {CONTENT: json.dumps(rest).encode()} | {file.name: file.read_bytes() for file in files}
    return {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}

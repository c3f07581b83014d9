"""Files made to do harm: HDF5 that leads to other files, sizes that are not there, text that no table can hold."""

import io
import time

import h5py
import numpy as np
import pytest
from archives import bring, image, mat, saved
from store_copies import copied

from datasets import catalog, intake
from datasets.catalog import DataError
from datasets.reading import read_json, read_table
from datasets.sources import brats, cheng
from datasets.store import manifest
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import fingerprint, read_manifest
from datasets.store.preprocess import examine


def external(file: h5py.File, name: str, secret) -> None:
    """An array whose bytes are those of another file."""
    space, create = h5py.h5s.create_simple((40, 60)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_external(str(secret).encode(), 0, 40 * 60)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_UINT8, space, create)


def virtual(file: h5py.File, name: str, secret) -> None:
    layout = h5py.VirtualLayout((40, 60), np.uint8)
    layout[:] = h5py.VirtualSource(str(secret), "image", (40, 60))
    file.create_virtual_dataset(name, layout)


def linked(file: h5py.File, name: str, secret) -> None:
    file[name] = h5py.ExternalLink(str(secret), "image")


def soft(file: h5py.File, name: str, secret) -> None:
    file["elsewhere"] = np.zeros((40, 60), np.uint8)
    file[name] = h5py.SoftLink("/elsewhere")


def compound(file: h5py.File, name: str, secret) -> None:
    file[name] = np.zeros((40, 60), [("a", "i4"), ("b", "f8")])


def huge(file: h5py.File, name: str, secret) -> None:
    """Declared, never written: read, it would fill the memory with zeros."""
    file.create_dataset(name, (2**20, 2**20), np.uint8, chunks=(2**10, 2**10), compression="gzip")


def grouped(file: h5py.File, name: str, secret) -> None:
    file.create_group(name)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["image"] = np.frombuffer(b"what only its owner may read" * 86, np.uint8)[: 40 * 60].reshape(40, 60)
    return path


WHY = "(lies|is a link|holds|claims|is no array)"


@pytest.mark.parametrize("make", [external, virtual, linked, soft, compound, huge, grouped])
def test_hdf5_that_leads_elsewhere_is_refused_unread(small_phantom, tmp_path, monkeypatch, secret, make):
    for name in ("image", "tumorMask"):
        (tmp_path / "1.mat").write_bytes(mat(1, "100360", 0))
        with h5py.File(tmp_path / "1.mat", "a") as file:
            del file["cjdata"][name]
            make(file, f"cjdata/{name}", secret)
        began = time.process_time()  # other work on the machine is no fault
        with pytest.raises(DataError, match=rf"figshare's \.mat files \('cjdata/\w+' {WHY}"):
            cheng.read(catalog.get("cheng"), tmp_path, "1.mat")
        assert time.process_time() - began < 5
    with h5py.File(tmp_path / "volume_1_slice_0.h5", "w") as file:
        make(file, "image", secret)
        file["mask"] = np.zeros((40, 60, 3), np.uint8)
    with pytest.raises(DataError, match=rf"volume_1_slice_0\.h5: .*'image' {WHY}"):
        brats.read_slice(tmp_path / "volume_1_slice_0.h5")
    if make in (compound, huge, grouped):
        return  # of a store, shape and type are looked at, and images are read one by one
    home = copied(small_phantom, tmp_path, monkeypatch)
    with h5py.File(home / "images.h5", "a") as file:
        del file["image"], file["mask"]
        make(file, "image", secret)
        file["mask"] = h5py.ExternalLink(str(secret), "image")
    for read in (lambda: ImageDataset("phantom", [0]), lambda: read_masks("phantom", np.arange(2))):
        with pytest.raises(DataError, match=r"'(image|mask)' (lies in other files|is a link)"):
            read()


def test_odd_patient_codes_are_left_out_and_the_others_are_brought_in(root, tmp_path, capsys, monkeypatch):
    """Half a surrogate pair, no character, an infinite one, a bell, and an endless code."""
    monkeypatch.setattr(intake, "MAX_BROKEN", 0.25)
    odd = [[0xD800, 65], [0x110000], [np.inf], [7, 65], [65] * 1000]
    mats = {f"{i + 1}.mat": mat(i % 3 + 1, f"1{i // 3:05}", seed=i) for i in range(20)}
    for number, codes in enumerate(odd, start=1):
        buffer = io.BytesIO(mats[f"{number}.mat"])
        with h5py.File(buffer, "a") as file:
            del file["cjdata"]["PID"]
            file["cjdata/PID"] = np.array(codes)
        mats[f"{number}.mat"] = buffer.getvalue()
    assert bring("cheng", saved(tmp_path, mats), "--size", "32") == 0
    error = capsys.readouterr().err
    assert all(f"{i}.mat: not one of figshare's .mat files" in error for i in range(1, 6))
    assert len(manifest.read_rows(root / "cheng/manifest.csv")) == 15


def test_a_message_is_one_line_whatever_the_file_holds(tmp_path):
    assert str(DataError("a.csv: '\x1b[31mred\nblue\u2028'")) == "a.csv: ' [31mred blue '"
    path = tmp_path / "log.json"
    path.write_text("[" * 50_000)
    with pytest.raises(DataError, match=r"log\.json: not readable as JSON \(.*\)$"):
        read_json(path)
    assert manifest.read_log(tmp_path) is None


def test_values_are_not_moved_to_the_next_column_where_each_row_has_one_too_many(tmp_path):
    (tmp_path / "a.csv").write_text("path,patient\na.png,p1,\nb.png,p2,\n")
    with pytest.raises(DataError, match=r"a\.csv: not readable as a table \(a row has more values than the first line"):
        read_table(tmp_path / "a.csv")


def thumbnailed(content: bytes) -> bytes:
    """A JPEG with a small whole JPEG, as of a camera, before its own pixels."""
    inner = b"Exif\0\0" + image(0, 16)
    return content[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + content[2:]


@pytest.mark.parametrize("content", [image(1), thumbnailed(image(1))], ids=["plain", "with a thumbnail"])
def test_a_jpeg_that_zeros_fill_up_from_where_its_download_ended_is_refused(content):
    whole = examine(content)[0]
    assert (examine(content + b"of the camera \xff\xda")[0] == whole).all(), "what follows its end is none of ours"
    for end in range(len(content) - 400, len(content)):
        with pytest.raises(DataError, match="not a whole image"):
            examine(content[:end].ljust(len(content), b"\0"))


@pytest.mark.parametrize("victim", ["manifest.csv", "images.h5"])
def test_a_set_that_is_not_what_its_log_vouches_for_is_not_trained_on(small_phantom, tmp_path, monkeypatch, victim):
    """Also where HDF5's own checksums do not show it: one patient's name, or a byte between the chunks."""
    home = copied(small_phantom, tmp_path, monkeypatch)
    manifest.write_log(home, {"name": "phantom", "broken": []})
    whole = fingerprint("phantom")
    content = bytearray((home / victim).read_bytes())
    content[-2] ^= 1
    (home / victim).write_bytes(content)
    for read in (fingerprint, *[read_manifest] * (victim == "manifest.csv")):
        with pytest.raises(DataError, match=rf"{victim}: has other bytes than were written.*download\.py phantom"):
            read("phantom")
    (home / victim).write_bytes((small_phantom / "phantom" / victim).read_bytes())
    assert fingerprint("phantom") == whole

"""Several processes of one training: each reads its own share of an epoch and no more, in whole chunks."""

import multiprocessing
import os
import socket
from itertools import chain
from pathlib import Path

import brats_files
import cv2
import h5py
import numpy as np
import pytest
import torch
import xray_files
from accelerate.state import AcceleratorState
from small_training import run_fit

from datasets import download
from datasets.catalog import DataError
from datasets.store import images
from datasets.store.images import ImageDataset
from utils.training import data as reading
from utils.training import loop
from utils.training.data import make_loader
from utils.training.loop import make_accelerator, shared_alike

BATCH, SEED = 8, 3
SLACK = 0.25  # of the bytes of the images: what HDF5 reads of its own tables, which are large beside images so small


@pytest.fixture(scope="module")
def xrays(tmp_path_factory):
    """Chest X-rays as they are stored: one chunk an image, not compressed."""
    root = tmp_path_factory.mktemp("xrays")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(root / "data"))
        assert xray_files.bring(xray_files.published(root / "made", 120)) == 0
    return root / "data"


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    """A patient of BraTS as it is stored: a chunk a slice, compressed, and its masks."""
    root = tmp_path_factory.mktemp("brats")
    source = brats_files.archive(root / "brats.zip", brats_files.volumes(brats_files.patient()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(root / "data"))
        assert download.main(["brats2020", "--archive", source, "--partial", "--size", "64", "--workers", "1"]) == 0
    return root / "data"


def opened(name: str, number: int) -> ImageDataset:
    how = {"channels": "all", "masks": True} if name == "brats2020" else {"target": "findings"}
    return ImageDataset(name, np.arange(number), image_size=32, in_memory=False, **how)


def loader_of(data: ImageDataset, sampling: str):
    return make_loader(data, BATCH, training=bool(sampling), sampling=sampling or "shuffled", seed=SEED)


def joined(rank: int, world: int, port: int) -> None:
    """What torchrun tells a process, for one that was forked."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    AcceleratorState._reset_state(reset_partial_state=True)


def read_epochs(rank: int, world: int, port: int, answer, name: str, number: int, sampling: str) -> None:
    """One process among `world`: batches of two epochs, by row, and the bytes that each epoch took from the disk."""
    joined(rank, world, port)
    reading.MOST_WORKERS = 0  # so that this process reads by itself
    data = opened(name, number)
    loader = make_accelerator(seed=SEED).prepare(loader_of(data, sampling))
    data.batch([0])  # opens the file
    found = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        before = bytes_read()
        rows = [batch["row"].tolist() for batch in loader]
        found.append((rows, bytes_read() - before))
    answer.send(found)


def begin(rank: int, world: int, port: int, answer, folder: str) -> None:
    """One process among `world` that begins a training with a batch of 8, until it would compute."""
    joined(rank, world, port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_epoch", lambda *args: 1 / 0)  # a forked process cannot differentiate
        try:
            run_fit(folder, batch_size=BATCH)
        except (DataError, ZeroDivisionError) as error:
            answer.send(str(error))


def bytes_read() -> int:
    """What this process has read by calls of the system, whether from the disk or from its cache."""
    return int(Path("/proc/self/io").read_text().split()[1])


def together(work, world: int, *what: object) -> list:
    """What `world` processes answer that do `work` at the same time."""
    forked = multiprocessing.get_context("fork")  # nothing has to be imported again
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [forked.Pipe(duplex=False) for _ in range(world)]
    processes = [forked.Process(target=work, args=(r, world, port, pipes[r][1], *what)) for r in range(world)]
    for process in processes:
        process.start()
    try:
        assert all(pipe.poll(60) for pipe, _ in pipes), "a process does not answer"
        return [pipe.recv() for pipe, _ in pipes]
    finally:
        for process in processes:
            process.join(10)
            process.kill()


def flat(lists) -> list:
    return list(chain.from_iterable(lists))


def chunks(name: str, root: Path, rows: list[int]) -> int:
    """Bytes of the chunks of these rows, masks included; a chunk holds one image."""
    total = 0
    with h5py.File(root / name / "images.h5") as store:
        for array in (store[key] for key in ("image", "mask") if key in store):
            assert array.chunks == (1, *array.shape[1:])
            total += sum(array.id.get_chunk_info_by_coord((row, *[0] * (array.ndim - 1))).size for row in rows)
    return total


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="bytes are counted by Linux")
@pytest.mark.parametrize(
    ("name", "sampling", "number", "world"),
    [
        ("chest-xray14", "shuffled", 116, 2),
        ("chest-xray14", "", 96, 4),
        ("brats2020", "shuffled", 96, 4),
        ("brats2020", "", 90, 2),
    ],
)
def test_ranks_read_disjoint_shares_that_make_up_the_epoch(request, monkeypatch, name, sampling, number, world):
    root = request.getfixturevalue("brats" if name == "brats2020" else "xrays")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(root))
    alone = together(read_epochs, 1, name, number, sampling)[0]
    ranks = together(read_epochs, world, name, number, sampling)
    missing = -number % BATCH  # the last batch is filled up with images of the first, so that all have as many
    for epoch, (whole, _) in enumerate(alone):
        shares = [rank[epoch][0] for rank in ranks]
        batches = [flat(parts) for parts in zip(*shares, strict=True)]
        assert batches[:-1] == whole[:-1] and batches[-1] == whole[-1] + whole[0][:missing]
        assert sorted(flat(whole)) == list(range(number)), "every image once"
        for rank, share in enumerate(shares):
            rows = flat(share)
            assert len(rows) == (number + missing) // world
            needed = chunks(name, root, rows)
            assert needed <= ranks[rank][epoch][1] < (1 + SLACK) * needed, "its own chunks, each once"
    if sampling:
        assert alone[0][0] != alone[1][0], "each epoch is shuffled anew"


def test_memory_and_workers_are_shared_by_the_processes_of_a_node(roots, monkeypatch):
    rows = np.arange(32)
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 3 * len(rows) * 64**2)  # holds three copies
    monkeypatch.setattr(reading, "cores", lambda: 8)
    found = {}
    for processes in ("", "3", "4", "16"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        data = ImageDataset("phantom", rows, image_size=64)
        found[processes] = data.in_memory, make_loader(data, BATCH).num_workers
    assert found == {"": (True, 0), "3": (True, 0), "4": (False, 2), "16": (False, 1)}


def test_a_batch_that_cannot_be_shared_alike_is_refused_in_one_line(roots):
    with pytest.raises(DataError, match=r"a batch of 8 images .* 3 processes .* 1, 2, 4 or 8"):
        shared_alike(8, 3)
    shared_alike(8, 4, least=2)
    with pytest.raises(DataError, match=r"8 processes .* 1, 2 or 4 of them"):
        shared_alike(8, 8, least=2)  # a batch norm over single vectors: one image has no variance
    for processes, refused in ((2, False), (3, True)):
        said = together(begin, processes, str(roots / str(processes)))
        assert ["cannot be shared" in answer for answer in said] == [refused] * processes

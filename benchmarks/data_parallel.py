"""Measures data-parallel efficiency: two processes that share a training, a core each, against one on its core.

    python benchmarks/data_parallel.py [--rounds 7] [--steps 3] [--write]

Weak scaling: each process computes as many images a step in all sides, so the two together take twice the batch. In
every round each side runs the project's own `train_epoch` on the phantom, in turn: *alone* is one process on one core,
*apart* two that know nothing of each other (what they cost each other in caches and memory), *joined* two that
exchange gradients. Efficiency is the time of a step alone over that of a step joined, and what the exchange leaves
the time apart over that joined; medians over the rounds are reported. The record says how many cores other programs
kept busy meanwhile: on a machine that is not quiet two processes have no core each, and the efficiency comes out too
low, while apart and joined suffer alike.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from datasets.catalog import REPO

RECORD = REPO / "saved_metrics/benchmarks/data_parallel.json"
COMMAND = "python benchmarks/data_parallel.py"
QUIET = 0.1  # cores that others may keep busy on a machine that is called quiet
PATIENCE = 900  # seconds for one answer of a process
SIDES = ("alone", "apart", "joined")


@dataclass(frozen=True)
class Case:
    """A model, its recipe, the side of its images in pixels, and the images of a process in a step."""

    model: str
    recipe: str
    image_size: int
    images: int


CASES = (Case("CustomCNN", "s2", 128, 32), Case("AttentionUNet", "s2", 64, 8), Case("ViT", "s2", 128, 8))


def work(pipe: Connection, core: int, rank: int, world: int, port: int, steps: int) -> None:
    """One process on one core: trains `steps` steps of a case whenever it is asked, and answers with the seconds of
    the clock and of the processor that they took."""
    os.sched_setaffinity(0, {core})
    os.environ |= {"OMP_NUM_THREADS": "1", "BRAIN_MRI_HEADLESS": "1"}
    if world > 1:  # what torchrun sets
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    import torch

    torch.set_num_threads(1)
    asked = None
    while (case := pipe.recv()) is not None:
        if asked != case:
            epoch, asked = training(case, world, steps), case
            epoch()  # the first one also allocates
        clock, processor = time.perf_counter(), time.process_time()
        epoch()
        pipe.send((time.perf_counter() - clock, time.process_time() - processor))


def training(case: Case, world: int, steps: int):
    """A function that trains an epoch of `steps` steps by the project's own loop."""
    import torch

    from datasets.splitting import make_split
    from datasets.store.images import ImageDataset
    from models import MODELS, SEGMENTERS
    from utils.recipes import get_recipe
    from utils.training.data import make_loader
    from utils.training.loop import make_accelerator, train_epoch
    from utils.training.optimisation import make_optimizer, parameter_groups
    from utils.training.tasks import Classification, Segmentation

    torch.manual_seed(0)
    recipe = get_recipe(case.recipe, case.model)
    outlines = case.model in SEGMENTERS
    how = {"channels": "all", "masks": True} if outlines else {}
    rows = make_split("phantom", "patient").train[: steps * case.images * world]
    data = ImageDataset("phantom", rows, image_size=case.image_size, in_memory=True, **how)
    assert len(data) == steps * case.images * world, "the phantom has too few images for that many steps"
    if outlines:
        model, task = SEGMENTERS[case.model](**recipe.model_args), Segmentation(3, recipe.loss)
    else:
        model, task = MODELS[case.model](image_size=case.image_size), Classification(4, 3, recipe.augmentation)
    accelerator = make_accelerator()
    optimizer = make_optimizer(recipe, parameter_groups(model, recipe), task.parameters())
    loader = make_loader(data, case.images * world, training=True)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    return lambda: train_epoch(prepared, task, loader, optimizer, accelerator, "benchmark")


class Processes:
    """Two lone processes, and two that are joined; those that are not asked sleep."""

    def __init__(self, cores: Sequence[int], steps: int):
        spawn = multiprocessing.get_context("spawn")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.pipes, self.processes = {}, []
        for kind, world in (("lone", 1), ("joined", 2)):
            for rank, core in enumerate(cores):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=work, args=(theirs, core, rank, world, port, steps), daemon=True)
                process.start()
                theirs.close()
                self.pipes[kind, rank] = ours
                self.processes.append(process)

    def run(self, side: str, case: Case) -> list[tuple[float, float]]:
        """Seconds of the clock and of the processor of each process that takes part in `side`."""
        kind, ranks = {"alone": ("lone", [0]), "apart": ("lone", [0, 1]), "joined": ("joined", [0, 1])}[side]
        for rank in ranks:
            self.pipes[kind, rank].send(case)
        for rank in ranks:
            assert self.pipes[kind, rank].poll(PATIENCE), f"{side}: process {rank} does not answer"
        return [self.pipes[kind, rank].recv() for rank in ranks]

    def close(self) -> None:
        for pipe in self.pipes.values():
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in self.processes:
            process.join(30)


def busy() -> float:
    """Seconds that all cores together have worked since the system started, those stolen by its host included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measured(processes: Processes, case: Case, rounds: int, steps: int) -> dict[str, object]:
    """Medians over alternating rounds of one case."""
    for side in SIDES:
        processes.run(side, case)  # builds and warms up
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    others = []
    for number in range(rounds):
        turn = number % len(SIDES)
        for side in SIDES[turn:] + SIDES[:turn]:  # none is always the first
            clock, worked = time.perf_counter(), busy()
            found = processes.run(side, case)
            passed, worked = time.perf_counter() - clock, busy() - worked
            seconds[side].append(max(each for each, _ in found) / steps)
            others.append(max(0.0, (worked - sum(processor for _, processor in found)) / passed))

    def ratios(one: str, other: str) -> list[float]:
        return [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]

    efficiency = ratios("alone", "joined")
    lone, joined = median(seconds["alone"]), median(seconds["joined"])
    return {
        "model": case.model,
        "image_size": case.image_size,
        "images of a process in a step": case.images,
        "seconds a step": {side: round(median(found), 4) for side, found in seconds.items()},
        "efficiency": round(median(efficiency), 3),
        "efficiency, lowest and highest round": [round(f(efficiency), 3) for f in (min, max)],
        "efficiency of two that are not joined": round(median(ratios("alone", "apart")), 3),
        "left by the exchange of gradients": round(median(ratios("apart", "joined")), 3),
        "images a second, alone and joined": [round(case.images / lone, 1), round(2 * case.images / joined, 1)],
        "cores kept busy by others": round(median(others), 2),
        "quiet": median(others) <= QUIET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="of an epoch, which is timed")
    parser.add_argument("--model", choices=[case.model for case in CASES], help="this one alone")
    parser.add_argument("--write", action="store_true", help=f"to {RECORD.relative_to(REPO)}")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        parser.error("two cores are needed: each process has one for itself")
    from datasets.store.index import require

    require("phantom")
    from utils.training.environment import git_revision, hardware, versions

    processes = Processes(cores, args.steps)
    found = []
    try:
        for case in CASES:
            if args.model in (None, case.model):
                found.append(measured(processes, case, args.rounds, args.steps))
                print(json.dumps(found[-1], indent=1), flush=True)
    finally:
        processes.close()
    record = {
        "command": f"{COMMAND} --rounds {args.rounds} --steps {args.steps} --write",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "hardware": hardware() | {"threads": 1, "processes": 2},
        "versions": versions(),
        "backend": "gloo",
        "rounds": args.rounds,
        "steps of an epoch": args.steps,
        "models": found,
    }
    if args.write:
        from utils.files import write_atomically

        write_atomically(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

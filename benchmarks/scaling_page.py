"""The text and tables of `docs/scaling.md`, from what `scaling.py` works out."""

from collections.abc import Iterable, Iterator
from dataclasses import fields

from scaling import BATCHES, CLUSTER, JOBS, PROCESSES, Job, record

SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
START = """# Scaling: 2 processes measured, 8 and 64 GPUs on paper

Made by `python benchmarks/scaling.py` from the catalogue, the recipes, the models and `saved_metrics/benchmarks/`; no
result is typed. Two processes on two CPU cores were measured. At most one GPU was at hand: whatever is said of 8 and
64 GPUs is arithmetic, and its assumptions are listed. MB and GB are powers of ten."""

READING = """## What an epoch reads, and where it moves

An image moves from the disk (or, from the second epoch on, the system's cache of it) to the memory of its node as it
is stored, one chunk, is unpacked and resized there by a worker process, and moves on to the GPU as 8-bit integers;
floats are made of them, and augmented, on the GPU. Each process draws the same order of all images and reads only its
own share of every batch: shares are disjoint, and together they are the epoch, but for the last batch, which is filled
up with images of the first. `tests/training/test_loop.py` counts the bytes. What all processes of a node together
can keep in 2 GiB (`IN_MEMORY_BYTES`) is read once and kept resized, by every process as a whole, so that no later epoch
reads anything. Trained on is a patient fold, on nodes of eight GPUs."""

AFTER = """A test set is not shared: after training every process predicts all of it, so the processes of
{title} read {test} images each, {bytes} in all with 64 of them."""

GRADIENTS = """## Gradients of a step

Each process sends 4 · parameters · 2(n - 1)/n bytes in a step, by a ring, whatever the batch is; frozen layers have no
gradients. They are 32 bits wide with bf16, too. `find_unused_parameters` (`utils/training/loop.py`) keeps their order,
and costs one walk over the graph a step."""

STEPS = """## Steps of an epoch

A batch is that of all processes together. It has to be a multiple of their number; `fit` refuses any other in one
line."""

LIMITS = """## Where the limit is

Milliseconds of one step, from the assumptions below: *computing* is three forward passes; *reading* the processor time
measured for an image, shared by the workers of a GPU (0: kept in memory); *gradients* the bytes above over the slowest
link, and the ring's messages (a tree, which NCCL takes where it is faster, has fewer). In the efficiency, gradients are
exchanged after everything else, although PyTorch begins earlier, and computing, reading and moving go on at the same
time. A GPU that has one or two images computes far below the speed assumed here, so small shares are worse than the
table says."""

NOTHING = "–"
WANTED = 0.9  # efficiency of two processes


def size(value: float) -> str:
    """Bytes in words, three digits."""
    for unit, name in SIZES:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f} B"


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return ["", *(f"| {' | '.join(f'{c:,}' if isinstance(c, int) else str(c) for c in line)} |" for line in lines), ""]


def unlike(jobs: Iterable[Job], *names: str) -> list[Job]:
    """The first job of each combination of the fields `names`."""
    return list({tuple(getattr(job, name) for name in names): job for job in reversed(list(jobs))}.values())[::-1]


def measured() -> Iterator[str]:
    found = record("data_parallel")
    place = f"{found['hardware']['cpu']}, {found['hardware']['cores']} cores"
    quiet = all(model["quiet"] for model in found["models"])
    yield "## Two processes, measured"
    yield ""
    yield (
        f"Measured {found['measured'][:10]} on {place}, PyTorch {found['versions']['torch']}, gloo, by "
        f"`{found['command']}`: each process has one core and the images of the table in a step, alone or as one of "
        "two that exchange gradients (weak scaling). The efficiency is the time of a step alone over that joined, "
        f"medians of {found['rounds']} rounds in turn, with the lowest and the highest round."
    )
    if not quiet:
        yield ""
        yield (
            "**The machine was not quiet**: other programs kept cores busy meanwhile, as the table says, so that two "
            "processes had no core each. The efficiency is too low by about as much as that of two processes that "
            "exchange nothing is below 1; *left by the exchange* compares these two."
        )
    rows = []
    for model in found["models"]:
        low, high = model["efficiency, lowest and highest round"]
        apart, exchange = model["efficiency of two that are not joined"], model["left by the exchange of gradients"]
        one, two = model["images a second, alone and joined"]
        rows.append(
            [
                f"{model['model']}, {model['image_size']} px",
                model["images of a process in a step"],
                f"{one} / {two}",
                f"{model['efficiency']:.2f} ({low:.2f}–{high:.2f})",
                f"{apart:.2f}",
                f"{exchange:.2f}",
                model["cores kept busy by others"],
            ]
        )
    reached = [model["model"] for model in found["models"] if model["efficiency"] >= WANTED]
    below = [model["model"] for model in found["models"] if model["efficiency"] < WANTED]
    yield ""
    yield (
        f"At least {WANTED} was reached by {', '.join(reached) or 'none'}, not by {', '.join(below) or 'none'}: the "
        "more parameters for the work of a step, the more the exchange takes."
    )
    heads = ("network", "images a process", "images a second, alone / joined", "efficiency", "of two not joined")
    yield from table((*heads, "left by the exchange", "cores busy with others"), rows)


def reading() -> Iterator[str]:
    yield READING
    rows = []
    for job in unlike(JOBS, "title", "side"):
        epoch = job.trained * job.on_disk
        each = [f"{size(epoch)} once" if job.kept(n) else f"{size(epoch / n)} an epoch" for n in PROCESSES]
        sizes = [size(job.on_disk), *each, size(job.trained * job.to_gpu)]
        rows.append([f"{job.title}, {job.side} px", job.images, job.trained, *sizes])
    heads = ["data, side of the input", "images", "trained on", "an image on disk", "from disk: one process"]
    heads += [f"each of {n}" for n in PROCESSES[1:]]
    yield from table([*heads, "to the GPUs, an epoch"], rows)
    largest = max(JOBS, key=lambda job: job.tested * job.on_disk)
    all_of_them = size(PROCESSES[-1] * largest.tested * largest.on_disk)
    yield AFTER.format(title=f"`{largest.dataset}`", test=f"{largest.tested:,}", bytes=all_of_them)


def gradients() -> Iterator[str]:
    yield GRADIENTS
    rows = [
        [job.model, job.network[0], *(size(job.gradients(n)) for n in (2, *PROCESSES[1:]))]
        for job in unlike(JOBS, "model")
    ]
    yield from table(["network", "parameters that are trained", *(f"{n} processes" for n in (2, *PROCESSES[1:]))], rows)


def steps() -> Iterator[str]:
    yield STEPS
    rows = [
        [f"{job.title}, {job.recipe}", job.trained, f"{-(-job.trained // job.batch):,} of {job.batch}"]
        + [-(-job.trained // batch) for batch in BATCHES]
        for job in unlike(JOBS, "title", "trained")
    ]
    yield from table(
        ["data, recipe", "trained on", "by the recipe", *(f"batch of {batch:,}" for batch in BATCHES)], rows
    )


def limits() -> Iterator[str]:
    yield LIMITS
    rows, refused, by_limit = [], [], {}
    for job in unlike(JOBS, "model"):
        for n in PROCESSES:
            name = f"{job.model}, {job.title}" if n == PROCESSES[0] else ""
            if job.batch % n:
                refused.append(job)
                rows.append([name, n, NOTHING, *[NOTHING] * 5, f"{job.efficiency(n, job.batch * n, job.batch):.2f}"])
                continue
            took = job.seconds(n, job.batch)
            limit = max(took, key=took.get)
            by_limit.setdefault((n, limit), []).append(job.model)
            strong = f"{job.efficiency(n, job.batch, job.batch):.2f}"
            weak = f"{job.efficiency(n, job.batch * n, job.batch):.2f}"
            parts = [f"{1000 * took[part]:.2f}" for part in ("computing", "reading", "gradients")]
            rows.append([name, n, job.batch // n, *parts, limit, strong, weak])
    heads = ("training", "GPUs", "images a GPU", "computing", "reading", "gradients", "limit")
    yield from table((*heads, "efficiency, the recipe's batch", "the batch a GPU had alone"), rows)
    for n in PROCESSES[1:]:
        said = [f"{limit} for {', '.join(names)}" for (of, limit), names in by_limit.items() if of == n]
        yield f"- **{n} GPUs, the batch of the recipe**: the limit is {'; '.join(said)}."
    names = ", ".join(dict.fromkeys(job.model for job in refused))
    yield f"- **Not possible with the recipe's batch** on {PROCESSES[-1]}: {names}, whose batches have fewer images."
    yield (
        "- **A batch as many times larger** keeps GPUs busy, but is another recipe: few steps an epoch ask for another "
        "rate and more epochs, and the result has to be measured anew."
    )
    yield (
        "- **So many GPUs are used best by many runs**: folds, seeds and networks, one GPU each "
        "(`sbatch --array=… --gpus-per-node=1 jobs/ledger.job`), exchange nothing and read what one process reads. One "
        "run on several GPUs pays where it computes long: wide networks, large images."
    )


def disk() -> Iterator[str]:
    yield "## The shared disk"
    yield ""
    largest = max(JOBS, key=lambda job: job.images * job.on_disk)
    whole, nodes = largest.images * largest.on_disk, PROCESSES[-1] // CLUSTER.gpus
    yield (
        f"The largest file here, `{largest.dataset}`, has {size(whole)}: {nodes} nodes read it from the shared disk "
        f"once in {nodes * whole / CLUSTER.disk:.0f} s as assumed below, and afterwards from their own caches where "
        "that much memory is free. Where it is not, or where the shared disk is slow, `BRAIN_MRI_STAGE` copies data "
        "sets to the disk of each node before the training begins ([jobs/README.md](../jobs/README.md))."
    )


def assumptions() -> Iterator[str]:
    yield "## Assumed"
    rows = [[f"{getattr(CLUSTER, each.name):.3g}", each.metadata["words"]] for each in fields(CLUSTER)]
    yield from table(("value", "meaning"), rows)
    found = record("reading")
    yield (
        f"Bytes and processor time of an image were measured {found['measured'][:10]} on {found['hardware']['cpu']} "
        f"(`{found['command']}`); those of BraTS 2020, which was not at hand, on six patients of `brats-mini`."
    )


def page() -> str:
    """`docs/scaling.md`."""
    parts = (measured, reading, gradients, steps, limits, disk, assumptions)
    lines = [START, ""]
    for part in parts:
        lines += [*part(), ""]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"

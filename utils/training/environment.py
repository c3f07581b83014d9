"""Where and with what a training runs: processor, libraries, commit. Records and checkpoints keep it."""

import ctypes
import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from datasets import catalog
from datasets.store.index import short_digest

LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "kornia", "monai", "scikit-learn", "numpy")
CODE = ("models", "datasets", "utils", "notebooks", "requirements.txt")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def hardware() -> dict[str, str | int]:
    """Processor, cores and threads used, the GPU where there is one, and the processes that train together."""
    info, cpu = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return {
        "cpu": next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def keep_freed_memory() -> None:
    """Keep in this process what a training step frees, for the next one. glibc hands every large tensor back to the
    system, which clears each page of the next one: a third of a step of a U-Net. Elsewhere it does nothing."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def versions() -> dict[str, str]:
    """Python and the libraries that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


@cache
def git_revision() -> str:
    """Commit of the code, with `+changes` where code that a run uses differs from it; "" outside a checkout."""
    changed = _git("status", "--porcelain", "--untracked-files=no", *CODE)
    return _git("rev-parse", "HEAD") + ("+changes" if changed else "")


def _git(*words: str) -> str:
    if catalog.HOME != catalog.REPO:  # installed: the checkout around it, if there is one, is another's
        return ""
    try:
        return subprocess.run(("git", "-C", catalog.REPO, *words), capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        return ""


@cache
def conditions() -> dict[str, str]:
    """Under what a training runs that its result may depend on though it should not: the last digits of sums depend on
    processor, threads, processes and libraries; on the code, everything."""
    code = git_revision()
    if code.endswith("+changes"):
        code += " " + short_digest(_git("diff", "HEAD", "--", *CODE).encode())
    return {"code": code} | {k: str(v) for k, v in hardware().items() if k != "cores"} | versions()

"""Times several ways of doing one thing in turn, so that what else the machine does falls on all of them alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median

Work = Callable[[], object]


def rounds(sides: Mapping[str, Work], times: int) -> list[dict[str, float]]:
    """Seconds of every side in each of `times` rounds, the order reversed in every second one.

    A call of each comes first and is not counted: it allocates, compiles and fills caches.
    """
    for work in sides.values():
        work()
    out = []
    for number in range(times):
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        out.append({name: seconds(sides[name]) for name in names})
    return out


def seconds(work: Work) -> float:
    """Time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compared(found: list[dict[str, float]], base: str) -> dict[str, dict[str, float]]:
    """Of every side its median seconds, and the median, smallest and largest of its times as often as `base`'s.

    A ratio is of two times of one round: the load of a machine drifts. Below 1 is faster than `base`.
    """
    out = {}
    for side in found[0] if found else ():
        ratios = [one[side] / one[base] for one in found]
        out[side] = {
            "seconds": _rounded(median(one[side] for one in found)),
            "ratio": _rounded(median(ratios)),
            "least": _rounded(min(ratios)),
            "most": _rounded(max(ratios)),
        }
    return out


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")

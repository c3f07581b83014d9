"""Times several ways of doing one thing in turn, so that what else the machine does falls on all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from statistics import median

Work = Callable[[], object]


def rounds(
    sides: Mapping[str, Work], times: int, wait: Work = lambda: None, least: float = 0.0
) -> list[dict[str, float]]:
    """Seconds of every side in each of `times` rounds, the order reversed in every second one. An uncounted call of
    each comes first: it allocates, compiles and fills caches.

    Args:
        wait: returns once the device has done everything that was asked of it.
        least: seconds; shorter calls are timed several together.
    """

    def seconds(work: Work, calls: int = 1) -> float:
        wait()
        started = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        return (time.perf_counter() - started) / calls

    calls = {}
    for name, work in sides.items():
        seconds(work)
        calls[name] = max(1, math.ceil(least / seconds(work))) if least else 1
    orders = [list(calls), list(reversed(calls))]
    return [{name: seconds(sides[name], calls[name]) for name in orders[number % 2]} for number in range(times)]


def compared(found: list[dict[str, float]], base: str) -> dict[str, dict[str, float]]:
    """Of every side its median seconds, and the median, smallest and largest of its times as often as `base`'s.

    A ratio is of two times of one round: the load of a machine drifts. Below 1 is faster than `base`.
    """
    out = {}
    for side in found[0]:
        ratios = [one[side] / one[base] for one in found]
        facts = {"seconds": median(one[side] for one in found), "ratio": median(ratios)}
        facts |= {"least": min(ratios), "most": max(ratios)}
        out[side] = {name: float(f"{value:.3g}") for name, value in facts.items()}
    return out

"""Times several ways of doing one thing in turn, so that what else the machine does falls on all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from statistics import median

Work = Callable[[], object]


def rounds(
    sides: Mapping[str, Work], times: int, wait: Work = lambda: None, least: float = 0.0
) -> tuple[list[dict[str, float]], dict[str, str]]:
    """Seconds of every side in each of `times` rounds, the order reversed in every second one; and what was left out.

    An uncounted call of each comes first: it allocates, compiles and fills caches. A side that fails in it is left out,
    with the reason.

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

    calls, left_out, out = {}, {}, []
    for name, work in sides.items():
        try:
            seconds(work)
            calls[name] = max(1, math.ceil(least / seconds(work))) if least else 1
        except Exception as error:
            left_out[name] = reason(error)
    for number in range(times):
        names = list(calls) if number % 2 == 0 else list(reversed(calls))
        out.append({name: seconds(sides[name], calls[name]) for name in names})
    return out, left_out


def reason(error: Exception) -> str:
    """The first line of an error, with its kind."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"[:200]


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

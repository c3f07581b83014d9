"""Times several ways of doing one thing in turn, so that what else the machine does falls on all of them alike."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]


class OutOfTime(BaseException):
    """The seconds for something are over; no `Exception`, since a compiler that is interrupted would catch that."""


@dataclass(frozen=True)
class Clock:
    """How sides are timed.

    Attributes:
        end: moment of `time.monotonic` when all has to be over.
        wait: returns once the device has done everything that was asked of it.
        least: seconds; shorter calls are timed several together.
        patience: seconds that the uncounted calls of a side may take.
    """

    end: float = math.inf
    wait: Callable[[], object] = lambda: None
    least: float = 0.0
    patience: float = 600.0

    def left(self) -> float:
        """Seconds before the end."""
        return self.end - time.monotonic()

    def seconds(self, work: Work, calls: int = 1) -> float:
        """Time of one call, the mean of several."""
        self.wait()
        started = time.perf_counter()
        for _ in range(calls):
            work()
        self.wait()
        return (time.perf_counter() - started) / calls


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` within the block after `seconds`: as soon as Python runs, not within a call of a library."""

    def over(*_: object) -> None:
        raise OutOfTime(f"took more than {seconds:.3g} s")

    if seconds <= 0:
        over()
    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, 1e6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def rounds(
    sides: Mapping[str, Work], times: int, clock: Clock | None = None
) -> tuple[list[dict[str, float]], dict[str, str]]:
    """Seconds of every side in each of `times` rounds, the order reversed in every second one; and what was left out.

    An uncounted call of each comes first: it allocates, compiles and fills caches. A side that fails or is too slow in
    it is left out, with the reason. There are fewer rounds where the clock's end comes before.
    """
    clock = clock or Clock()
    calls, left_out, out = {}, {}, []
    for name, work in sides.items():
        try:
            with at_most(min(clock.patience, clock.left())):
                calls[name] = repeats(work, clock)
        except (Exception, OutOfTime) as error:
            left_out[name] = reason(error)
    lasted = 0.0
    for number in range(times if calls else 0):
        if out and clock.left() < 1.2 * lasted:
            break
        started = time.monotonic()
        try:
            with at_most(clock.left()):
                names = list(calls) if number % 2 == 0 else list(reversed(calls))
                out.append({name: clock.seconds(sides[name], calls[name]) for name in names})
        except OutOfTime:
            break
        lasted = time.monotonic() - started
    return out, left_out


def repeats(work: Work, clock: Clock) -> int:
    """Make the uncounted calls; returns how many calls are to be timed together."""
    clock.seconds(work)
    return max(1, math.ceil(clock.least / clock.seconds(work))) if clock.least else 1


def reason(error: BaseException) -> str:
    """The first line of an error, with its kind where that says more."""
    line = next(iter(str(error).strip().splitlines()), "")
    return line[:200] if isinstance(error, OutOfTime) else f"{type(error).__name__}: {line}"[:200]


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

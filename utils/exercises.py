"""Exercises of the chapters: a cell asks, the reader fills in `answer = ...`, and `check` says whether it is right."""

import math


def check(answer: object, truth: object, hint: str = "") -> None:
    """Print whether `answer`, a number or anything that can be compared, is `truth`; `...` is no answer yet."""
    if answer is ...:
        print("Replace the three dots by your answer, and run the cell again.")
        return
    numbers = isinstance(truth, float) and isinstance(answer, int | float)
    right = math.isclose(answer, truth, rel_tol=1e-3, abs_tol=1e-4) if numbers else answer == truth
    print("Right." if right else f"Not yet. {hint}".strip())

"""Damaged copies of a file."""

import numpy as np


def mutations(content: bytes, tries: int = 60):
    """Copies of a file with a flipped bit, a run of zeros, a missing piece or end, or a doubled piece; seeded."""
    rng = np.random.default_rng(0)
    for i in range(tries):
        place, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
        changed = bytearray(content)
        if i % 5 == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif i % 5 == 1:
            changed[place : place + length] = bytes(len(changed[place : place + length]))
        elif i % 5 == 2:
            del changed[place : place + length]
        elif i % 5 == 3:
            del changed[place:]
        else:
            changed[place:place] = content[place : place + length]
        if changed != content:
            yield bytes(changed)

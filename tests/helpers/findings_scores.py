"""Predictions of three findings."""

import numpy as np
import pandas as pd


def predictions(images: int = 200, seed: int = 0) -> pd.DataFrame:
    """Two findings with scores that overlap, a third that none shows; two images a patient."""
    rng = np.random.default_rng(seed)
    table = {"path": [f"{i}.png" for i in range(images)], "group": [f"p{i // 2}" for i in range(images)]}
    for name, share in (("a", 0.3), ("b", 0.05), ("c", 0.0)):
        shown = (rng.random(images) < share).astype(int)
        score = rng.normal(shown, 1)
        table |= {f"y_{name}": shown, f"p_{name}": score, f"called_{name}": (score > 0.8).astype(int)}
    return pd.DataFrame(table)

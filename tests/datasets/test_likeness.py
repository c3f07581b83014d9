"""Pairs alike are those of brute force, also where thumbnails are rough and the bound is loose."""

import numpy as np
import pytest
from smooth_images import image

from datasets.curation import likeness
from datasets.curation.likeness import pairs_alike
from datasets.curation.thumbnails import thumbnail
from datasets.transforms import TRANSFORMS


def scene(roughness: float, number: int) -> np.ndarray:
    """Thumbnails of pairs that show the same, one turned and darker, under noise of `roughness`."""
    rng, turns, out = np.random.default_rng(7), list(TRANSFORMS.values()), []
    for i in range(number):
        shown = image(i // 2, (48, 48)) * (0.5 if i % 2 else 1.0)
        noisy = shown + rng.normal(size=shown.shape) * roughness * shown.std()
        out.append(thumbnail(np.ascontiguousarray(turns[i % 8](noisy)).astype(np.float32), 48))
    return np.stack(out)


@pytest.mark.parametrize("correlation", [0.2, 0.6, 0.93])
@pytest.mark.parametrize("roughness", [0, 0.3, 1])
def test_pairs_are_those_of_brute_force(monkeypatch, roughness, correlation):
    monkeypatch.setattr(likeness, "BLOCK", 7)  # several blocks, the last one not full
    monkeypatch.setattr(likeness, "CHUNK", 5)
    all_of_them = scene(roughness, 40)
    a, b = all_of_them[:23], all_of_them[23:]
    for second, within in ((a, True), (b, False)):
        wanted = {}
        for t, turn in enumerate(TRANSFORMS.values()):
            products = np.einsum("aij,bij->ab", a.astype(np.float64), turn(second))
            for i, j in zip(*np.nonzero(products >= correlation), strict=True):
                if i < j or not within:
                    wanted[i, j, t] = products[i, j]
        found = pairs_alike(a, None if within else b, correlation)
        assert set(zip(found.i, found.j, found.transform, strict=True)) == set(wanted)
        assert np.allclose(found.correlation, list(map(wanted.get, zip(*found[:3], strict=True))), atol=1e-5)
    assert correlation > 0.2 or wanted, "some are alike"


def test_rough_images_are_where_the_bound_is_needed():
    """Copies under the same noise: their low frequencies alone do not reach the threshold."""
    rough = np.random.default_rng(0).normal(size=(6, 48, 48)).astype(np.float32)
    copies = np.stack([thumbnail(one, 48) for one in [*rough, *rough]])
    low = likeness._sketch(copies)[:, :-1]
    assert (np.einsum("nd,nd->n", low[:6], low[6:]) < 0.5).all()
    found = pairs_alike(copies, None, 0.99)
    assert set(zip(found.i, found.j, strict=True)) == {(i, i + 6) for i in range(6)}


def test_images_of_one_grey_value_and_empty_sets_are_like_nothing():
    some = np.concatenate([scene(0, 2), np.zeros((2, 48, 48), np.float32)])
    assert 2 not in {*pairs_alike(some, None, 0.1).i, *pairs_alike(some, None, 0.1).j}
    for a, b in ((some[:0], None), (some[:0], some), (some, some[:0])):
        found = pairs_alike(a, b, 0.1)
        assert [len(end) for end in found] == [0] * 4

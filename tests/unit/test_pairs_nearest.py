"""The k best of a gallery: against a full sort, with ties, rests and too small galleries."""

from __future__ import annotations

import numpy as np
import pytest

from audit_toolkit.core.pairs import top_k
from audit_toolkit.errors import UsageError


@pytest.mark.parametrize(("probes", "gallery", "k"), [(70, 300, 10), (1, 1, 1), (64, 64, 64), (130, 20, 5)])
@pytest.mark.parametrize("workers", [1, 3])
def test_equals_a_full_sort_with_ties_by_place(probes: int, gallery: int, k: int, workers: int) -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    # Small integers: float32 products are exact, and equal scores are many.
    a = rng.integers(-2, 3, (probes, 12)).astype(np.float32)
    b = rng.integers(-2, 3, (gallery, 12)).astype(np.float32)
    place, score = top_k(a, b, k, tile=64, workers=workers)
    full = a @ b.T
    order = np.argsort(-full, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(place, order)
    np.testing.assert_array_equal(score, np.take_along_axis(full, order, axis=1))


def test_a_gallery_of_fewer_than_k_leaves_the_rest_empty() -> None:
    place, score = top_k(np.ones((2, 3), np.float16), np.ones((1, 3), np.float32), 3)
    assert place.tolist() == [[0, -1, -1]] * 2
    assert score[:, 0].tolist() == [3, 3]
    assert np.isneginf(score[:, 1:]).all()
    assert top_k(np.ones((0, 3)), np.ones((4, 3)), 2)[0].shape == (0, 2)
    assert top_k(np.ones((1, 3)), np.ones((0, 3)), 2)[0].tolist() == [[-1, -1]]


def test_real_vectors_agree_with_float64_up_to_rounding() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    a, b = rng.standard_normal((100, 128)), rng.standard_normal((900, 128))
    place, score = top_k(a.astype(np.float32), b.astype(np.float32), 20, tile=128)
    full = a @ b.T
    np.testing.assert_allclose(score, np.sort(full, axis=1)[:, ::-1][:, :20], atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(full, place, axis=1), score, atol=1e-4)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UsageError, match="below 1"):
        top_k(np.ones((2, 3)), np.ones((2, 3)), 0)
    with pytest.raises(UsageError, match="one length"):
        top_k(np.ones((2, 3)), np.ones((2, 4)), 1)

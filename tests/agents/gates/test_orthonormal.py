"""Orthonormal bases of a few long rows."""

import pytest
import torch
from torch.testing import assert_close

from agents.gates.algebra import orthonormalised


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_rows_are_orthonormal_and_span_the_same(dtype: torch.dtype, scale: float) -> None:
    rows = torch.randn(2, 4, 50, dtype=dtype)
    rows[:, 1] = rows[:, 0] + 1e-3 * rows[:, 1]  # nearly parallel
    basis = orthonormalised(scale * rows)
    assert_close(basis @ basis.mT, torch.eye(4, dtype=dtype).expand(2, 4, 4))
    assert_close((rows @ basis.mT) @ basis, rows)


def test_it_is_the_method_of_gram_and_schmidt() -> None:
    # (3, 4, 0) / 5; (0, 5, 1) less 4 x (0.6, 0.8, 0) is (-2.4, 1.8, 1), of length sqrt(10).
    basis = orthonormalised(torch.tensor([[3.0, 4.0, 0.0], [0.0, 5.0, 1.0]]))
    expected = torch.tensor([[0.6, 0.8, 0.0], [-2.4, 1.8, 1.0]])
    expected[1] /= 10**0.5
    assert_close(basis, expected)


def test_rows_that_add_nothing_become_zero() -> None:
    first, second = torch.randn(2, 50)
    rows = torch.stack([first, -3 * first, 0 * first, second, first + second])
    basis = orthonormalised(rows)
    assert basis.norm(dim=-1).round().tolist() == [1.0, 0.0, 0.0, 1.0, 0.0]
    assert torch.equal(basis[[1, 2, 4]], torch.zeros(3, 50))

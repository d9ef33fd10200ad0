"""Banded elimination against a dense solver."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld.solve import factorise


def dominant(count, width, num_systems, seed):
    """Random banded matrices, diagonally dominant by rows: as bands and dense."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(num_systems, count, count, generator=generator, dtype=torch.float64)
    index = torch.arange(count)
    dense *= (index[:, None] - index).abs() <= width
    others = dense.abs().sum(2) - dense.diagonal(dim1=1, dim2=2).abs()
    dense[:, index, index] = others + 0.1
    bands = torch.zeros(count, 2 * width + 1, num_systems, dtype=torch.float64)
    for row in range(count):
        for column in range(max(0, row - width), min(count, row + width + 1)):
            bands[row, width + column - row] = dense[:, row, column]
    return bands, dense


@settings(deadline=None, max_examples=15)
@given(
    count=st.integers(1, 12),
    width=st.integers(1, 5),
    num_systems=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_it_solves_what_a_dense_solver_solves(count, width, num_systems, seed):
    bands, dense = dominant(count, width, num_systems, seed)
    right = torch.randn(count, num_systems, dtype=torch.float64)
    factors = factorise(bands)
    for solution, matrix in [
        (factors.solve(right), dense),
        (factors.solve_transposed(right), dense.transpose(1, 2)),
    ]:
        expected = np.linalg.solve(matrix.numpy(), right.T.numpy()[:, :, None])[:, :, 0].T
        np.testing.assert_allclose(solution, expected, rtol=1e-9, atol=1e-9)


def test_a_system_by_hand():
    # [[2, 1], [1, 3]] x = (5, 10): x = (1, 3).  Entries outside of the matrix are 0.
    bands = torch.tensor([[0.0, 2.0, 1.0], [1.0, 3.0, 0.0]], dtype=torch.float64)[:, :, None]
    right = torch.tensor([[5.0], [10.0]], dtype=torch.float64)
    torch.testing.assert_close(
        factorise(bands).solve(right), torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    )


def test_the_arguments_stay_as_they_are():
    bands, _ = dominant(6, 2, 2, seed=1)
    right = torch.ones(6, 2, dtype=torch.float64)
    copies = bands.clone(), right.clone()
    factors = factorise(bands)
    factors.solve(right)
    factors.solve_transposed(right)
    assert torch.equal(bands, copies[0])
    assert torch.equal(right, copies[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_solves_alike():
    bands, _ = dominant(12, 4, 3, seed=2)
    right = torch.randn(12, 3, dtype=torch.float64)
    expected = factorise(bands).solve(right)
    torch.testing.assert_close(factorise(bands.cuda()).solve(right.cuda()).cpu(), expected)

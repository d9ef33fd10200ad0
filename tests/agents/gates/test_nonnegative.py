"""Quadratic programs over non-negative numbers against SciPy's own method."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor
from torch.testing import assert_close

from agents.gates.algebra import check_num_rows, nonnegative_minimum, subset_solutions


def problem(seed: int, num_rows: int, num_columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least squares |rows' u - goal| as a quadratic program; rows are of length 1."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_rows, num_columns, generator=generator, dtype=torch.float64)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    goal = torch.randn(2, num_columns, generator=generator, dtype=torch.float64)
    return rows, goal, rows @ rows.T, -rows @ goal.T


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_rows=st.integers(1, 5))
def test_it_solves_non_negative_least_squares(seed: int, num_rows: int) -> None:
    rows, goal, matrix, linear = problem(seed, num_rows, 7)
    expected = np.array([nnls(rows.T.numpy(), each.numpy())[0] for each in goal])
    found = nonnegative_minimum(matrix, linear)
    assert_close(found.T, torch.from_numpy(expected), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_dependent_rows_leave_the_minimum_unharmed(seed: int) -> None:
    # 5 rows in 3 dimensions, one of them twice: u is not unique, but what it makes is.
    rows, goal, _, _ = problem(seed, 5, 3)
    rows[3] = rows[1]
    u = nonnegative_minimum(rows @ rows.T, -rows @ goal.T)
    expected = np.array([nnls(rows.T.numpy(), each.numpy())[0] for each in goal])
    assert_close(u.T @ rows, torch.from_numpy(expected) @ rows, atol=1e-10, rtol=1e-10)
    assert (u >= 0).all()


def test_a_leading_batch_is_solved_entry_by_entry() -> None:
    problems = [problem(seed, 3, 7) for seed in range(4)]
    matrix, linear = (torch.stack([each[i] for each in problems]) for i in (2, 3))
    alone = [nonnegative_minimum(*each[2:]) for each in problems]
    assert_close(nonnegative_minimum(matrix, linear), torch.stack(alone))


def test_each_subset_is_solved_by_itself() -> None:
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    found = subset_solutions(matrix, torch.tensor([[4.0], [7.0]])).squeeze(-1)
    # None; 2 u_0 = 4; 3 u_1 = 7; both: (4 * 3 - 7) / 5 and (7 * 2 - 4) / 5.
    expected = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 7 / 3], [1.0, 2.0]])
    assert_close(found, expected)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 losses, not 9: use pcgrad or nash"):
        check_num_rows(9)

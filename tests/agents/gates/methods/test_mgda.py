"""MGDA against its closed form, against SciPy and against TorchJD."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor
from torch.testing import assert_close
from torchjd import aggregation

from agents.gates.methods.cagrad import MGDA


def random_rows(seed: int, num_losses: int, num_columns: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_losses, num_columns, generator=generator, dtype=torch.float64)


def shortest_of_two(rows: Tensor) -> Tensor:
    """Sener and Koltun, equation 4: gamma = clip((g1 - g0) . g1 / |g0 - g1|^2) to [0, 1]."""
    difference = rows[1] - rows[0]
    gamma = float(difference @ rows[1]) / float(difference @ difference)
    gamma = min(1.0, max(0.0, gamma))
    return gamma * rows[0] + (1 - gamma) * rows[1]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_two_losses_have_a_closed_form(seed: int, scale: float) -> None:
    rows = random_rows(seed, 2)
    rows[1] *= scale
    assert_close(MGDA().combine(rows), shortest_of_two(rows), atol=1e-10, rtol=1e-10)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(1, 5))
def test_it_finds_the_shortest_convex_combination(seed: int, num_losses: int) -> None:
    rows = random_rows(seed, num_losses)
    # Non-negative least squares |rows' u|^2 + (sum u - 1)^2 has the direction of the answer.
    lifted = torch.cat([rows.T, torch.ones(1, num_losses).double()])
    u = torch.tensor(nnls(lifted.numpy(), torch.eye(7)[6].double().numpy())[0])
    assert_close(MGDA().combine(rows), u / u.sum() @ rows, atol=1e-10, rtol=1e-10)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), num_losses=st.integers(2, 5), exponent=st.integers(-8, 6))
def test_no_row_does_worse_than_the_length_of_the_direction(
    seed: int, num_losses: int, exponent: int
) -> None:
    # That is the proof of the optimum: |d|^2 <= <d, e> for every e in the convex hull.
    rows = random_rows(seed, num_losses)
    rows[0] *= 10.0**exponent
    judgement = MGDA().judge(rows)
    lengths, length = rows.norm(dim=-1), judgement.direction.norm()
    gains = rows @ judgement.direction / lengths / length
    assert (gains >= length / lengths - 1e-10).all()
    assert_close(judgement.weights.sum(), torch.tensor(1.0).double())
    assert (judgement.weights >= 0).all()


def test_the_worked_case() -> None:
    gramian = torch.tensor([[19.25, -11.5], [-11.5, 16.5625]], dtype=torch.float64)
    # (16.5625 + 11.5) / (19.25 + 2 * 11.5 + 16.5625)
    weight = 28.0625 / 58.8125
    expected = torch.tensor([[1 - weight, weight]]).double().flip(-1)
    assert_close(MGDA().judge(torch.linalg.cholesky(gramian)).weights, expected)


@pytest.mark.parametrize("num_losses", [2, 3, 4])
def test_torchjd_agrees_to_its_own_tolerance(num_losses: int) -> None:
    rows = random_rows(3, num_losses)
    theirs = aggregation.MGDA(epsilon=1e-6, max_iters=3000)(rows)
    # A step of Frank and Wolfe leaves an error of the order of 1 / steps in |d|^2.
    assert_close(MGDA().combine(rows), theirs, atol=3e-2, rtol=0)


@pytest.mark.parametrize("num_columns", [1, 2])
def test_where_gradients_surround_zero_nothing_is_followed(num_columns: int) -> None:
    rows = random_rows(0, 3, num_columns)
    rows[2] = -rows[0] - 2.0 * rows[1]
    judgement = MGDA().judge(rows)
    assert_close(judgement.direction, torch.zeros(num_columns).double(), atol=1e-10, rtol=0)
    assert_close(judgement.weights.sum(), torch.tensor(1.0).double())


def test_equal_gradients_are_followed_as_one() -> None:
    row = torch.randn(5)
    assert_close(MGDA().combine(torch.stack([row, row, row])), row)
    assert_close(MGDA().combine(torch.stack([3 * row, row, 2 * row])), row)


def test_more_than_eight_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 losses, not 9"):
        MGDA().judge(torch.randn(9, 5))

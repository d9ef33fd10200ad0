"""Nash-MTL against its own equation and its closed form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.gates.methods.nash import Nash


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), num_losses=st.integers(2, 5), exponent=st.integers(-8, 6))
def test_every_loss_gains_one(seed: int, num_losses: int, exponent: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_losses, 9, generator=generator, dtype=torch.float64)
    rows[-1] *= 10.0**exponent
    judgement = Nash().judge(rows)
    gains = judgement.weights[0] * (rows @ judgement.direction)
    assert_close(gains, torch.ones(num_losses).double(), atol=1e-10, rtol=0)
    assert_close(judgement.direction.norm() ** 2, torch.tensor(float(num_losses)).double())


def test_two_losses_have_a_closed_form() -> None:
    # 1 / (|g| sqrt(1 + c)), 1 / (|h| sqrt(1 + c)).
    rows = torch.tensor([[3.0, 4.0], [2.0, 0.0]], dtype=torch.float64)
    root = (1 + 3 / 5) ** 0.5
    expected = torch.tensor([[1 / 5 / root, 1 / 2 / root]], dtype=torch.float64)
    assert_close(Nash().judge(rows).weights, expected)


def test_the_worked_case() -> None:
    gramian = torch.tensor([[19.25, -11.5], [-11.5, 16.5625]], dtype=torch.float64)
    root = (1 - 11.5 / (19.25 * 16.5625) ** 0.5) ** 0.5
    expected = torch.tensor([[19.25**-0.5 / root, 16.5625**-0.5 / root]]).double()
    assert_close(Nash().judge(torch.linalg.cholesky(gramian)).weights, expected)


def test_vanished_rows_take_no_part() -> None:
    rows = torch.randn(2, 5)
    for place in (0, 2):
        padded = [*rows]
        padded.insert(place, torch.zeros(5))
        assert_close(Nash().combine(torch.stack(padded)), Nash().combine(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exactly_opposed_gradients_leave_nothing(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1.0, 2.0], [-3e3, -6e3]], dtype=dtype)
    judgement = Nash().judge(rows)
    assert judgement.direction.norm() < 1e-3
    # 1000 for unit rows.
    assert_close(judgement.weights[0] * rows.norm(dim=-1), torch.full((2,), 1e3, dtype=dtype))

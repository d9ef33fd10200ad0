import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.statistics import normalized

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("strange", [1e30, NAN, INF])
def test_mean_and_variance_are_those_of_valid_steps_alone(strange):
    # Valid are 1, 3, 5, 7: mean 4, variance (9 + 1 + 1 + 9) / 4 = 5.
    advantage = torch.tensor([[1.0, 3.0], [strange, 5.0], [7.0, -strange]])
    valid = torch.tensor([[True, True], [False, True], [True, False]])
    result = normalized(advantage, valid)
    expected = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / 5**0.5
    assert_close(result[valid], expected)
    assert result[~valid].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_advantages_without_spread_become_zero(count):
    valid = torch.arange(6).reshape(3, 2) < count
    assert normalized(torch.full((3, 2), 0.5), valid).tolist() == torch.zeros(3, 2).tolist()


@settings(deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100), shift=st.floats(-9, 9))
def test_neither_scale_nor_shift_of_the_advantages_matters(seed, scale, shift):
    generator = torch.Generator().manual_seed(seed)
    advantage = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    valid = torch.tensor([[True, False], [True, True], [True, True]])
    result = normalized(scale * advantage + shift, valid)
    assert_close(result, normalized(advantage, valid), rtol=1e-5, atol=1e-5)
    assert_close(result[valid].mean(), torch.zeros((), dtype=torch.float64))
    assert_close(
        result[valid].var(correction=0), torch.ones((), dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_normalized_advantages_carry_no_gradient_of_their_mean_and_variance():
    # Constants of the loss: d/dx (x - m) / s with m and s fixed is 1 / s, here 1 / 2.
    advantage = torch.tensor([[1.0], [5.0]], requires_grad=True)
    normalized(advantage, torch.ones(2, 1, dtype=torch.bool))[1].sum().backward()
    assert_close(advantage.grad, torch.tensor([[0.0], [0.5]]))

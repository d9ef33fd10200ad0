import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.heads.components.views import StepSampler, at_steps
from agents.runtime.random import Stream


def sampler(fraction, seed=0):
    return StepSampler(fraction, Stream(torch.Generator().manual_seed(seed)))


@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(1, 9),
    batch=st.integers(1, 4),
    fraction=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
)
def test_as_many_steps_are_drawn_in_every_environment_in_order_and_valid_ones_first(
    length, batch, fraction, seed
):
    valid = torch.rand(length, batch, generator=torch.Generator().manual_seed(seed)) < 0.6
    step = sampler(fraction, seed)(valid)
    count = max(1, round(fraction * length))
    assert step.shape == (count, batch)
    assert (step.diff(dim=0) > 0).all()  # in order and none twice
    assert step.min() >= 0
    assert step.max() < length
    drawn = at_steps(valid, step).sum(0)
    assert torch.equal(drawn, valid.sum(0).clamp(max=count))


def test_all_steps_are_drawn_if_all_are_asked_for():
    step = sampler(1.0)(torch.ones(3, 2, dtype=torch.bool))
    assert step.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_every_step_is_drawn_as_often_as_any_other():
    draw = sampler(0.5)
    drawn = torch.cat([draw(torch.ones(4, 100, dtype=torch.bool)) for _ in range(20)])
    share = drawn.flatten().bincount() / drawn.numel()
    # 4000 draws of four steps: a standard deviation of 0.5 %.
    torch.testing.assert_close(share, torch.full((4,), 0.25), rtol=0, atol=0.02)


def test_a_sampler_goes_on_from_a_saved_state():
    first, second = sampler(0.5, seed=1), sampler(0.5, seed=2)
    valid = torch.ones(20, 2, dtype=torch.bool)
    first(valid)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(valid), second(valid))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_values_are_taken_at_each_environments_own_times(shape):
    values = torch.randn(4, 2, *shape)
    step = torch.tensor([[0, 3], [2, 1], [2, 0]])
    taken = at_steps(values, step)
    for index in range(3):
        for environment in range(2):
            expected = values[int(step[index, environment]), environment]
            assert torch.equal(taken[index, environment], expected)

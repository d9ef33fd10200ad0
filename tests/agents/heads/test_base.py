import pytest
import torch
from jaxtyping import TypeCheckError

from agents.heads.base import AuxiliaryHead, HeadLoss, Schedule, Targets


class Plain(AuxiliaryHead):
    """Only what every head must have."""

    trains = ("torso",)
    non_negative = True
    coefficient = Schedule(1.0, 1.0, 0)

    def forward(self, agent, output, trajectory, targets):
        return HeadLoss(output.features[:-1].square().sum(-1), trajectory.valid)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 2.0), (25, 1.5), (50, 1.0), (100, 0.0), (1000, 0.0)]
)
def test_a_schedule_moves_linearly_and_stays_at_its_end(step, expected):
    assert Schedule(start=2.0, end=0.0, steps=100)(step) == expected


def test_a_schedule_over_no_steps_is_at_its_end():
    assert Schedule(start=2.0, end=0.5, steps=0)(0) == 0.5


@pytest.mark.parametrize(("step", "expected"), [(0, 4.0), (50, 2.0), (100, 1.0), (1000, 1.0)])
def test_a_schedule_may_move_by_equal_factors(step, expected):
    assert Schedule(start=4.0, end=1.0, steps=100, curve="exponential")(step) == expected


def test_a_head_may_do_without_targets_and_without_following_the_agent(agent, build_trajectory):
    head, trajectory = Plain(), build_trajectory()
    targets = head.prepare(agent, trajectory)
    assert targets == Targets()
    head.after_update(agent)
    result = head(agent, agent(trajectory.observation), trajectory, targets)
    assert result.loss.shape == (3, 2)
    assert result.metrics == {}


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(TypeCheckError, match="valid"):
        HeadLoss(torch.zeros(3, 2), torch.ones(2, 3, dtype=torch.bool))

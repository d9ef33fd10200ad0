from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from agents.types import AgentOutput


def test_a_trajectory_has_one_observation_more_than_steps(build_trajectory):
    trajectory = build_trajectory()
    with pytest.raises(TypeCheckError, match="observation"):
        replace(trajectory, observation=trajectory.observation[:-1])


@pytest.mark.parametrize("field", ["reward", "terminated", "truncated", "valid", "log_probability"])
def test_a_trajectory_has_one_number_per_step_and_environment(build_trajectory, field):
    trajectory = build_trajectory()
    for wrong in (getattr(trajectory, field).T, getattr(trajectory, field)[:-1]):
        with pytest.raises(TypeCheckError, match=field):
            replace(trajectory, **{field: wrong})


def test_an_output_has_as_many_values_as_logits():
    features = torch.zeros(4, 2, 5)
    with pytest.raises(TypeCheckError, match="value"):
        AgentOutput(None, features, features, torch.zeros(4, 2, 3), torch.zeros(3, 2))

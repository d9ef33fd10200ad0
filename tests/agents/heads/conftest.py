"""An environment in name only, a student and a teacher for it."""

import pytest
import torch

from agents.heads import HeadContext
from agents.teacher import NetworkTeacher, PolicyCard
from envs.base import EnvSpec

B, A = 2, 4


@pytest.fixture
def spec():
    return EnvSpec(
        name="Made",
        num_envs=B,
        observation_shape=(6,),
        observation_dtype=torch.float32,
        num_actions=A,
        action_set="Made",
    )


@pytest.fixture
def agent(build_agent, opinionated, spec):
    return opinionated(build_agent(spec))


@pytest.fixture
def teacher(build_agent, opinionated, spec):
    card = PolicyCard("Made", "Made", A, (6,), "torch.float32", "raw", "mlp", {}, 0)
    return NetworkTeacher(opinionated(build_agent(spec, seed=1)), card)


@pytest.fixture
def context(spec, agent, teacher):
    return HeadContext(
        spec, agent.torso.num_features, torch.device("cpu"), load_teacher=lambda path: teacher
    )

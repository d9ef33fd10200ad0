"""An environment in name only, a student and a teacher for it."""

import pytest
import torch

from agents.heads import HeadContext
from agents.runtime.random import Stream, generator
from agents.teachers import NetworkTeacher, PolicyCard
from envs.base import EnvSpec

T, B, A = 3, 2, 4


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
        spec=spec,
        torso=agent.torso,
        num_features=agent.num_features,
        device=torch.device("cpu"),
        load_teacher=lambda path: teacher,
        stream=lambda name: Stream(generator(0, name, torch.device("cpu"))),
        discount=0.9,
        unroll_length=T,
    )

"""Fixtures of the agents' tests: trajectories made by hand, environments with a script."""

from dataclasses import dataclass

import pytest
import torch

from agents.trajectory import Trajectory
from envs.base import EnvSpec, Step, VecEnv

T, B, A = 3, 2, 4


@pytest.fixture
def build_trajectory():
    """Builds a random trajectory whose episodes end at the pairs (t, b) given."""

    def build_trajectory(
        length=T, batch=B, actions=A, shape=(6,), terminated=(), truncated=(), seed=0
    ):
        generator = torch.Generator().manual_seed(seed)

        def marked(ends):
            mask = torch.zeros(length, batch, dtype=torch.bool)
            for end in ends:
                mask[end] = True
            return mask

        ended = marked([*terminated, *truncated])
        valid = torch.cat([torch.ones(1, batch, dtype=torch.bool), ~ended[:-1]])
        return Trajectory(
            action=torch.randint(actions, (length, batch), generator=generator),
            reward=torch.where(valid, torch.randn(length, batch, generator=generator), 0.0),
            terminated=marked(terminated),
            truncated=marked(truncated),
            valid=valid,
            log_probability=torch.rand(length, batch, generator=generator).log(),
            observation=torch.randn(length + 1, batch, *shape, generator=generator),
        )

    return build_trajectory


@dataclass(frozen=True)
class Play:
    """One scripted step."""

    reward: float
    end: str = ""
    """Nothing, `life` (terminates, but the episode goes on), `over` or `limit`."""


class Scripted(VecEnv):
    """Plays its script over and over, whatever the actions; observes how far it has come."""

    def __init__(self, scripts, reward_transform="none"):
        self.device = torch.device("cpu")
        self.spec = EnvSpec(
            name="Script",
            num_envs=len(scripts),
            observation_shape=(2,),
            observation_dtype=torch.float32,
            num_actions=A,
            action_set="Script",
            reward_transform=reward_transform,
        )
        self.actions = []
        self._scripts = scripts

    def reset(self):
        self._place = [0] * len(self._scripts)
        self._pending = [False] * len(self._scripts)
        self._count = 0
        return self._observe()

    def step(self, action):
        self.actions.append(action.clone())
        self._count += 1
        plays = []
        for index, script in enumerate(self._scripts):
            if self._pending[index]:
                plays.append(None)
                self._pending[index] = False
                continue
            plays.append(script[self._place[index]])
            self._place[index] = (self._place[index] + 1) % len(script)
            self._pending[index] = plays[-1].end != ""
        ends = [play.end if play else "" for play in plays]
        return Step(
            observation=self._observe(),
            reward=torch.tensor([play.reward if play else 0.0 for play in plays]),
            terminated=torch.tensor([end in ("life", "over") for end in ends]),
            truncated=torch.tensor([end == "limit" for end in ends]),
            valid=torch.tensor([play is not None for play in plays]),
            ended=torch.tensor([end in ("over", "limit") for end in ends]),
        )

    def close(self):
        pass

    def _observe(self):
        return torch.tensor([[float(self._count), float(place)] for place in self._place])


@pytest.fixture
def scripted():
    """Builds an environment from one script per environment, each a list of `play`s."""
    return Scripted


@pytest.fixture
def play():
    """Builds one scripted step."""
    return Play

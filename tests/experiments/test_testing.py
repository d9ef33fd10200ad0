"""The checks accept every component of this package, and refuse what breaks a contract."""

from dataclasses import dataclass, replace

import pytest
import torch

import envs
from agents import algorithms, gates, heads
from agents.gates import Gate
from agents.heads.dynamics import Inverse
from envs.catch import CatchConfig, CatchVecEnv
from experiments.testing import check_algorithm, check_env, check_gate, check_head

ORDERED = ("pcgrad", "gradvac")
"""Visit the rows in some order."""


@pytest.mark.parametrize("name", gates.registered())
def test_every_gate_passes(name):
    check_gate(gates.registered()[name], permutes=name not in ORDERED)


@pytest.mark.parametrize("name", heads.registered())
def test_every_head_passes(name):
    check_head(heads.registered()[name])


@pytest.mark.parametrize("name", algorithms.registered())
def test_every_algorithm_passes(name):
    check_algorithm(algorithms.registered()[name])


@pytest.mark.parametrize(
    ("family", "name"), [("catch", "Catch"), ("gridworld", "Gridworld"), ("gym", "CartPole-v1")]
)
def test_an_environment_of_each_family_passes(family, name):
    config = envs.registered()[family]
    check_env(replace(config, num_worlds=8) if family == "gridworld" else config, name)


@dataclass(frozen=True)
class Broken:
    """Builds what it is given."""

    made: object

    def build(self, *_, **__):
        return self.made() if isinstance(self.made, type) else self.made

    def names(self):
        return ("Catch",)


class Logarithm(Gate):
    """Is not a number where gradients oppose each other."""

    def forward(self, gramian, losses=None):
        return gramian.cosine[..., 0, :].log()


class SecondOnly(Gate):
    """Looks at the place of a loss."""

    def forward(self, gramian, losses=None):
        return torch.cat([torch.ones_like(gramian.norm[..., :2]), 0 * gramian.norm[..., 2:]], -1)


def test_a_gate_that_breaks_the_contract_is_refused():
    with pytest.raises(AssertionError, match="gradients opposed is finite"):
        check_gate(Broken(Logarithm))
    with pytest.raises(AssertionError, match="give their weights other places"):
        check_gate(Broken(SecondOnly))
    check_gate(Broken(SecondOnly), permutes=False)


class Detached(Inverse):
    def forward(self, agent, output, trajectory, targets):
        held = replace(output, torso=output.torso.detach())
        return super().forward(agent, held, trajectory, targets)


class Masked(Inverse):
    def forward(self, agent, output, trajectory, targets):
        result = super().forward(agent, output, trajectory, targets)
        return replace(result, valid=torch.ones_like(result.valid))


@dataclass(frozen=True)
class BrokenHead:
    kind: type

    def build(self, context):
        return self.kind(context.torso.num_features, 4, 3, heads.constant(1.0))


def test_a_head_that_breaks_the_contract_is_refused():
    check_head(BrokenHead(Inverse))
    with pytest.raises(AssertionError, match="the loss reaches the torso"):
        check_head(BrokenHead(Detached))
    with pytest.raises(AssertionError, match="counts valid steps alone"):
        check_head(BrokenHead(Masked))


class NoBootstrap(algorithms.Algorithm):
    value_coefficient = entropy_coefficient = 0.5

    def loss(self, output, trajectory, targets=None, progress=0.0):
        total = trajectory.reward.flip(0).cumsum(0).flip(0)  # over the ends of episodes
        zeros = torch.zeros_like(total)
        return algorithms.MainLoss(zeros, zeros, zeros, total)


def test_an_algorithm_that_looks_beyond_an_end_is_refused():
    with pytest.raises(AssertionError, match="nothing after the end of an episode"):
        check_algorithm(Broken(NoBootstrap))


class AlwaysValid(CatchVecEnv):
    def step(self, action):
        step = super().step(action)
        return replace(step, valid=torch.ones_like(step.valid))


@dataclass(frozen=True)
class BrokenCatch(CatchConfig):
    def build(self, name, num_envs, seed, device, render=False):
        return AlwaysValid(self, name, num_envs, seed, device, render)


def test_an_environment_that_breaks_the_contract_is_refused():
    with pytest.raises(AssertionError, match="a step is invalid exactly after"):
        check_env(BrokenCatch(), "Catch")
    with pytest.raises(AssertionError, match="lists Bounce"):
        check_env(CatchConfig(), "Bounce")

"""What the tests of the learner share: heads with a purpose, comparisons bit for bit."""

from dataclasses import replace

import torch
from torch import nn

from agents.algorithms import A2CConfig
from agents.heads import AuxiliaryHead, HeadLoss, Schedule
from agents.learning.learner import LearnerConfig
from agents.rollout.collector import Collector
from agents.runtime.random import generator
from agents.teachers import Teacher

A2C = A2CConfig(normalize_advantage=False).build(discount=0.9)
NAN, INF = float("nan"), float("inf")
T = 5
"""Longer than an episode of `catch` (two steps) and its autoreset."""

CONFIG = LearnerConfig(
    learning_rate=0.01, learning_rate_end=0.0, total_steps=10_000, max_gradient_norm=0.5
)


def main_losses(output, trajectory):
    """The main loss of every step."""
    loss = A2C.loss(output, trajectory)
    value, entropy = A2C.value_coefficient, A2C.entropy_coefficient
    return loss.policy + value * loss.value - entropy * loss.entropy


class Head(AuxiliaryHead):
    """Wants the features to be large; a probe of its own reads the value off them."""

    trains = ("torso",)
    non_negative = False

    def __init__(self, weight=1.0, private_weight=1.0):
        super().__init__()
        self.coefficient = Schedule(weight, weight, 0)
        self.private_weight = private_weight
        self.followed = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.probe = nn.Linear(5, 1)

    def forward(self, agent, output, trajectory, targets):
        loss = self.shared_loss(output, trajectory)
        return HeadLoss(loss + self.private_weight * self.error(output), trajectory.valid)

    def shared_loss(self, output, trajectory):
        return -output.features[:-1].square().sum(-1)

    def error(self, output):
        return (self.probe(output.features.detach())[:-1, :, 0] - 1.0).square()

    def after_update(self, agent):
        self.followed += 1


class Opponent(Head):
    """Always wants the opposite of the main loss."""

    trains = ("torso", "policy", "value")

    def shared_loss(self, output, trajectory):
        return -main_losses(output, trajectory)


class Probe(Head):
    """Reads the features and trains no part of the agent."""

    trains = ()

    def shared_loss(self, output, trajectory):
        return torch.zeros_like(trajectory.reward)


class Broken(Head):
    """Multiplies its loss by `factor`."""

    factor = NAN

    def forward(self, agent, output, trajectory, targets):
        result = super().forward(agent, output, trajectory, targets)
        return HeadLoss(self.factor * result.loss, result.valid)


class Steep(Head):
    """A finite loss whose gradient is not: the root of zero has an infinite slope."""

    def shared_loss(self, output, trajectory):
        return (0.0 * output.features[:-1].sum(-1)).abs().sqrt()


class Faulty(Head):
    """Its loss is NaN, or only the gradient of its loss: that of the root of 0."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, *arguments):
        result = super().forward(*arguments)
        if self.fault == "loss":
            return replace(result, loss=result.loss * torch.nan)
        return replace(result, loss=(result.loss - result.loss.detach()).abs().sqrt())


class Uniform(Teacher):
    """Recommends nothing."""

    def forward(self, trajectory):
        return torch.zeros(*trajectory.action.shape, 3)


def collect(env, agent, count, *, records_value=False):
    """Plays a few trajectories with an agent that does not learn."""
    acting = generator(0, "acting", env.device)
    collector = Collector(env, agent, acting, T, records_value=records_value)
    return [collector.collect() for _ in range(count)]


def numbers(state):
    """Copies all tensors of a state, in order."""
    if isinstance(state, torch.Tensor):
        return [state.clone()]
    if isinstance(state, dict):
        return [number for value in state.values() for number in numbers(value)]
    return []


def agent_numbers(learner):
    """Copies the agent's weights and moments."""
    state = learner.state_dict()
    return numbers(state["agent"]) + numbers(state["optimizers"]["agent"])


def same(left, right):
    """Bit for bit, NaN being equal to itself."""
    return len(left) == len(right) and all(
        torch.allclose(x, y, rtol=0.0, atol=0.0, equal_nan=True)
        for x, y in zip(left, right, strict=True)
    )


def update_all(learner, trajectories):
    return [learner.update(trajectory) for trajectory in trajectories]


def gradients(module):
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]

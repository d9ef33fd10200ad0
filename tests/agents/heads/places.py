"""Environments in name only, one per kind of observation, with an agent for each."""

from dataclasses import dataclass

import torch

from agents.heads import HeadContext
from agents.networks.actor_critic import ActorCritic
from agents.networks.recurrent import GRUConfig
from agents.networks.torsos import MlpConfig, NatureConfig
from agents.runtime.random import Stream, generator
from agents.trajectory import Trajectory
from envs.base import EnvSpec
from tests.agents.heads.settings import evaluate

T, B, A, F = 3, 2, 4, 5
CPU = torch.device("cpu")

KINDS = {
    "image": ((4, 84, 84), torch.uint8, 0),
    "window": ((5, 3), torch.uint8, 6),
    "board": ((10, 5), torch.float32, 0),
    "vector": ((6,), torch.float32, 0),
}
"""Of Atari, the gridworld, Catch and classic control: shape, dtype, number of symbols."""


@dataclass(frozen=True)
class Place:
    """An agent, and what its heads are built from."""

    agent: ActorCritic
    context: HeadContext

    def observe(self, length=T, batch=B, seed=0):
        """Makes up observations [N, B, ...]."""
        spec, draw = self.context.spec, torch.Generator().manual_seed(seed)
        shape = (length + 1, batch, *spec.observation_shape)
        if spec.observation_dtype == torch.uint8:
            return torch.randint(spec.num_symbols or 256, shape, dtype=torch.uint8, generator=draw)
        return torch.randn(shape, generator=draw)

    def play(self, length=T, batch=B, ends=(), seed=0, observation=None, action=None):
        """Makes up a trajectory whose episodes terminate at the pairs (t, b) given."""
        draw = torch.Generator().manual_seed(seed)
        ended = torch.zeros(length, batch, dtype=torch.bool)
        for end in ends:
            ended[end] = True
        if action is None:
            action = torch.randint(A, (length, batch), generator=draw)
        return Trajectory(
            action=action,
            reward=torch.randn(length, batch, generator=draw),
            terminated=ended,
            truncated=torch.zeros_like(ended),
            valid=torch.cat([torch.ones(1, batch, dtype=torch.bool), ~ended[:-1]]),
            log_probability=torch.full((length, batch), -1.0),
            observation=self.observe(length, batch, seed) if observation is None else observation,
        )


def build_place(kind="vector", precision="fp32", memory=0, widths=(7, F), unroll_length=T):
    """Makes a place; a torso without feature maps has layers of the widths given."""
    shape, dtype, num_symbols = KINDS[kind]
    spec = EnvSpec("Made", B, shape, dtype, A, "Made", num_symbols=num_symbols)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "image":
            torso = NatureConfig(width=F).build(shape)
        else:
            torso = MlpConfig(widths).build(shape, num_symbols)
        core = GRUConfig(memory).build(torso.num_features) if memory else None
        agent = ActorCritic(torso, A, precision, core)
    context = HeadContext(
        spec=spec,
        torso=agent.torso,
        num_features=agent.num_features,
        device=CPU,
        load_teacher=lambda path: None,
        stream=lambda name: Stream(generator(0, name, CPU)),
        discount=0.9,
        unroll_length=unroll_length,
    )
    return Place(agent, context)


def learn(head, agent, trajectory, updates, learning_rate=3e-3):
    """Trains torso and head on one trajectory; returns all losses and the last metrics."""
    parameters = [*agent.torso.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    losses = []
    for _ in range(updates):
        result = evaluate(head, agent, trajectory)
        loss = result.loss[result.valid].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        head.after_update(agent)
        losses.append(float(loss.detach()))
    return losses, {name: float(value) for name, value in result.metrics.items()}

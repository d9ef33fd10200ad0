"""Tabular Q-learning of W teachers at once (Watkins 1989).

    Q(s, a) <- Q(s, a) + alpha (r + discount max_b Q(s', b) - Q(s, a))
    alpha = max(learning_rate, n ** -decay)

with epsilon-greedy actions, and n the visits so far of this cell with this action
(polynomial learning rates: Even-Dar and Mansour 2003, JMLR 5).  Several agents may
share a world and its table: those that do the same on the same cell in the same step
share one update by the mean of their errors, and each counts as a visit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from gridworld.config import NUM_ACTIONS
from gridworld.dynamics import draw_chance, restart, step
from gridworld.worlds import Worlds

_BLOCK = 256
"""Steps whose random numbers are drawn together: fewer, larger kernels."""


@dataclass(frozen=True)
class QLearningConfig:
    """Options of Q-learning; our choices but where a source is named.

    DPD is "Distilling Policy Distillation" (Czarnecki et al. 2019, arXiv 1902.02186),
    whose teachers are imperfect: epsilon 0.1, one agent, as reported 30,000 steps.
    """

    steps: int = 30_000
    """Agent steps of each agent (DPD, as reported)."""
    agents: int = 4
    """Agents that learn side by side in each world."""
    epsilon: float = 0.5
    """Probability of a random action (DPD: 0.1, which misses distant rewards)."""
    learning_rate: float = 0.01
    """Alpha, at least."""
    decay: float = 0.6
    """How fast alpha falls from 1 with the visits; 0: it is the learning rate throughout."""
    initial_value: float = 1.0
    """First value of every Q; above 0 it makes untried actions look good."""
    discount: float = 0.99
    """Gamma of the returns, per agent step (DPD, as reported)."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.agents < 1:
            raise ValueError(
                f"steps and agents must be at least 1, not {self.steps} and {self.agents}."
            )
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be a probability, from 0 to 1, not {self.epsilon}.")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(
                f"learning_rate must be above 0 and at most 1, not {self.learning_rate}."
            )
        if not 0 <= self.decay < float("inf"):
            raise ValueError(f"decay must be 0 (constant) or more, not {self.decay}.")
        if not abs(self.initial_value) < float("inf"):
            raise ValueError(f"initial_value must be finite, not {self.initial_value}.")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be from 0 to 1, not {self.discount}.")


def q_learning(
    worlds: Worlds, config: QLearningConfig, generator: torch.Generator
) -> Float32[Tensor, "W cells A"]:
    """Learns one Q-table per world from episodes that begin at its start.

    Args:
        worlds: the pool.
        config: how to learn.
        generator: of all random numbers, on the worlds' device.
    """
    with _in_order(worlds.device):
        return _learnt(worlds, config, generator)


@contextmanager
def _in_order(device: torch.device) -> Iterator[None]:
    """Adds up what several agents learn of one entry in the same order in every run.

    A GPU would add in the order in which its threads come, so that a resumed run had another
    teacher.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type != "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _learnt(
    worlds: Worlds, config: QLearningConfig, generator: torch.Generator
) -> Float32[Tensor, "W cells A"]:
    device, num_agents = worlds.device, len(worlds) * config.agents
    table = torch.full((worlds.num_states, NUM_ACTIONS), config.initial_value, device=device)
    entries = table.view(-1)
    visits = torch.zeros_like(entries)
    one = torch.ones(num_agents, device=device)
    world = torch.arange(len(worlds), device=device).repeat(config.agents)
    state = worlds.start.index_select(0, world)
    time = torch.zeros_like(state)
    for first in range(0, config.steps, _BLOCK):
        block = (min(_BLOCK, config.steps - first), num_agents)
        chance = draw_chance(worlds.config, block, generator)
        explores = torch.rand(block, generator=generator, device=device) < config.epsilon
        anything = torch.randint(NUM_ACTIONS, block, generator=generator, device=device)
        for t in range(block[0]):
            greedy = table.index_select(0, state).argmax(1)
            action = torch.where(explores[t], anything[t], greedy)
            after = step(worlds, state, time, action, chance[t])
            future = table.index_select(0, after.state).amax(1)
            future = future.masked_fill_(after.terminated, 0.0)

            entry = action.add_(state, alpha=NUM_ACTIONS)
            target = after.reward.add(future, alpha=config.discount)
            error = target.sub_(entries.index_select(0, entry))
            before = visits.index_select(0, entry)
            now = visits.index_add_(0, entry, one).index_select(0, entry)
            if config.decay:
                error.mul_(now.pow(-config.decay).clamp_(min=config.learning_rate))
            else:
                error.mul_(config.learning_rate)
            entries.index_add_(0, entry, error.div_(now - before))

            ended = after.terminated | after.truncated
            state, time = restart(worlds, after.state, after.time, ended, world)
    return table.view(len(worlds), -1, NUM_ACTIONS)

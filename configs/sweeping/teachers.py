"""The worlds of a sweep and their teachers."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from agents.seeding import generator
from configs.sweep import SweepConfig
from configs.sweeping.arms import teachings
from gridworld import (
    QLearningConfig,
    Worlds,
    action_values,
    modified_pairs,
    optimal_values,
    q_learning,
    softmax_policy,
)


@cache
def pairs(config: SweepConfig, device: torch.device) -> tuple[Worlds, Worlds]:
    """All worlds of the sweep, before and after the change of their rewards."""
    return modified_pairs(
        config.world, config.seed, config.num_worlds, config.change, device=device
    )


def teacher_policies(
    config: SweepConfig, before: Worlds, after: Worlds, seed: int
) -> list[Float[Tensor, "W cells A"]]:
    """What the teachers do on each cell, in the order of `teachings`.

    Args:
        config: the sweep's.
        before: the worlds of the teachers of setting `cross`.
        after: the students' worlds, and those of the teachers of setting `same`.
        seed: of Q-learning.
    """
    source = {"cross": before, "same": after}
    values = {setting: _action_values(config, source[setting], seed) for setting in config.settings}
    return [
        softmax_policy(values[teaching.setting], teaching.temperature)
        for teaching in teachings(config)
    ]


def _action_values(config: SweepConfig, worlds: Worlds, seed: int) -> Float[Tensor, "W cells A"]:
    discount = config.world.discount
    if config.teacher == "q-learning":
        steps = config.teacher_steps or QLearningConfig.steps
        options = QLearningConfig(steps=steps, discount=discount)
        return q_learning(worlds, options, generator(seed, "teachers", worlds.device))
    return action_values(worlds, optimal_values(worlds, discount), discount)

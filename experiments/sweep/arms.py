"""The students of each world: main-only, and each gate with each teacher."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from agents.runtime.random import generator
from configs.programs import Setting, SweepConfig
from gridworld import (
    QLearningConfig,
    Worlds,
    action_values,
    modified_pairs,
    optimal_values,
    q_learning,
    softmax_policy,
)

# The worlds of a sweep and their teachers.


@cache
def pairs(config: SweepConfig, device: torch.device) -> tuple[Worlds, Worlds]:
    """All worlds of the sweep, before and after the change of their rewards."""
    return modified_pairs(
        config.world, config.seed, config.num_worlds, config.change, device=device
    )


def teacher_policies(
    config: SweepConfig, before: Worlds, after: Worlds, seed: int
) -> list[Float[Tensor, "W cells A"]]:
    """The policies of the teachers on each cell, in the order of `teachings`.

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


MAIN = "main-only"


@dataclass(frozen=True)
class Teaching:
    """A teacher: the world it comes from, and the temperature of its policy."""

    setting: Setting
    temperature: float


@dataclass(frozen=True)
class SweepArm:
    """One student of each world."""

    gate: str
    """Its name with its options, or `main-only`."""
    teaching: Teaching | None
    """None: no teacher."""


def teachings(config: SweepConfig) -> tuple[Teaching, ...]:
    """All teachers of one world, settings first."""
    return tuple(
        Teaching(setting, temperature)
        for setting in config.settings
        for temperature in config.temperatures
    )


def arms(config: SweepConfig) -> tuple[SweepArm, ...]:
    """All students of one world: main-only, then gate by gate.

    Students live in the modified world whatever the setting, so that the settings differ in
    the teacher alone, and main-only learning is the same in both.
    """
    taught = [SweepArm(gate, teaching) for gate in config.gates for teaching in teachings(config)]
    return (SweepArm(MAIN, None), *taught)

"""A slow gridworld, cell by cell, and small worlds to hold against it."""

from types import SimpleNamespace

import numpy as np
import pytest

from gridworld import WALL, WorldConfig, generate

SMALL = {"height": 6, "width": 7, "terminal_probability": 0.08, "penalty_probability": 0.2}
"""Small, not square, and full: about one cell in three holds a reward."""


@pytest.fixture(scope="session")
def small():
    """Builds the settings of small worlds."""

    def small(**options):
        return WorldConfig(**SMALL | options)

    return small


@pytest.fixture(scope="session")
def build_worlds(small):
    """Builds small worlds, three by default."""

    def build_worlds(count=3, seed=0, **options):
        return generate(small(**options), seed, range(count))

    return build_worlds


def move(config, kinds, cell, way):
    """Where one move leads: up, right, down, left, unless a wall is there."""
    row, column = divmod(cell, config.width)
    down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[way]
    target = (row + down) * config.width + column + right
    return cell if kinds[target] == WALL else target


def outcomes(config, kinds, cell, action):
    """All (probability, next cell) of an action, as DPD tells them."""
    chances = [config.action_noise / 4] * 4
    chances[action] += 1 - config.action_noise
    return [(chance, move(config, kinds, cell, way)) for way, chance in enumerate(chances)]


def is_over(kinds, cell):
    """Whether a cell ends the episode: kinds 0 to 2 are empty, wall and penalty."""
    return kinds[cell] > 2


def transitions(config, kinds, policy, discount):
    """The dense matrix discount * P of going on from cell to cell, and the mean rewards."""
    onwards, rewards = np.zeros((len(kinds), len(kinds))), np.zeros(len(kinds))
    for cell, kind in enumerate(kinds):
        if kind == WALL or is_over(kinds, cell):
            continue
        for action in range(4):
            for chance, after in outcomes(config, kinds, cell, action):
                weight = policy[cell][action] * chance
                rewards[cell] += weight * config.kind_rewards[kinds[after]]
                if not is_over(kinds, after):
                    goes_on = 1 - config.termination_probability
                    onwards[cell, after] += weight * goes_on * discount
    return onwards, rewards


def best_values(config, kinds, discount, sweeps=3000):
    """Value iteration, one cell after the other."""
    value = [0.0] * len(kinds)
    goes_on = discount * (1 - config.termination_probability)
    for _ in range(sweeps):
        before = list(value)
        for cell, kind in enumerate(kinds):
            if kind == WALL or is_over(kinds, cell):
                continue
            value[cell] = max(
                sum(
                    chance
                    * (
                        config.kind_rewards[kinds[after]]
                        + (0 if is_over(kinds, after) else goes_on * value[after])
                    )
                    for chance, after in outcomes(config, kinds, cell, action)
                )
                for action in range(4)
            )
        if max(abs(a - b) for a, b in zip(before, value, strict=True)) < 1e-13:
            break
    return value


@pytest.fixture(scope="session")
def slow():
    """The slow gridworld."""
    return SimpleNamespace(
        move=move,
        outcomes=outcomes,
        is_over=is_over,
        transitions=transitions,
        best_values=best_values,
    )

r"""Procedural, partially observable gridworlds as batched tensors, on any device.

A world is a row of tables and a state is a flat index into them.  `generate` makes worlds,
`step` and `restart` play them, `symbols` gives the observations, and `optimal_values` and
`evaluate` solve for the exact value of the best policy or of any policy.  All are functions
of the worlds and of randomness that the caller draws.  The package knows nothing of
learning.

    >>> import torch
    >>> from gridworld import WorldConfig, draw_chance, parse, step, symbols
    >>> config = WorldConfig(height=3, width=5, action_noise=0.0, termination_probability=0.0)
    >>> worlds = parse(config, ["#####\n#S.A#\n#####"])
    >>> state, time = worlds.start, torch.zeros_like(worlds.start)
    >>> right = torch.ones_like(state)
    >>> chance = draw_chance(config, state.shape, torch.Generator())
    >>> after = step(worlds, state, time, right, chance)
    >>> symbols(worlds, after.state)[0].tolist()  # 0 empty, 1 wall, 3 the first reward
    [[1, 1, 1], [0, 0, 3], [1, 1, 1]]
    >>> after = step(worlds, after.state, after.time, right, chance)
    >>> after.reward.item(), after.terminated.item()
    (10.0, True)

What `__all__` lists is the public API; the modules hold the rest.
"""

from gridworld.ascii import parse, text
from gridworld.config import (
    EMPTY,
    FIRST_TERMINAL,
    NUM_ACTIONS,
    PENALTY,
    WALL,
    WorldConfig,
)
from gridworld.dynamics import (
    Chance,
    Transition,
    draw_chance,
    draw_worlds,
    observation_id,
    one_hot,
    restart,
    step,
    symbols,
)
from gridworld.evaluation import Evaluation, cell_policy, evaluate, softmax_policy
from gridworld.generate import generate
from gridworld.layouts import LAYOUTS, Layout
from gridworld.modify import Change, modified, modified_pairs
from gridworld.options import OptionError
from gridworld.qlearning import QLearningConfig, q_learning
from gridworld.render import film, image
from gridworld.solve import action_values, optimal_values, solvable
from gridworld.worlds import Worlds

__all__ = [
    "OptionError",
    "WorldConfig",
    "Worlds",
    "generate",
    "modified",
    "modified_pairs",
    "Change",
    "LAYOUTS",
    "Layout",
    "EMPTY",
    "WALL",
    "PENALTY",
    "FIRST_TERMINAL",
    "NUM_ACTIONS",
    "step",
    "restart",
    "draw_chance",
    "draw_worlds",
    "Chance",
    "Transition",
    "symbols",
    "one_hot",
    "observation_id",
    "optimal_values",
    "action_values",
    "solvable",
    "evaluate",
    "Evaluation",
    "softmax_policy",
    "cell_policy",
    "q_learning",
    "QLearningConfig",
    "text",
    "parse",
    "image",
    "film",
]

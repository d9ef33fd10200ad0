"""Procedural, partially observable gridworlds as batched tensors, on any device.

    worlds = generate(WorldConfig(layout="rooms"), seed=1, world_ids=range(4096))
    state, time = worlds.start, torch.zeros_like(worlds.start)
    chance = draw_chance(worlds.config, state.shape, generator)
    after = step(worlds, state, time, action, chance)
    seen = symbols(worlds, after.state)

A world is a table, a state a flat index into it, and everything a pure function of
worlds and given randomness.  The same tables serve the exact solvers, which say what
the best policy, or any policy, is worth.  Knows nothing of learning.
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
from gridworld.qlearning import QLearningConfig, q_learning
from gridworld.render import film, image
from gridworld.solve import action_values, optimal_values, solvable
from gridworld.worlds import Worlds

__all__ = [
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

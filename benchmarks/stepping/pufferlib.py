"""PufferLib's ocean grid (https://github.com/PufferAI/PufferLib), which is written in C.

Mazes of 15x15 out of a pool of 1,000, its default number.  Its window cannot be changed.
"""

import numpy as np
from pufferlib import __version__
from pufferlib.ocean.grid.grid import Grid

from benchmarks.stepping.protocol import Form, Program

SIZE = 15
STEPS = 8


def program(num_envs: int) -> Program:
    """Builds `num_envs` environments."""
    env = Grid(num_envs=num_envs, map_size=SIZE, max_size=SIZE)
    env.reset(seed=0)
    generator = np.random.default_rng(0)

    def play() -> int:
        actions = generator.integers(env.single_action_space.n, size=(STEPS, num_envs))
        for action in actions:
            env.step(action)
        return STEPS * num_envs

    view = f"{env.obs_size}x{env.obs_size} {env.observations.dtype}"
    return Program(f"pufferlib {__version__}", {"C": Form(view, play)})

"""XLand-MiniGrid (https://github.com/corl-team/xland-minigrid): four rooms of 15x15 in all.

With its own default ruleset, an empty one, which is the cheapest; a new world per episode.
"""

from importlib.metadata import version

import xminigrid
from xminigrid.wrappers import GymAutoResetWrapper

from benchmarks.stepping.jax_forms import forms
from benchmarks.stepping.protocol import Program


def program(num_envs: int) -> Program:
    """Builds `num_envs` environments."""
    env, params = xminigrid.make("XLand-MiniGrid-R4-15x15", view_size=5)
    env = GymAutoResetWrapper(env)
    return Program(
        versions=f"xminigrid {version('xminigrid')}, jax {version('jax')}",
        forms=forms(
            lambda key: env.reset(params, key),
            lambda timestep, action: env.step(params, timestep, action),
            env.num_actions(params),
            num_envs,
        ),
    )

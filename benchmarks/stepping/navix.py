"""NAVIX (https://github.com/epignatelli/navix): four rooms of 15x15 in all, new per episode."""

from importlib.metadata import version

from navix import observations, rewards, terminations
from navix.environments.four_rooms import FourRooms

from benchmarks.stepping.jax_forms import forms
from benchmarks.stepping.protocol import Program


def program(num_envs: int) -> Program:
    """Builds `num_envs` environments."""
    observations.set_radius(2)
    env = FourRooms.create(
        height=15,
        width=15,
        observation_fn=observations.symbolic_first_person,
        reward_fn=rewards.on_goal_reached,
        termination_fn=terminations.on_goal_reached,
    )
    return Program(
        versions=f"navix {version('navix')}, jax {version('jax')}",
        forms=forms(env.reset, env.step, len(env.action_set), num_envs),
    )

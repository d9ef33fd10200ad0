"""Vectorized environments behind one contract, and the lookup by name.

Every environment is a `VecEnv`: B copies stepped together, tensors in and out, next-step
autoreset (see `envs.base`).  `find` looks a name up, whatever its case, and says which
family builds it; a field of `EnvFamilies` is a family's config, whose `build` makes the
environment.

    >>> import torch
    >>> from envs import EnvFamilies, find
    >>> name, family = find("catch")
    >>> config = getattr(EnvFamilies(), family)
    >>> env = config.build(name, num_envs=2, seed=0, device=torch.device("cpu"))
    >>> env.reset().shape[0], env.spec.num_actions
    (2, 3)
    >>> step = env.step(torch.tensor([0, 2]))
    >>> step.reward.tolist(), step.valid.tolist()
    ([0.0, 0.0], [True, True])
    >>> env.close()

A new family is one module with a config that lists its `names` and can `build` one, and
one line in `EnvFamilies`.  That gives it `--env <name>`, its options as `--env.<option>`
and all tests of `tests/envs/test_every_env.py`.  What `__all__` lists is the public API.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch

from envs.atari.config import PROTOCOLS as ATARI_PROTOCOLS
from envs.atari.config import AtariConfig
from envs.atari.games import installed_backends
from envs.base import EnvSpec, Step, VecEnv
from envs.catch import CatchConfig
from envs.episodes import Episodes, EpisodeSummary
from envs.gridworld.config import GridConfig
from envs.gridworld.gymnasium import register
from envs.gym import GymConfig
from envs.names import canonical, nearest

__all__ = [
    "EnvConfig",
    "EnvFamilies",
    "EnvSpec",
    "EpisodeSummary",
    "Episodes",
    "HELD_OUT",
    "PROTOCOLS",
    "Step",
    "VecEnv",
    "find",
]


@runtime_checkable
class EnvConfig(Protocol):
    """What the config of every family offers; its fields are its options."""

    def names(self) -> tuple[str, ...]:
        """Lists the environments that `build` knows."""

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> VecEnv:
        """Starts `num_envs` copies of the environment `name`, whose tensors live on `device`.

        Only what is built with `render` can be drawn.
        """


@dataclass(frozen=True)
class EnvFamilies:
    """The registry: one line per family, in the order in which a name is looked up."""

    catch: CatchConfig = CatchConfig()
    gridworld: GridConfig = GridConfig()
    gym: GymConfig = GymConfig()
    # Last, since listing its games imports their emulators, which takes a second.
    atari: AtariConfig = AtariConfig()


register()

HELD_OUT: Mapping[str, Callable[[GridConfig], GridConfig]] = {"gridworld": GridConfig.held_out}
"""Of families with worlds to learn in and others to be scored in: from the former to the latter."""

PROTOCOLS: Mapping[str, Mapping[str, AtariConfig]] = {"atari": ATARI_PROTOCOLS}
"""Of families with published protocols: the options under each, the usual protocol first."""


def find(name: str) -> tuple[str, str]:
    """Finds an environment by the name typed, whatever its case.

    Returns:
        Its canonical name, and the family (a field of `EnvFamilies`) that builds it.

    Raises:
        ValueError: if no family knows the name; suggests the nearest ones.
    """
    known: list[str] = []
    families = EnvFamilies()
    for family in fields(families):
        config: EnvConfig = getattr(families, family.name)
        names = config.names()
        spelling = canonical(name, names)
        if spelling is not None:
            return spelling, family.name
        known.extend(names)
    cure = "Any Gymnasium id works too, such as CartPole-v1"
    if not installed_backends():
        cure += "; Atari games need pip install 'auxgate[atari]'"
    raise ValueError(
        f"Unknown environment '{name}': did you mean {', '.join(nearest(name, known))}? {cure}."
    )

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
one line in `EnvFamilies`, or a call of `register` in another package (docs/extending.md).
That gives it its name and its options on the command line; a line here also gives it all
tests of `tests/envs/test_every_env.py`.  What `__all__` lists is the public API.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from envs.atari.config import PROTOCOLS as ATARI_PROTOCOLS
from envs.atari.config import AtariConfig
from envs.atari.games import STANDARD_GAMES, installed_backends
from envs.base import EnvSpec, Step, VecEnv
from envs.catch import CatchConfig
from envs.envpool.config import EnvpoolConfig
from envs.envpool.minigrid import MinigridConfig
from envs.envpool.pool import is_installed
from envs.envpool.procgen import ProcgenConfig
from envs.episodes import Episodes, EpisodeSummary
from envs.gridworld.config import GridConfig
from envs.gridworld.gymnasium import register as register_in_gymnasium
from envs.gym import GymConfig
from envs.names import canonical, comes_with_package, locate, nearest, only
from envs.tasks import TasksConfig, is_joined, read_tasks
from gridworld.options import OptionError, Registry, mention

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
    "register",
    "registered",
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

        Args:
            name: of the environment, one of `names()`.
            num_envs: B, the environments stepped together.
            seed: all randomness of the environments follows from it.
            device: where observations, rewards and flags live.
            render: whether `VecEnv.render` will be called.
        """


@dataclass(frozen=True)
class EnvFamilies:
    """The package's own families, one line each."""

    catch: CatchConfig = CatchConfig()
    gridworld: GridConfig = GridConfig()
    gym: GymConfig = GymConfig()
    procgen: ProcgenConfig = ProcgenConfig()
    minigrid: MinigridConfig = MinigridConfig()
    envpool: EnvpoolConfig = EnvpoolConfig()
    atari: AtariConfig = AtariConfig()
    tasks: TasksConfig = TasksConfig()


register_in_gymnasium()

_EMULATED = ("procgen", "minigrid", "envpool", "atari")
"""Families whose games are listed by packages that take a second to import."""

_REGISTRY = Registry("environment family", EnvFamilies(), contract=EnvConfig)
registered = _REGISTRY.registered

HELD_OUT: Mapping[str, Callable[[Any], Any]] = {
    "gridworld": GridConfig.held_out,
    "procgen": ProcgenConfig.held_out,
}
"""For families with held-out worlds: from the config of the training worlds to that of these."""

RESPELL: tuple[Callable[[str], str], ...] = (ProcgenConfig.respell, MinigridConfig.respell)
"""What other people call an environment, for names that no family lists."""

PROTOCOLS: Mapping[str, Mapping[str, AtariConfig]] = {"atari": ATARI_PROTOCOLS}
"""For families with published protocols: the options under each, the usual protocol first."""


def find(name: str) -> tuple[str, str]:
    """Finds an environment by the name typed, whatever its case where only one can be meant.

    `module:Id` imports the module, which registers the id with Gymnasium.  Names joined by `+` are
    several tasks (`envs.tasks`).

    Returns:
        Its canonical name, and the family (of `registered`) that builds it.

    Raises:
        ValueError: if no family knows the name (suggests the nearest ones), several names differ
            from it in case only, or a module cannot be imported.
    """
    if is_joined(name):
        return "+".join(map(str, read_tasks(name))), "tasks"
    families: dict[str, EnvConfig] = registered()
    # Last, since listing their games imports the emulators, which takes a second.
    emulated = {family: families.pop(family) for family in _EMULATED}
    known = {family: config.names() for family, config in families.items()}
    if canonical(name, STANDARD_GAMES) is not None:
        known["atari"] = emulated["atari"].names()
    found = _match(name, known)
    if found is None and comes_with_package(name):
        return _of_package(name)
    if found is None:
        known |= {family: config.names() for family, config in emulated.items()}
        found = _match(name, known) or _respelt(name)
    if found is not None:
        return found
    if bracketed := re.fullmatch(r"([^()]+)\((\w*).*", name, re.DOTALL):
        env, option = bracketed.groups()
        raise OptionError(
            "",
            f"options in brackets are for several tasks, joined by +; write {env} and "
            f"{mention('.'.join(['env', option or 'OPTION']))} VALUE for one.",
        )
    names = [spelling for listed in known.values() for spelling in listed]
    cure = (
        "Any Gymnasium id works too, such as CartPole-v1, or minigrid:MiniGrid-Empty-8x8-v0 with "
        "the module that registers it"
    )
    if not installed_backends():
        cure += "; Atari games need pip install 'auxgate[atari]'"
    if not is_installed():
        cure += "; Procgen, MiniGrid and the games of envpool need pip install 'auxgate[envpool]'"
    raise ValueError(
        f"Unknown environment '{name}': did you mean {', '.join(nearest(name, names))}? {cure}."
    )


def _of_package(name: str) -> tuple[str, str]:
    """An id of a well-known package: from the package, or from a family that has it as well."""
    try:
        return locate(name), "gym"
    except ValueError as error:
        other = next((own for respell in RESPELL if (own := respell(name)) != name), None)
        if other is None:
            raise
        try:
            return find(other)
        except ValueError as unknown:
            raise ValueError(f"{unknown} {error}") from error


def _respelt(name: str) -> tuple[str, str] | None:
    """The environment that other people call so."""
    for respell in RESPELL:
        other = respell(name)
        if other != name:
            return find(other)
    return None


def _match(name: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, str] | None:
    """The name as one of the families spells it, and the family; the exact spelling wins."""
    for family, names in known.items():
        if name in names:
            return name, family
    lower = name.lower()
    alike = {
        spelling: family
        for family, names in known.items()
        for spelling in names
        if spelling.lower() == lower
    }
    only(name, sorted(alike))
    return next(iter(alike.items()), None)


def register(family: str, config: Any) -> None:
    """Adds a family of environments, which then can be chosen on the command line.

    Args:
        family: its name in lower case, with underscores; it is stored with a run.
        config: an instance of a frozen dataclass that is an `EnvConfig`; its values are the
            defaults.

    Raises:
        ValueError: the name is taken or no name, the config is not such an instance, or it lists
            an environment that another family has.
    """
    _REGISTRY.check(family, config)
    for name in config.names():
        try:
            _, other = find(name)
        except ValueError:
            continue
        raise ValueError(
            f"environment family {family} lists {name}, which is taken by {other}: choose "
            "another name."
        )
    _REGISTRY.register(family, config)

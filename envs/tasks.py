"""Several environments for one learner: `--env Breakout+MsPacman`.

Names are joined by `+`.  A task's own options follow its name in brackets, as in
`Gridworld+Gridworld(layout="maze")`; those left out have their defaults.
"""

import ast
import re
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, get_type_hints

import msgspec
import torch

from envs.base import VecEnv
from envs.joined import TaskVecEnv
from envs.names import nearest, separated_seeds
from gridworld.options import OptionError, in_brackets

SIGN = "+"


@dataclass(frozen=True)
class TaskName:
    """One of the names that are joined."""

    env: str
    """Canonical name of the environment."""
    family: str
    options: tuple[tuple[str, Any], ...] = ()
    """Those in brackets."""
    number: int = 1
    """Which of the tasks in this environment it is."""

    def __str__(self) -> str:
        """The name with its options, as on a command line."""
        inner = ", ".join(f"{name}={value!r}" for name, value in self.options)
        return f"{self.env}({inner})" if inner else self.env

    @property
    def label(self) -> str:
        """A short name for logs and files: the second task in the gridworld is `Gridworld-2`."""
        name = re.sub(r"[^\w-]+", "-", self.env)
        return name if self.number == 1 else f"{name}-{self.number}"

    def config(self) -> Any:
        """The config of its family with its options.

        Raises:
            ValueError: an option is unknown, or has a value that it cannot have.
        """
        from envs import registered  # which knows this module, too

        usual: Any = registered()[self.family]
        hints = get_type_hints(type(usual))
        given: dict[str, Any] = {}
        for name, value in self.options:
            if name not in hints:
                likely = ", ".join(nearest(name, [item.name for item in fields(usual)]))
                raise ValueError(f"{self.env} has no option {name}: did you mean {likely}?")
            try:
                given[name] = msgspec.convert(value, hints[name])
            except msgspec.ValidationError as error:
                reason = f"{str(error)[:1].lower()}{str(error)[1:]}"
                raise ValueError(f"{self}: {name} cannot be {value!r} ({reason}).") from error
            except TypeError:  # a plugin's own type
                given[name] = value
        try:
            return replace(usual, **given)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self}: {error}") from error


def is_joined(name: str) -> bool:
    """Whether a name joins several, brackets apart."""
    return len(_split(name)) > 1


def read_tasks(name: str) -> tuple[TaskName, ...]:
    """Reads a joined name.

    Args:
        name: such as `Breakout+MsPacman`.

    Raises:
        ValueError: a name is missing, unknown or given twice, or options cannot be read.
    """
    from envs import find  # which knows this module, too

    tasks: list[TaskName] = []
    for text in _split(name):
        env, bracket, rest = text.partition("(")
        if not env.strip():
            raise ValueError(f"a name is missing before or after a {SIGN}: give one for each task.")
        known, family = find(env.strip())
        options = _options(text, rest) if bracket else ()
        same = [task for task in tasks if task.env == known]
        if options in (task.options for task in same):
            raise ValueError(
                f"{text.strip()} is given twice: give it once, or other options to one of the two, "
                f"as in Gridworld{SIGN}Gridworld(layout='maze')."
            )
        tasks.append(TaskName(known, family, options, 1 + len(same)))
    return tuple(tasks)


def _split(name: str) -> list[str]:
    """Cuts a name at the signs that are in no bracket."""
    depth, parts = 0, [""]
    for letter in name:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == SIGN and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _options(text: str, rest: str) -> tuple[tuple[str, Any], ...]:
    """Reads options in brackets.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        given = in_brackets(rest)
        # The name that is stored is read again: infinity, say, is written in a way nobody reads.
        ast.literal_eval(repr(given))
    except ValueError as error:
        raise ValueError(
            f"{text} cannot be read: write options as in Gridworld(layout='maze', view_radius=2)."
        ) from error
    return tuple(sorted(given.items()))


@dataclass(frozen=True)
class TasksConfig:
    """Options of several tasks together; those of one task follow its name in brackets."""

    share: tuple[int, ...] = ()
    """How the environments are divided among the tasks, such as 3 1, rounded; empty: evenly."""

    def __post_init__(self) -> None:
        if any(part < 1 for part in self.share):
            raise OptionError("share", f"must be 1 or more for each task, not {self.share}.")

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists nothing, since any environments may be joined."""
        return ()

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> TaskVecEnv:
        """Starts the environments of all tasks.

        Args:
            name: joins those of the tasks.
            num_envs: B, of all tasks together.
            seed: all randomness of the environments follows from it.
            device: where observations, rewards and flags live.
            render: whether `VecEnv.render` will be called.

        Raises:
            ValueError: the environments cannot be divided so, or their observations differ.
        """
        tasks = read_tasks(name)
        sizes = self.sizes(num_envs, len(tasks))
        built: list[VecEnv] = []
        try:
            seeds = separated_seeds(seed, len(tasks))
            for task, size, own in zip(tasks, sizes, seeds, strict=True):
                built.append(task.config().build(task.env, size, own, device, render))
            return TaskVecEnv(name, built)
        except BaseException:
            for env in built:
                env.close()
            raise

    def sizes(self, num_envs: int, num_tasks: int) -> list[int]:
        """The number of environments of each task.

        Args:
            num_envs: of all of them.
            num_tasks: how many tasks.

        Raises:
            OptionError: they cannot be divided so.
        """
        share = self.share or (1,) * num_tasks
        if len(share) != num_tasks:
            raise OptionError(
                "share", f"has {len(share)} numbers for {num_tasks} tasks: give one for each."
            )
        edges = [num_envs * sum(share[:index]) // sum(share) for index in range(num_tasks + 1)]
        sizes = [end - start for start, end in pairwise(edges)]
        if not all(sizes):
            raise OptionError(
                "num_envs",
                f"{num_envs} leaves a task without an environment: use at least "
                f"{-(-sum(share) // min(share))}.",
            )
        return sizes

"""Options of a run with several tasks in one network, and the order that its tasks have."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from configs.errors import UsageError, nearest_first
from configs.numbers import check_number
from envs.tasks import SIGN, TaskName, TasksConfig, read_tasks

FAMILY = "tasks"


@dataclass(frozen=True)
class TaskOptions:
    """How several tasks are learnt together."""

    main: str = ""
    """The task whose loss is the main one, with which gates compare those of the other tasks and
    of heads; empty: the first."""
    heads: str = ""
    """The task that has heads (--aux); empty: each task has its own."""
    policy: Literal["own", "shared"] = "own"
    """Whether each task has a policy of its own on top of the shared network, or all have one,
    which needs tasks with the same actions."""


def tasks_of(env: str, family: str) -> tuple[TaskName, ...]:
    """The tasks of a run; none where there is only one.

    Args:
        env: canonical name of the environment, or names that are joined.
        family: that builds it.
    """
    return read_tasks(env) if family == FAMILY else ()


def check_brackets(env: str, family: str) -> None:
    """Refuses options in brackets that no command line would take as flags.

    Args:
        env: canonical name of the environment, or names that are joined.
        family: that builds it.

    Raises:
        ValueError: an option is unknown, or has a value that it cannot have.
    """
    for task in tasks_of(env, family):
        config = task.config()
        for name, _ in task.options:
            check_number(f"{task}: {name}", name, getattr(config, name))


def preset_family(env: str, family: str) -> str:
    """The family whose preset a run has: of several tasks, that of the first.

    Args:
        env: canonical name of the environment, or names that are joined.
        family: that builds it.
    """
    tasks = tasks_of(env, family)
    return tasks[0].family if tasks else family


def chosen(flag: str, name: str, tasks: Sequence[TaskName]) -> TaskName:
    """The task that an option names.

    Args:
        flag: the option.
        name: its value: a task as in `--env`, or its label, whatever the case.
        tasks: that there are.

    Raises:
        UsageError: there is no such task.
    """
    for task in tasks:
        if name.lower() in (task.label.lower(), str(task).lower()):
            return task
    known = [task.label for task in tasks]
    raise UsageError(f"{flag} {name} is no task of this run: choose {nearest_first(name, known)}.")


def main_first(options: TaskOptions, tasks: Sequence[TaskName]) -> tuple[TaskName, ...]:
    """The tasks as they are learnt: the main one, then the others as on the command line.

    Args:
        options: name the main task.
        tasks: in the order of `--env`.

    Raises:
        UsageError: there is no such task.
    """
    main = chosen("--tasks.main", options.main, tasks) if options.main else tasks[0]
    return (main, *(task for task in tasks if task != main))


def reordered(env: str, config: TasksConfig, order: Sequence[TaskName]) -> tuple[str, TasksConfig]:
    """Joins names in another order, and puts their shares in that order, too.

    Args:
        env: names that are joined.
        config: of the environments.
        order: the tasks, the first one first.
    """
    tasks, share = read_tasks(env), config.share
    if len(share) == len(tasks):
        share = tuple(share[tasks.index(task)] for task in order)
    return SIGN.join(map(str, order)), replace(config, share=share)


def of_each(value: Any, tasks: Sequence[TaskName], flag: str) -> list[Any]:
    """Deals out a value that may have one part for each task, joined as the tasks are.

    Args:
        value: such as `Breakout+runs/pacman`, in the order of `--env`; one part is for all. The
            sign within the path of a file or folder that is there joins nothing.
        tasks: in the order of `--env`.
        flag: the option, for the error.

    Raises:
        UsageError: there are more or fewer parts than tasks.
    """
    parts = _parts(str(value))
    if len(parts) == 1:
        return [value] * len(tasks)
    if len(parts) != len(tasks):
        raise UsageError(
            f"{flag} {value} names {len(parts)} for {len(tasks)} tasks: give one for each, in the "
            "order of --env, or one for all."
        )
    return [part.strip() for part in parts]


def _parts(text: str) -> list[str]:
    """Cuts a text at the signs that are in no path: the folder of a run may be `Breakout+Pong`."""
    pieces, parts = text.split(SIGN), []
    while pieces:
        ends = range(len(pieces), 1, -1)
        longest = (n for n in ends if os.path.exists(SIGN.join(pieces[:n]).strip()))
        count = next(longest, 1)
        parts.append(SIGN.join(pieces[:count]))
        pieces = pieces[count:]
    return parts

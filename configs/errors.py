"""Mistakes of the user: one sentence that names the flag and the cure, exit code 2.

The layers below complain about options by their names; here these become flags.
"""

import shlex
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from envs.base import EnvironmentFailedError
from envs.names import nearest as nearest_names
from gridworld.options import OptionError


def quoted(path: object) -> str:
    """A path as a word of a command that will be pasted into a shell."""
    return shlex.quote(str(path))


class UsageError(ValueError):
    """Something the user can put right; the message is all they need to see."""


def nearest(wanted: str, names: Iterable[str]) -> str:
    """The name most like what was typed."""
    return nearest_names(wanted, names)[0]


def nearest_first(wanted: str, names: Iterable[str]) -> str:
    """Lists names for an error message, the likeliest meant one first."""
    known = nearest_names(wanted, names, count=None)
    return " or ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else known[0]


def flag(option: str, component: str = "") -> str:
    """The flag of an option.

    Args:
        option: the name of the field.
        component: whose it is, as `algo.ppo`; empty for the options of every run.
    """
    return "--" + ".".join(filter(None, (component, option))).replace("_", "-")


def in_flags(error: ValueError, config: Any, component: str) -> str:
    """Says what a config complains about in the flags that set it.

    What it mentions and does not have itself is an option of the run, or of another component
    and named as `env.observation`.  The gates' library knows no `OptionError`: where its
    sentence begins with an option's name, that becomes the flag.

    Args:
        error: the complaint.
        config: a dataclass or instance of it, whose options are complained about.
        component: its place on the command line, as `algo.ppo`; empty for the run's own.
    """
    own = {field.name for field in fields(config)} if is_dataclass(config) else set()

    def name(option: str) -> str:
        return flag(option, component if option in own else "")

    if isinstance(error, OptionError):
        return error.sentence(name)
    first, _, rest = str(error).partition(" ")
    if first in own:
        return f"{name(first)} {rest}"
    return str(error)


def blame(program: str, error: EnvironmentFailedError, saved: str = "") -> None:
    """Prints one sentence that says whose error it is, then the traceback of their code.

    Args:
        program: the script's name.
        error: what an environment raised is its cause.
        saved: a sentence on what is saved.
    """
    print(f"{program}: {error}; its traceback follows. {saved}".rstrip(), file=sys.stderr)
    traceback.print_exception(error.__cause__ or error)


@contextmanager
def naming(config: Any, component: str = "") -> Iterator[None]:
    """Turns what a component refuses, when it is made or built, into a sentence for the user.

    Args:
        config: a dataclass or instance of it, whose options may be complained about.
        component: its place on the command line, as `algo.ppo`.

    Raises:
        UsageError: the component refused.
    """
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(in_flags(error, config, component)) from error

"""Components from outside the package, which a module registers when it is imported.

A plugin is a module that calls `agents.gates.register` and its like; docs/extending.md shows
how.  One that is installed with the entry point group `auxgate.plugins` is always there.
"""

import argparse
import importlib
import traceback
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points

from configs.errors import UsageError

GROUP = "auxgate.plugins"
FLAG = "--plugin"


def take(arguments: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Reads the modules that a command line names, and loads them and those installed.

    Returns:
        The modules named, and the other arguments.

    Raises:
        UsageError: one cannot be loaded.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(FLAG, action="append", default=[])
    try:
        given, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from error
    modules = tuple(dict.fromkeys(given.plugin))
    load_installed()
    load(modules)
    return modules, rest


def load_installed() -> None:
    """Imports what the packages installed here have in the entry point group.

    Raises:
        UsageError: one of them cannot be loaded.
    """
    for point in entry_points(group=GROUP):
        _load(point.module, f"the plugin {point.name} that is installed here")


def load(modules: Iterable[str]) -> None:
    """Imports modules that register components; those that were imported before stay as they are.

    Raises:
        UsageError: one of them cannot be loaded.
    """
    for module in modules:
        _load(module, f"{FLAG} {module}")


def _load(module: str, what: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{what}: there is no module {error.name}; install it, or add its folder to "
                "PYTHONPATH."
            ) from error
        raise UsageError(f"{what}: {_sentence(error)}") from error
    except Exception as error:  # somebody else's code may fail in any way
        raise UsageError(f"{what}: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    """What went wrong in one line, and for mistakes in the code where."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, ValueError):  # as `register` says it
        return f"{text}."
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({place.filename}, line {place.lineno})."

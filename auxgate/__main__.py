"""The command `auxgate train|evaluate|sweep|study`: what `train.py` and the other files do."""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from re import match

from auxgate.program import run

HELP = """\
usage: auxgate COMMAND [OPTIONS]

  auxgate train      trains an actor-critic with gated auxiliary losses
  auxgate evaluate   plays whole episodes with trained policies, or films one
  auxgate sweep      teachers' temperatures against gates, in many gridworlds
  auxgate study      many training runs, here or on a cluster, and their report

'auxgate COMMAND --help' lists the options of each.
"""
PROGRAMS = {
    "train": "experiments.training.command",
    "evaluate": "experiments.evaluation.command",
    "sweep": "experiments.sweep.command",
    "study": "experiments.running.command",
}
COMMANDS = tuple(PROGRAMS)
MISTAKEN = 2
MODULES = {"pillow": "PIL"}
"""Packages whose module has another name."""


def lacking() -> str:
    """A sentence on the packages of the extra `train` that are not installed; empty if all are."""
    try:
        told = requires("auxgate") or []
    except PackageNotFoundError:  # a checkout that nobody installed
        return ""
    extra = [line for line in told if "extra == 'train'" in line or 'extra == "train"' in line]
    packages = [found[0] for line in extra if (found := match(r"[\w-]+", line))]
    missing = [name for name in packages if find_spec(MODULES.get(name, name)) is None]
    if not missing:
        return ""
    return (
        f"training needs {', '.join(missing)}, which {'is' if missing[1:] == [] else 'are'} not "
        "installed: pip install 'auxgate[train]'."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if given else MISTAKEN
    command, *rest = given
    if command not in COMMANDS:
        print(f"auxgate: '{command}' is no command: choose {', '.join(COMMANDS)}.", file=sys.stderr)
        return MISTAKEN
    missing = lacking()
    if missing:
        print(f"auxgate {command}: {missing}", file=sys.stderr)
        return MISTAKEN
    # Each imports for itself: `evaluate` waits for nothing that only a sweep needs.
    return run(PROGRAMS[command], rest)


if __name__ == "__main__":
    sys.exit(main())

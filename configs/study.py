"""The command line of `study.py`: flags with several values, and study files that hold the same."""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from configs.errors import UsageError
from configs.parsing import read
from configs.programs import StudyOptions

STUDY_EXAMPLES = """\
Trains all combinations of the values that are given, each in a folder of the study, and makes
their report. Any flag of train.py may come with any number of values; a + joins heads, and a
list takes a quoted value.

  python study.py --env Catch --aux none inverse inverse+spr --gate sum cosine --seeds 3
  python study.py configs/studies/gridworld_heads.toml --jobs 2
  python study.py --env Pong --torso.impala.channels "16 32 32" "32 64 64" --torso impala --dry-run
  python study.py --resume runs/NAME              (goes on with what is missing)
  python study.py --resume runs/NAME --seeds 10   (adds five seeds to five)
  python study.py --env Catch --learning-rate 1e-4..1e-2:log --search optuna --trials 30
"""


def parse_study(arguments: Sequence[str]) -> StudyOptions:
    """Reads the flags of `study.py` that are not `train.py`'s.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    return read(StudyOptions, arguments, prog="study.py", description=STUDY_EXAMPLES)


Axes = Mapping[str, tuple[str, ...]]
"""The values of each flag of a study, as they were typed; none for a flag that stands alone."""


def own_flags() -> tuple[str, ...]:
    """The flags of `study.py` itself, without dashes."""
    names = (option.name.replace("_", "-") for option in fields(StudyOptions))
    return (*names, "no-dry-run", "no-report", "no-prune", "help")


def split(arguments: Sequence[str], own: Collection[str]) -> tuple[list[str], Axes]:
    """Divides the arguments of `study.py`.

    Args:
        arguments: of the command line.
        own: the flags that are not `train.py`'s.

    Returns:
        The arguments with the own flags, and the values of all others.

    Raises:
        UsageError: a flag is given twice, or a value belongs to no flag.
    """
    mine: list[str] = []
    axes: dict[str, tuple[str, ...]] = {}
    flag = ""
    for argument in arguments:
        if argument == "-h":
            mine.append("--help")
        elif argument.startswith("--"):
            name, given, value = argument[2:].partition("=")
            flag = name.replace("_", "-")
            if flag in own:
                mine.append(f"--{flag}")
                mine += [value] * bool(given)
            elif flag in axes:
                raise UsageError(f"--{flag} is given twice: give all its values after one --{flag}")
            else:
                axes[flag] = (value,) if given else ()
        elif flag in own:
            mine.append(argument)
        elif not flag:
            raise UsageError(
                f"{argument} follows no flag: a study file ends in .toml, and all else is a flag."
            )
        else:
            axes[flag] = (*axes[flag], argument)
    return mine, axes


ALSO = "also"
"""Tables of a study file whose runs are added to those of its grid."""


def read_file(path: Path, own: Collection[str]) -> tuple[list[str], Axes]:
    """Reads the grid of a study file: the same flags, as TOML.

    Args:
        path: of the file.
        own: the flags that are not `train.py`'s.

    Returns:
        As `split`.

    Raises:
        UsageError: it cannot be read.
    """
    content = {name: value for name, value in _toml(path).items() if name != ALSO}
    return split(_arguments(path, content, own), own)


def read_also(path: Path, own: Collection[str]) -> list[Axes]:
    """Reads what a study file adds to its grid: each table says what the added runs have instead.

    Args:
        path: of the file.
        own: the flags that are not `train.py`'s, which such a table cannot have.

    Raises:
        UsageError: it cannot be read, or a table holds an option of the study.
    """
    tables = _toml(path).get(ALSO, [])
    if not isinstance(tables, list) or not all(isinstance(each, Mapping) for each in tables):
        raise UsageError(f"{path}: {ALSO} must be tables: write [[{ALSO}]] above each.")
    found = []
    for table in tables:
        mine, axes = split(_arguments(path, table, own), own)
        if mine:
            raise UsageError(f"{path}: {mine[0][2:]} is of the whole study: move it to the top.")
        found.append(axes)
    return found


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"the study file {path} cannot be read ({reason}).") from error


def _arguments(path: Path, content: Mapping[str, Any], own: Collection[str]) -> list[str]:
    arguments = []
    for name, value in _flat(content):
        flag = name.replace("_", "-")
        if flag in own and isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
            continue
        entries = value if isinstance(value, list) else [value]
        if not entries:
            raise UsageError(f"{path}: {flag} has no values: give one, or drop it.")
        joint = "+" if flag == "aux" else " "
        arguments += [f"--{flag}", *(_word(entry, joint) for entry in entries)]
    return arguments


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _word(entry: Any, joint: str) -> str:
    if isinstance(entry, list):
        return joint.join(str(part) for part in entry)
    return str(entry).lower() if isinstance(entry, bool) else str(entry)

"""The command line of a resumed run: its own config, and three flags that may differ."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import UsageError
from configs.rundir import read_config
from configs.train import TrainConfig

FLAG = "--resume"


@dataclass(frozen=True)
class Resumed:
    """A run to go on with."""

    source: Path
    """Whose checkpoint is continued from."""
    folder: Path
    """Where it goes on: the same folder, unless --run-dir names another."""
    config: TrainConfig
    notes: tuple[str, ...] = ()
    """What the flags change, in sentences."""


def is_resume(arguments: Sequence[str]) -> bool:
    """Whether the command line asks to go on with a run."""
    return any(argument.partition("=")[0] == FLAG for argument in arguments)


def parse_resume(arguments: Sequence[str]) -> Resumed:
    """Reads `--resume RUN` and the three flags that may stand beside it.

    Raises:
        UsageError: there is no such run, or another flag is given.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(FLAG, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device")
    parser.add_argument("--run-dir", "--run_dir")
    try:
        given, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from error
    if unknown:
        raise UsageError(
            f"{unknown[0]} cannot be given with --resume, which takes the run's own config: only "
            "--steps, --device and --run-dir can."
        )
    source = Path(given.resume)
    config = read_config(source)
    changes = {"steps": given.steps, "device": given.device}
    try:
        run = replace(
            config.run, **{name: value for name, value in changes.items() if value is not None}
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    folder = Path(given.run_dir) if given.run_dir else source
    notes: tuple[str, ...] = ()
    if run.steps != config.run.steps:
        notes = (
            f"The run ends at {run.steps:,} steps instead of {config.run.steps:,}, and so do its "
            "schedules: the learning rate is no longer what it was planned to be.",
        )
    return Resumed(source, folder, replace(config, run=run), notes)

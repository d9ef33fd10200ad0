"""What the options of judging do to learning.

Four studies, each against the same reference, `cosine` with its defaults: judging every n-th
update (`every`), the reference of the cosine (`main`), its metric (`metric`), and the gate that
acts on significant signs alone (`significant`).  After `--` come flags of `train.py`, the
environment and the heads among them; every arm is trained with every seed, one run after the
other.  Runs stay in the folder: called again, the script goes on where it stopped.

    python -m experiments.studies.gating --folder runs/judging \
        -- --env Gridworld --aux distill --steps 1000000

One line per arm and seed: the last return (a mean over 100 episodes, as logged), the mean over
the lines of the log in the last tenth of the run, means over the whole run of what the gate
logs (over the heads, where there are several), and agent steps per second, by the clock.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Literal

import tyro

from agents.logs.report import METRICS_FILE
from configs.cli import parse
from experiments.results import header, publish, run_alone, split_flags
from experiments.training.run_folder import read_config

Study = Literal["every", "main", "metric", "significant"]

REFERENCE = "cosine"
STUDIES: dict[Study, dict[str, list[str]]] = {
    "every": {f"every {n}": ["--gate.every", str(n)] for n in (2, 4, 8, 16)},
    "main": {"main policy": ["--gate.main", "policy"]},
    "metric": {"metric optimizer": ["--gate.metric", "optimizer"]},
    "significant": {
        "significant": ["--gate", "significant"],
        "significant, unknown 1": ["--gate", "significant", "--gate.significant.unknown", "1"],
    },
}
"""Arms by name, with their flags; all but those that name a gate use the reference's."""

LOGGED = ("cosine", "cosine_all", "sign_differs", "known", "weight", "passed", "open")
COLUMNS = ",".join(["arm", "seed", "last_return", "last_tenth", *LOGGED, "steps_per_second"])


@dataclass(frozen=True)
class Options:
    """What to train."""

    folder: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """For the runs."""
    studies: tuple[Study, ...] = ("every", "main", "metric", "significant")
    """Which of the studies; the reference is always trained."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Arms of one seed share initial weights and the seeds of their environments."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""


def arms(studies: Sequence[Study]) -> dict[str, list[str]]:
    """Flags by the arms' names, the reference first."""
    found = {REFERENCE: ["--gate", REFERENCE]}
    for study in studies:
        for name, flags in STUDIES[study].items():
            found[name] = flags if "--gate" in flags else [*found[REFERENCE], *flags]
    return found


def train(flags: Sequence[str], folder: Path) -> list[dict[str, str]]:
    """Trains to the end, or goes on with what is there; returns the lines of the log.

    Raises:
        UsageError: `train.py` refuses the flags.
        ValueError: the run failed, or the folder holds another one.
    """
    command = [*flags, "--run-dir", str(folder)]
    config = parse(command)
    if folder.exists():
        if read_config(folder) != config:
            raise ValueError(f"--folder has another run in {folder.name}: take another folder.")
        command = ["--resume", str(folder)]
    rows = read(folder)
    if not rows or int(rows[-1]["step"]) < config.run.steps:
        run_alone([sys.executable, "train.py", *command])
        rows = read(folder)
    return rows


def read(folder: Path) -> list[dict[str, str]]:
    """The lines of a run's log; none before its first."""
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary(rows: Sequence[Mapping[str, str]], heads: Sequence[str]) -> list[float]:
    """The numbers of a run, in the order of the columns.

    Args:
        rows: of its log.
        heads: whose numbers are averaged.
    """
    steps = [int(row["step"]) for row in rows]
    late = [row for row, step in zip(rows, steps, strict=True) if step > 0.9 * steps[-1]]
    logged = [_mean(rows, [f"{head}/{name}" for head in heads]) for name in LOGGED]
    speed = median(float(row["sps"]) for row in rows)
    return [_mean(rows[-1:], ["return"]), _mean(late, ["return"]), *logged, speed]


def _mean(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> float:
    """Of what was measured."""
    cells = [cell for row in rows for column in columns if (cell := row.get(column, ""))]
    return fmean(float(cell) for cell in cells) if cells else nan


def number(value: float) -> str:
    """Five digits; empty for what was not measured."""
    return "" if isnan(value) else f"{value:.5g}"


def main(arguments: Sequence[str]) -> int:
    """Trains all arms with all seeds and prints the table; returns the exit code."""
    own, extra = split_flags(arguments)
    lines = [COLUMNS]
    try:
        options = tyro.cli(Options, args=own, description=__doc__)
        heads = parse(extra).choice.aux
        if not heads:
            raise ValueError(
                "-- FLAGS must name a head, else there is nothing to judge: add --aux."
            )
        for seed in options.seeds:
            for name, flags in arms(options.studies).items():
                folder = Path(options.folder).resolve() / f"{name} seed {seed}".replace(
                    ",", ""
                ).replace(" ", "-")
                rows = train([*extra, *flags, "--seed", str(seed)], folder)
                cells = [f'"{name}"', str(seed), *map(number, summary(rows, heads))]
                lines.append(",".join(cells))
                print(lines[-1], flush=True)
    except ValueError as error:
        print(f"gating: {error}", file=sys.stderr)
        return 2
    publish([*header("-m experiments.studies.gating", arguments), *lines], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

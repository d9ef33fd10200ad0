"""What the options of gating do to learning.

Four studies compare with the same reference, `cosine` with its defaults: weighing the gradients
every n-th update (`every`), the reference of the cosine (`main`), its metric (`metric`), and the
gate that acts on significant signs alone (`significant`).  After `--` come flags of `train.py`, the
environment and the heads among them; every arm is trained with every seed, one run after the
other.  Runs stay in the folder: called again, the study resumes them.

    python -m experiments.studies.gating --folder runs/gating \
        -- --env Gridworld --aux distill --steps 1000000

One line per arm and seed: the last return (a mean over 100 episodes, as logged), the mean over
the lines of the log in the last tenth of the run, means over the whole run of what the gate
logs (over the heads, where there are several), and agent steps per second, by the clock.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Literal

import tyro

from agents.logs.report import METRICS_FILE
from configs.cli import parse
from experiments.results import Row, Table, options_of, run_alone, split_flags
from experiments.studies.engine import Key, Tables, by_seed, late, number
from experiments.training.run_folder import read_config

Question = Literal["every", "main", "metric", "significant"]

REFERENCE = "cosine"
STUDIES: dict[Question, dict[str, list[str]]] = {
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
COLUMNS = ("arm", "seed", "last_return", "last_tenth", *LOGGED, "steps_per_second")
TABLE = "gating.csv"


@dataclass(frozen=True)
class Options:
    """What to train."""

    folder: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """The runs go there."""
    studies: tuple[Question, ...] = ("every", "main", "metric", "significant")
    """Which of the studies; the reference is always trained."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Arms of one seed share initial weights and the seeds of their environments."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The CSV file to write; empty: gating.csv among the runs."""


def arms(studies: Sequence[Question]) -> dict[str, list[str]]:
    """Flags by the arms' names, the reference first."""
    found = {REFERENCE: ["--gate", REFERENCE]}
    for study in studies:
        for name, flags in STUDIES[study].items():
            found[name] = flags if "--gate" in flags else [*found[REFERENCE], *flags]
    return found


def train(flags: Sequence[str], folder: Path) -> list[dict[str, str]]:
    """Trains to the end, or resumes the run in the folder; returns the lines of the log.

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
    """The lines of a run's log; empty before the first one."""
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary(rows: Sequence[Row], heads: Sequence[str]) -> list[float]:
    """The numbers of a run, in the order of the columns.

    Args:
        rows: of its log.
        heads: whose numbers are averaged.
    """
    logged = [_mean(rows, [f"{head}/{name}" for head in heads]) for name in LOGGED]
    speed = median(float(row["sps"]) for row in rows)
    return [
        _mean(rows[-1:], ["return"]),
        _mean(late(rows, int(rows[-1]["step"])), ["return"]),
        *logged,
        speed,
    ]


def _mean(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> float:
    """Mean over rows and columns of the measured cells; NaN without any."""
    cells = [cell for row in rows for column in columns if (cell := row.get(column, ""))]
    return fmean(float(cell) for cell in cells) if cells else nan


def main(arguments: Sequence[str]) -> int:
    """Trains all arms with all seeds and prints the table; returns the exit code.

    Raises:
        ValueError: the flags after `--` name no head.
    """
    own, extra = split_flags(arguments)
    options = options_of(Options, own, "gating.py", __doc__)
    folder = Path(options.folder).resolve()
    table = Table(Path(options.output) if options.output else folder / TABLE, COLUMNS)
    tables = Tables("-m experiments.studies.gating", COLUMNS[:2], (table,))
    every_arm = arms(options.studies)
    try:
        heads = parse(extra).choice.aux
        if not heads:
            raise ValueError("-- FLAGS must name a head, else no gate has work to do: add --aux.")

        def learn(key: Key) -> list[list[str]]:
            arm, seed = key
            run = f"{arm} seed {seed}".replace(",", "").replace(" ", "-")
            rows = train([*extra, *every_arm[arm], "--seed", seed], folder / run)
            cells = list(map(number, summary(rows, heads)))
            print(",".join([f'"{arm}"', seed, *cells]), flush=True)
            return [cells]

        # Not from the table, but from the runs: those that are complete are only read again.
        wanted = by_seed([(arm,) for arm in every_arm], options.seeds)
        tables.complete(wanted, learn, arguments, keep=False)
    except ValueError as error:
        print(f"gating: {error}", file=sys.stderr)
        return 2
    print(f"Table: {table.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Steps of our gridworld and of its peers: `python benchmarks/gridworld_peers.py`.

Every peer has its own Python environment and is named by its interpreter:

    python -m venv xland && xland/bin/pip install xminigrid
    python -m venv navix && navix/bin/pip install navix          # Python 3.12 or later
    python -m venv puffer && puffer/bin/pip install pufferlib    # fetches raylib, compiles C
    python benchmarks/gridworld_peers.py --xland xland/bin/python --navix navix/bin/python \
        --pufferlib puffer/bin/python

All play random actions, which are drawn as part of what is timed, look at symbols and restart
by themselves.  Each is a process with one thread on the same core; they take turns, and the
median over the rounds counts, in agent steps per second of processor time.  `ratio` says how
many times as fast ours is through a window of 5x5, `ratio_same_view` through the same window.
A peer without an interpreter keeps its line in the output file, with its date and processor.
The programs are in `benchmarks/stepping`.
"""

import csv
import io
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Annotated

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.stepping.client import Worker, working
from configs.parsing import read_or_exit
from experiments.results import header, publish, read_table
from experiments.training import run_folder as rundir

OURS = "ours"
PROGRAMS = {OURS: "auxgate", "xland": "XLand-MiniGrid", "navix": "NAVIX", "pufferlib": "PufferLib"}
"""Modules of `benchmarks.stepping`, and what the table calls them."""
PYTHON = "PYTHON"
USUAL = "5x5"
"""The window of the comparison; the forms of our own program are the windows it looks through."""
COLUMNS = (
    "program",
    "form",
    "view",
    "steps_per_second",
    "ratio",
    "ratio_same_view",
    "versions",
    "cpu",
    "date",
    "runs",
)


@dataclass(frozen=True)
class Options:
    """Whom to measure."""

    xland: Annotated[str, tyro.conf.arg(metavar=PYTHON)] = ""
    """An interpreter that has XLand-MiniGrid."""
    navix: Annotated[str, tyro.conf.arg(metavar=PYTHON)] = ""
    """An interpreter that has NAVIX."""
    pufferlib: Annotated[str, tyro.conf.arg(metavar=PYTHON)] = ""
    """An interpreter that has PufferLib."""
    num_envs: int = 8192
    """Environments stepped together."""
    rounds: int = 9
    """Turns of everybody."""
    seconds: float = 1.0
    """Processor time of a turn; what is under way then is played to its end."""
    core: int = 0
    """The processor that all are bound to (on Linux)."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write, whose lines about peers not measured now are kept; empty: print only."""

    def interpreters(self) -> dict[str, str]:
        """The programs to run, ours first, and what runs them.

        Raises:
            ValueError: an option makes no sense.
        """
        if min(self.num_envs, self.rounds) < 1 or self.seconds <= 0:
            raise ValueError("--num-envs, --rounds and --seconds must be above 0.")
        cores = os.cpu_count() or 1
        if not 0 <= self.core < cores:
            raise ValueError(f"--core must be from 0 to {cores - 1}, not {self.core}.")
        peers = {"xland": self.xland, "navix": self.navix, "pufferlib": self.pufferlib}
        return {OURS: sys.executable} | {name: path for name, path in peers.items() if path}


@dataclass(frozen=True)
class SteppingArm:
    """One way to step one program, and its steps per second in each round."""

    program: str
    form: str
    view: str
    versions: str
    runs: list[float]

    @property
    def window(self) -> str:
        """Rows and columns of the view, `5x5` of `5x5x3 uint8`."""
        rows, columns = self.view.split()[0].split("x")[:2]
        return f"{rows}x{columns}"

    @property
    def middle(self) -> float:
        """Steps per second."""
        return median(self.runs)


def measured(options: Options, interpreters: Mapping[str, str]) -> list[SteppingArm]:
    """Lets everybody play in turns.

    Raises:
        ValueError: a program failed.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name, python in interpreters.items():
            print(f"{PROGRAMS[name]}: starts", flush=True)
            try:
                workers[name] = stack.enter_context(
                    working(name, python, options.num_envs, options.core)
                )
            except ValueError as error:
                flag = "" if name == OURS else f"--{name}: "
                raise ValueError(f"{flag}{error}") from error
        arms = [
            SteppingArm(name, form, view, worker.versions, [])
            for name, worker in workers.items()
            for form, view in worker.views.items()
        ]
        for _ in range(options.rounds):
            for arm in arms:
                done = workers[arm.program].play(arm.form, options.seconds)
                arm.runs.append(done.steps / done.seconds)
                told = f"{PROGRAMS[arm.program]}, {arm.form}: {arm.runs[-1]:,.0f} steps/s"
                print(told, flush=True)
    return arms


def kept(path: Path, now: Collection[str]) -> list[dict[str, str]]:
    """The lines of an earlier table about peers that are not measured now."""
    if not path.is_file():
        return []
    _, rows = read_table(path)
    if rows and tuple(rows[0]) != COLUMNS:
        raise ValueError(f"--output {path} is not a table of this script: name another file.")
    return [row for row in rows if row["program"] not in {PROGRAMS[name] for name in now}]


def rows(arms: Sequence[SteppingArm], cpu: str, day: str) -> list[dict[str, str]]:
    """The lines of what was measured now, ours among it."""
    own = {arm.form: arm.middle for arm in arms if arm.program == OURS}
    return [
        {
            "program": PROGRAMS[arm.program],
            "form": arm.form,
            "view": arm.view,
            "steps_per_second": f"{arm.middle:.0f}",
            "ratio": f"{own[USUAL] / arm.middle:.2f}",
            "ratio_same_view": f"{own[arm.window] / arm.middle:.2f}",
            "versions": arm.versions,
            "cpu": cpu,
            "date": day,
            "runs": " ".join(f"{run:.0f}" for run in arm.runs),
        }
        for arm in arms
    ]


def table(lines: Sequence[Mapping[str, str]]) -> list[str]:
    """Writes lines as CSV, in the order of the programs."""
    order = list(PROGRAMS.values())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(lines, key=lambda line: order.index(line["program"])))
    return text.getvalue().splitlines()


def main(arguments: Sequence[str]) -> int:
    """Measures everybody in turn and prints the table; returns the exit code."""
    options = read_or_exit(Options, arguments, "gridworld_peers.py", __doc__)
    try:
        interpreters = options.interpreters()
        earlier = kept(Path(options.output), interpreters)
        arms = measured(options, interpreters)
    except ValueError as error:
        print(f"gridworld_peers.py: {error}", file=sys.stderr)
        return 2
    now = rows(arms, rundir.versions()["cpu"], date.today().isoformat())
    remarks = [f"environments: {options.num_envs}, each program on one core with one thread"]
    # Where an environment lies says nothing to others.
    shown = [PYTHON if word in interpreters.values() else word for word in arguments]
    head = header("benchmarks/gridworld_peers.py", shown, remarks)
    publish([*head, *table([*now, *earlier])], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

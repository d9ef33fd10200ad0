r"""Learning curves next to Stable-Baselines3 and CleanRL: `python benchmarks/learning.py`.

    python benchmarks/learning.py --cleanrl ../cleanrl --tasks CartPole-v1 Acrobot-v1 Gridworld
    python benchmarks/learning.py --cleanrl ../cleanrl --tasks Breakout Pong Procgen-bigfish \
        --sides auxgate cleanrl-ppo cleanrl-pqn sb3-ppo --seeds 3 --steps 400000 \
        --output benchmarks/results/learning_games

Every side learns the same tasks with its best-known numbers, for the same agent steps, with one
thread of PyTorch (`learning_tasks.py` has tasks and numbers).  A side without numbers for a task
is left out there.  The peers live in a virtual environment that this script makes in `--peers`.
Runs that are done are kept, so the script may be interrupted and called again, with more seeds or
tasks.

Games are played through each side's usual stack, and the return is the game's own score.  Only
CleanRL's `ppo_procgen.py` is compared on Procgen; it plays envpool's levels, because the procgen
package does not install on Python 3.11 and later.

It writes `curves.csv`, with every run; `summary.csv`, with means and 95 % bootstrap intervals
over seeds; and the figure, return per agent step and per core-second.
"""

import csv
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.learners import COLUMNS, LINES
from benchmarks.learning_tasks import CLEANRL, OURS, SIDES, TASKS, times
from benchmarks.measure import commit_of
from experiments.figures import BLUE, GREEN, ORANGE, PINK, SKY, VERMILLION, curve_with_band, tidy
from experiments.results import ROOT, Row, header, options_of, read_table, run_quietly
from experiments.statistics import estimates

SCRIPT = ROOT / "benchmarks" / "learners.py"
PACKAGES = ("stable-baselines3==2.9.2", "minigrid==3.2.0")
EMULATORS = ("ale-py", "envpool", "opencv-python-headless==5.0.0.93")
"""What the peers also need for games; the constraints have the versions of the first two."""
COLOURS = dict(zip(SIDES, (BLUE, VERMILLION, ORANGE, GREEN, PINK, SKY), strict=True))
GAMES = (
    "games: agent steps of 4 frames on Atari; raw scores of whole games, mean of the last 100",
    "Atari: auxgate and CleanRL on envpool, sb3-ppo on ale-py; no sticky actions",
    "envpool: one thread per pool, of which auxgate has two and CleanRL one",
)
LATE = 0.1
"""The final return is the mean over this last part of a curve."""


@dataclass(frozen=True)
class Options:
    """Which curves to draw."""

    tasks: tuple[str, ...] = tuple(name for name, task in TASKS.items() if not task.is_game)
    """Of learning_tasks.py; games, which take hours, are left out unless they are named."""
    sides: tuple[str, ...] = tuple(side for side in SIDES if times(side) == 1)
    """auxgate, sb3-ppo, sb3-a2c, cleanrl-ppo, cleanrl-pqn; auxgate-3x, with three times the steps,
    on request."""
    seeds: int = 5
    """Runs of each, with the seeds from 1."""
    steps: int = 0
    """Agent steps of each run, for which learning rates are annealed too; 0: the task's own."""
    jobs: int = 1
    """Runs at a time, each with one thread."""
    cleanrl: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """A clone of CleanRL, for cleanrl-ppo."""
    peers: Annotated[str, tyro.conf.arg(metavar="DIR")] = ".peers"
    """The peers' virtual environment, made where it is missing."""
    runs: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/learning"
    """Curves of single runs, to go on from."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "benchmarks/results/learning"
    """Folder of tables and figure."""

    def check(self) -> None:
        """Refuses what cannot be compared.

        Raises:
            ValueError: says which option is wrong.
        """
        for name, known in (("tasks", tuple(TASKS)), ("sides", SIDES)):
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(f"--{name} {value}: choose from {', '.join(known)}.")
        if self.seeds < 1 or self.jobs < 1:
            raise ValueError("--seeds and --jobs must be at least 1.")
        if self.steps and self.steps < LINES:
            raise ValueError(f"--steps must be at least {LINES}, or 0 for the task's own.")
        if not any(settings(self)):
            raise ValueError("--sides: none of them has numbers for any of --tasks.")
        if not self.cleanrl and any(each.side in CLEANRL for each in settings(self)):
            raise ValueError("--cleanrl is missing: give a clone of CleanRL, or other --sides.")

    def steps_of(self, task: str, side: str) -> int:
        """Agent steps of a run."""
        return (self.steps or TASKS[task].steps) * times(side)

    def file(self, setting: "Setting") -> Path:
        """Where the curve of a run is."""
        steps = f"-{self.steps}" if self.steps else ""
        return Path(self.runs) / f"{setting.task}-{setting.side}{steps}-s{setting.seed}.csv"


@dataclass(frozen=True)
class Setting:
    """One run."""

    task: str
    side: str
    seed: int


def settings(options: Options) -> Iterator[Setting]:
    """All runs: seed by seed, so that an interrupted comparison has some of everything."""
    for seed in range(1, options.seeds + 1):
        for task in options.tasks:
            for side in options.sides:
                if side in OURS or side in TASKS[task].peers:
                    yield Setting(task, side, seed)


def python_of(peers: str, more: Sequence[str] = ()) -> str:
    """The interpreter of the peers, with their packages installed.

    Args:
        peers: the folder of their virtual environment, made where it is missing.
        more: packages beyond those that learning needs; pip leaves alone what is there.
    """
    folder = Path(peers)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    install += ["--constraint", str(ROOT / "constraints.txt")]
    if not python.is_file():
        print(f"Making {folder} for the peers...", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([*install, "torch", f"{ROOT}[train]", *PACKAGES], check=True)
    if more:
        subprocess.run([*install, *more], check=True)
    return str(python)


def train(options: Options, setting: Setting, python: str) -> None:
    """Makes one run, unless its curve is there.

    Raises:
        ValueError: the run failed; holds the last line that it printed.
    """
    curve = options.file(setting)
    if curve.is_file():
        return
    interpreter = sys.executable if setting.side in OURS else python
    command = [interpreter, str(SCRIPT), setting.side, setting.task, "--seed", str(setting.seed)]
    command += ["--steps", str(options.steps), "--output", str(curve)]
    if setting.side in CLEANRL:
        command += ["--cleanrl", options.cleanrl]
    run_quietly(command, curve.name)


Curve = Float[np.ndarray, "lines 3"]


def read(path: Path) -> Curve:
    """Steps, core-seconds and return of a run."""
    _, rows = read_table(path)
    return np.array([[float(row[name]) for name in COLUMNS.split(",")] for row in rows])


def at(curve: Curve, axis: int, points: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The return at points of an axis (0: steps, 1: core-seconds).

    NaN before the first episode ends; the last return afterwards.
    """
    values: Float[np.ndarray, " n"]
    values = np.interp(points, curve[:, axis], curve[:, 2], left=np.nan)
    return values


def summary(options: Options, curves: Mapping[Setting, Curve]) -> list[str]:
    """A line for each task and side."""
    lines = ["task,side,seeds,steps,final,low,high,mean_over_run,core_seconds,runs"]
    for task in options.tasks:
        for side in options.sides:
            runs = [
                curve for each, curve in curves.items() if (each.task, each.side) == (task, side)
            ]
            if not runs:
                continue
            steps = options.steps_of(task, side)
            late = np.linspace((1 - LATE) * steps, steps, LINES)
            finals = np.array([at(run, 0, late).mean() for run in runs])
            whole = np.mean([np.nanmean(at(run, 0, np.linspace(0, steps, LINES))) for run in runs])
            estimate = estimates(finals[:, None])[0]
            seconds = np.mean([run[-1, 1] for run in runs])
            each = " ".join(f"{final:.3g}" for final in finals)
            cells = [task, side, str(len(runs)), str(steps), f"{estimate.value:.4g}"]
            cells += [f"{estimate.low:.4g}", f"{estimate.high:.4g}"]
            lines.append(",".join([*cells, f"{whole:.4g}", f"{seconds:.1f}", each]))
    return lines


def figure(steps: Mapping[str, int], curves: Mapping[Setting, Curve]) -> Figure:
    """Return per agent step above that per core-second; of a single task, next to it.

    Args:
        steps: agent steps of a run, by task.
        curves: of all runs of these tasks.
    """
    names = tuple(steps)
    single = len(names) == 1
    size = (8.6, 3.4) if single else (3.2 * len(names), 5.6)
    drawing = Figure(figsize=size, layout="constrained")
    shape = (1, 2) if single else (2, len(names))
    panels = drawing.subplots(*shape, squeeze=False).reshape(2, len(names))
    for column, task in enumerate(names):
        for row, what in enumerate(("agent steps", "core-seconds")):
            axes = panels[row, column]
            chosen = {each: curve for each, curve in curves.items() if each.task == task}
            # Beyond the slowest side's end nothing is left to compare.
            end = steps[task] if row == 0 else max(c[-1, 1] for c in chosen.values())
            for side in SIDES:
                runs = [(e, c) for e, c in chosen.items() if e.side == side]
                longer = times(side) > 1  # for the same time, not for the same steps
                if not runs or (longer and row == 0):
                    continue
                own_end = end if row == 0 else np.mean([c[-1, 1] for _, c in runs])
                points = np.linspace(0, own_end, LINES)
                returns = np.stack([at(curve, row, points) for _, curve in runs])
                curve_with_band(axes, points, returns, COLOURS[side], side)
            axes.set_xlabel(what)
            axes.set_xlim(0, end)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            if row == 0:
                axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
            tidy(axes)
        if not single:
            panels[0, column].set_title(task)
    if single:
        drawing.suptitle(names[0])
    panels[0, 0].set_ylabel("return")
    panels[1, 0].set_ylabel("return")
    handles = {
        label: line
        for axes in panels.flat
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawing.legend(handles.values(), handles, loc="outside lower center", ncols=len(SIDES))
    return drawing


def redraw(path: Path) -> None:
    """Draws the figure from curves.csv and summary.csv next to it."""
    runs: dict[Setting, list[list[float]]] = {}
    for row in read_table(path.with_name("curves.csv"))[1]:
        setting = Setting(row["task"], row["side"], int(row["seed"]))
        runs.setdefault(setting, []).append([float(row[name]) for name in COLUMNS.split(",")])
    curves = {setting: np.array(lines) for setting, lines in runs.items()}
    rows = read_table(path.with_name("summary.csv"))[1]
    steps = {row["task"]: int(row["steps"]) // times(row["side"]) for row in rows}
    figure(steps, curves).savefig(path, dpi=150)


def write(options: Options, arguments: Sequence[str]) -> None:
    """Writes tables and figure of all runs that are there."""
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    curves: dict[Setting, Curve] = {}
    rows: list[Row] = []
    for setting in settings(options):
        path = options.file(setting)
        if path.is_file():
            curves[setting] = read(path)
            run = {"task": setting.task, "side": setting.side, "seed": str(setting.seed)}
            rows += [{**run, **row} for row in read_table(path)[1]]
    games = [task for task in options.tasks if TASKS[task].is_game]
    peers = [
        *PACKAGES,
        *(EMULATORS if games else ()),
        f"CleanRL at {commit_of(Path(options.cleanrl))}",
    ]
    remarks = [f"peers: {', '.join(peers)}", "one thread of PyTorch; processor time of the process"]
    if games:
        remarks += GAMES
    top = header("benchmarks/learning.py", arguments, remarks)
    with (folder / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{line}\n" for line in top)
        writer = csv.DictWriter(
            file, ["task", "side", "seed", *COLUMNS.split(",")], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
    text = "\n".join([*top, *summary(options, curves)]) + "\n"
    (folder / "summary.csv").write_text(text, encoding="utf-8")
    redraw(folder / "learning.png")
    print(text, end="")


def main(arguments: Sequence[str]) -> int:
    """Makes the runs that are missing, then tables and figure; returns the exit code."""
    matplotlib.use("agg")
    options = options_of(Options, arguments, "learning.py", __doc__)
    try:
        options.check()
        emulated = any(TASKS[task].is_game for task in options.tasks)
        python = python_of(options.peers, EMULATORS if emulated else ())
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda setting: train(options, setting, python), settings(options)))
    except ValueError as error:
        print(f"learning.py: {error}", file=sys.stderr)
        return 2
    write(options, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

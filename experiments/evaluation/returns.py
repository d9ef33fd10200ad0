"""Returns of our PPO and of CleanRL's while training.

    python -m experiments.evaluation.returns --ours RUN... --theirs FOLDER... --output OUT

RUN is a run of `train.py`, FOLDER what `benchmarks/cleanrl.py` wrote.  Both are put on the
same scale: the mean score of the latest 100 finished games, every 10,000 agent steps, as
far as the shortest of all runs has come.
"""

import csv
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.figures import BLUE, VERMILLION, tidy
from experiments.results import options_of, read_table
from experiments.training.run_folder import versions

EPISODES = "episodes.csv"
"""What `benchmarks/cleanrl.py` writes for each finished game."""
INTERVAL = 10_000
WINDOW = 100
"""Games that a mean is taken over, as in `metrics.csv`."""

Curve = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Options:
    """What to compare."""

    ours: tuple[Path, ...]
    """Folders of runs of `train.py`."""
    theirs: tuple[Path, ...]
    """Folders that `benchmarks/cleanrl.py` wrote."""
    output: Path
    """A folder for returns.csv and returns.png."""


def of_train(folder: Path) -> tuple[Curve, Curve]:
    """Steps and mean returns of a run of `train.py`."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["return"]]
    return _columns([(row["step"], row["return"]) for row in rows])


def of_cleanrl(folder: Path) -> tuple[Curve, Curve]:
    """Steps and mean returns of a run of CleanRL, over the same number of games."""
    with (folder / EPISODES).open(encoding="utf-8") as file:
        step, score = _columns([(row["step"], row["return"]) for row in csv.DictReader(file)])
    total = np.concatenate([[0.0], score.cumsum()])
    games = np.arange(1, len(score) + 1)
    averaged = np.minimum(games, WINDOW)
    return step, (total[games] - total[games - averaged]) / averaged


def _columns(rows: list[tuple[str, str]]) -> tuple[Curve, Curve]:
    step, value = np.array(rows, dtype=float).T
    return step, value


def table(runs: dict[str, tuple[Curve, Curve]]) -> tuple[Curve, dict[str, Curve]]:
    """Interpolates all runs at the same steps."""
    last = min(step[-1] for step, _ in runs.values())
    grid = np.arange(INTERVAL, last + 1, INTERVAL, dtype=float)
    return grid, {name: np.interp(grid, step, value) for name, (step, value) in runs.items()}


def draw(grid: Curve, curves: dict[str, Curve], path: Path) -> None:
    """Draws one thin line for each run and one thick line for each side's mean.

    Args:
        grid: the agent steps of all curves.
        curves: mean returns at these steps, by name, which starts with auxgate or CleanRL.
        path: where the picture goes.
    """
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for side, colour in (("auxgate", BLUE), ("CleanRL", VERMILLION)):
        mine = [curve for name, curve in curves.items() if name.startswith(side)]
        for curve in mine:
            axes.plot(grid, curve, color=colour, linewidth=0.8, alpha=0.6)
        label = f"{side}, mean of {len(mine)} seeds"
        axes.plot(grid, np.mean(mine, 0), color=colour, linewidth=2.2, label=label)
    axes.set_xlabel("agent steps (4 frames each)")
    axes.set_ylabel(f"score, mean of {WINDOW} games")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:,.0f}k"))
    tidy(axes)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=140)


def redraw(path: Path) -> None:
    """Draws the figure from returns.csv next to it."""
    _, rows = read_table(path.with_name("returns.csv"))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    draw(columns.pop("step"), columns, path)


def main(options: Options) -> None:
    """Writes the table and the figure."""
    runs = {f"auxgate {folder.name}": of_train(folder) for folder in options.ours}
    runs |= {f"CleanRL {folder.name}": of_cleanrl(folder) for folder in options.theirs}
    grid, curves = table(runs)
    made = [
        json.loads((folder / "versions.json").read_text(encoding="utf-8"))
        for folder in options.ours
    ]
    commits = [f"{each['commit']}{' (dirty)' if each['dirty'] else ''}" for each in made]
    options.output.mkdir(parents=True, exist_ok=True)
    command = ["python", "-m", "experiments.evaluation.returns", *sys.argv[1:]]
    lines = [
        f"# command: {shlex.join(command)}",
        f"# ours trained at: {', '.join(commits)}",
        f"# hardware: {versions()['cpu']}, {versions()['cores']} cores",
        ",".join(["step", *curves]),
    ]
    for row, step in enumerate(grid):
        lines.append(",".join([f"{step:.0f}", *(f"{curve[row]:.2f}" for curve in curves.values())]))
    (options.output / "returns.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    redraw(options.output / "returns.png")
    print("\n".join((lines[3], lines[-1])))


if __name__ == "__main__":
    main(options_of(Options, sys.argv[1:], "returns.py", __doc__))

"""Learning curves with all rewards multiplied: `python benchmarks/reward_scale.py`.

CartPole and the gridworld are learnt with rewards times 0.01, 1 and 100; returns are divided by the
factor again.  A learner that takes care of its value scale makes the same curve three times.  Runs
that are done are kept, so the script may be interrupted and called again.

Written are `curves.csv`, `summary.csv` with means and 95 % bootstrap intervals over seeds, and the
figure.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import matplotlib
import numpy as np
import tyro
from gymnasium.wrappers import TransformReward
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.figures import BLUE, GREEN, VERMILLION, curve_with_band, tidy
from experiments.results import ROOT, header, options_of, read_table, run_quietly
from experiments.statistics import estimates

TASKS = {"CartPole": 100_000, "Gridworld": 200_000}
"""Agent steps of each."""
FACTORS = {0.01: VERMILLION, 1.0: BLUE, 100.0: GREEN}
POINTS = 100
LATE = 0.1
"""The final return is the mean over this last part of a curve."""
REWARDS, PENALTY = (10.0, 5.0, -5.0, -10.0), -1.0
"""Of the gridworld."""


@dataclass(frozen=True)
class Options:
    """Which runs to make."""

    seeds: int = 5
    """Runs of each, with the seeds from 1."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """CartPole, Gridworld."""
    plain: bool = False
    """Without value normalisation, for comparison."""
    runs: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/reward_scale"
    """Folders of single runs, to go on from."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "benchmarks/results/reward_scale"
    """Folder of tables and figure."""


def scaled_cartpole(factor: float = 1.0) -> gymnasium.Env[Any, Any]:
    """CartPole-v1 with its rewards multiplied."""
    return TransformReward(gymnasium.make("CartPole-v1"), lambda reward: factor * float(reward))


if "ScaledCartPole-v1" not in gymnasium.registry:
    gymnasium.register("ScaledCartPole-v1", "benchmarks.reward_scale:scaled_cartpole")


def flags(task: str, factor: float) -> list[str]:
    """The options of `train.py` that make a task with its rewards multiplied."""
    if task == "CartPole":
        arguments = ["--env.kwargs", f"factor={factor}"]
        return ["--env", "benchmarks.reward_scale:ScaledCartPole-v1", *arguments]
    rewards = [f"{factor * reward:g}" for reward in REWARDS]
    penalty = ["--env.penalty", f"{factor * PENALTY:g}"]
    return ["--env", "Gridworld", "--algo", "ppo", "--env.terminal-rewards", *rewards, *penalty]


Curve = Float[np.ndarray, " points"]


def curve(options: Options, task: str, factor: float, seed: int) -> Curve:
    """Trains, unless the run is there; returns its curve in units of the plain task.

    Raises:
        ValueError: the run failed; holds the last line that it printed.
    """
    plain = ["--no-normalize-value"] if options.plain else []
    name = f"{task}-{factor:g}-s{seed}" + "-plain" * options.plain
    folder, steps = Path(options.runs) / name, TASKS[task]
    if not (folder / "policy.safetensors").is_file():
        command = [sys.executable, str(ROOT / "train.py"), *flags(task, factor), *plain]
        command += ["--steps", str(steps), "--seed", str(seed), "--threads", "1"]
        run_quietly([*command, "--run-dir", str(folder)], name)
    rows = [row for row in read_table(folder / "metrics.csv")[1] if row["return"]]
    at = np.array([float(row["step"]) for row in rows])
    returns = np.array([float(row["return"]) for row in rows]) / factor
    values: Curve = np.interp(np.linspace(0, steps, POINTS), at, returns, left=np.nan)
    return values


Runs = Mapping[tuple[str, float], Float[np.ndarray, "seeds points"]]


def figure(runs: Runs) -> Figure:
    """A panel for each task, a line for each factor."""
    tasks = list(dict.fromkeys(task for task, _ in runs))
    drawing = Figure(figsize=(3.6 * len(tasks), 3.2), layout="constrained")
    panels = drawing.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        points = np.linspace(0, TASKS[task], POINTS)
        for factor, ink in FACTORS.items():
            curve_with_band(axes, points, runs[task, factor], ink, f"rewards x {factor:g}")
        axes.set_title(task)
        axes.set_xlabel("agent steps")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x else "0"))
        tidy(axes)
    panels[0].set_ylabel("return / factor")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(FACTORS))
    return drawing


def redraw(path: Path) -> None:
    """Draws the figure from curves.csv next to it."""
    returns: dict[tuple[str, float], dict[str, list[float]]] = {}
    for row in read_table(path.with_name("curves.csv"))[1]:
        seeds = returns.setdefault((row["task"], float(row["factor"])), {})
        seeds.setdefault(row["seed"], []).append(float(row["return"]))
    # The table leaves out the points before the first episode has ended.
    runs = {
        arm: np.array([[np.nan] * (POINTS - len(each)) + each for each in seeds.values()])
        for arm, seeds in returns.items()
    }
    figure(runs).savefig(path, dpi=150)


def write(options: Options, arguments: Sequence[str], runs: Runs) -> None:
    """Writes tables and figure."""
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    top = header("benchmarks/reward_scale.py", arguments)
    with (folder / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{line}\n" for line in top)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "factor", "seed", "step", "return"])
        for (task, factor), values in runs.items():
            steps = np.linspace(0, TASKS[task], POINTS)
            for seed, each in enumerate(values, 1):
                for step, value in zip(steps, each, strict=True):
                    if not np.isnan(value):
                        writer.writerow([task, f"{factor:g}", seed, int(step), f"{value:.4g}"])
    lines = [*top, "task,factor,seeds,final,low,high,runs"]
    late = int(POINTS * (1 - LATE))
    for (task, factor), values in runs.items():
        finals = values[:, late:].mean(1)
        estimate = estimates(finals[:, None])[0]
        numbers = f"{estimate.value:.4g},{estimate.low:.4g},{estimate.high:.4g}"
        each = " ".join(f"{final:.3g}" for final in finals)
        lines.append(f"{task},{factor:g},{len(finals)},{numbers},{each}")
    text = "\n".join(lines) + "\n"
    (folder / "summary.csv").write_text(text, encoding="utf-8")
    redraw(folder / "reward_scale.png")
    print(text, end="")


def main(arguments: Sequence[str]) -> int:
    """Makes the runs that are missing, then tables and figure; returns the exit code."""
    matplotlib.use("agg")
    options = options_of(Options, arguments, "reward_scale.py", __doc__)
    try:
        for task in options.tasks:
            if task not in TASKS:
                raise ValueError(f"--tasks {task}: choose from {', '.join(TASKS)}.")
        if options.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, not {options.seeds}.")
        runs = {
            (task, factor): np.stack(
                [curve(options, task, factor, seed) for seed in range(1, options.seeds + 1)]
            )
            for task in options.tasks
            for factor in FACTORS
        }
    except ValueError as error:
        print(f"reward_scale.py: {error}", file=sys.stderr)
        return 2
    write(options, arguments, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

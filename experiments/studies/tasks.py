"""Compares tasks that share a network with the same tasks alone.

    python study.py configs/studies/tasks.toml --output runs/tasks
    python -m experiments.studies.tasks runs/tasks --output benchmarks/results/tasks

Runs of one task are what the runs of several are compared with, seed by seed and at the same number
of steps in the task itself.  The output folder gets `runs.csv` (a line for each task of each run),
`curves.csv` (their returns by step), `summary.csv` (a line for each arm: means over seeds with 95 %
bootstrap intervals, and the difference from the task alone) and `tasks.png`.  `--redraw` makes the
last two from the first two.
"""

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

from agents.logs.report import METRICS_FILE
from configs.errors import UsageError
from configs.tasks import FAMILY, tasks_of
from configs.training import TrainConfig
from experiments.figures import COLOURS, curve_with_band, tidy
from experiments.report.runs import LATE
from experiments.results import header, print_lines, read_table
from experiments.statistics import Difference, estimates, paired
from experiments.training.run_folder import CONFIG, VERSIONS, read_config

ALONE = "alone"
POINTS = 41
"""At which curves are kept, the beginning included."""
RUN_COLUMNS = ("env", "policy", "task", "role", "arm", "seed", "steps", "mean", "final")
CURVES, RUNS, SUMMARY, PICTURE = "curves.csv", "runs.csv", "summary.csv", "tasks.png"


@dataclass(frozen=True)
class Options:
    """Which runs to compare, and where to write."""

    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Where tables and figure go."""
    study: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")] = None
    """A folder of runs; none with --redraw."""
    redraw: bool = False
    """Make summary and figure from the tables in the output folder."""


@dataclass(frozen=True)
class Curve:
    """The return of one task in one run, by the steps in its own environments."""

    env: str
    """All tasks of the run."""
    policy: str
    """`own` or `shared`."""
    task: str
    role: str
    """`main`, `other`, or `alone`."""
    arm: str
    """The gate, or `alone`."""
    seed: int
    steps: int
    """Of the whole run in this task."""
    returns: Float[np.ndarray, " points"]
    """At equal distances; NaN before the first episode has ended."""

    @property
    def mean(self) -> float:
        """The mean over the run."""
        return float(np.nanmean(self.returns))

    @property
    def final(self) -> float:
        """The mean of the last tenth."""
        return float(np.nanmean(self.returns[int(LATE * (POINTS - 1)) :]))


def curves_of(folder: Path) -> list[Curve]:
    """Reads one run, a curve for each of its tasks.

    Raises:
        UsageError: it is no run, or it has logged nothing.
    """
    config = read_config(folder)
    rows: list[dict[str, str]] = []
    if (folder / METRICS_FILE).is_file():
        with (folder / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    if not rows:
        raise UsageError(f"{folder} has logged nothing yet: wait until the study is done.")
    if int(rows[-1]["step"]) < config.run.steps:
        raise UsageError(
            f"{folder} has made {int(rows[-1]['step']):,} of {config.run.steps:,} steps: wait "
            "until the study is done."
        )
    found = []
    for index, (task, column, part) in enumerate(_tasks(config)):
        step = np.array([float(row["step"]) for row in rows]) * part
        returns = np.array([float(row[column] or "nan") for row in rows])
        seen = ~np.isnan(returns)
        if not seen.any():
            raise UsageError(f"{folder}: no episode of {task} has ended: give it more --steps.")
        grid = np.linspace(0, step[-1], POINTS)
        values = np.interp(grid, step[seen], returns[seen], left=np.nan)
        several = config.tasks is not None
        found.append(
            Curve(
                env=config.choice.env,
                policy=config.tasks.policy if config.tasks is not None else "own",
                task=task,
                role=("main" if index == 0 else "other") if several else ALONE,
                arm=config.choice.gate or "none" if several else ALONE,
                seed=config.run.seed,
                steps=round(step[-1]),
                returns=values,
            )
        )
    return found


def _tasks(config: TrainConfig) -> Iterable[tuple[str, str, float]]:
    """Of each task: its name, the column of its return, and its part of the steps."""
    if config.tasks is None:
        return [(config.choice.env, "return", 1.0)]
    tasks, num_envs, sizes = config.task_names, config.run.num_envs, config.task_sizes
    columns = ["return", *(f"{task.label}/return" for task in tasks[1:])]
    return [
        (str(task), column, size / num_envs)
        for task, column, size in zip(tasks, columns, sizes, strict=True)
    ]


def write(curves: Sequence[Curve], folder: Path, made: Sequence[str]) -> None:
    """Writes the tables of single runs.

    Args:
        curves: of all tasks of all runs.
        folder: where the tables go.
        made: remarks above them.
    """
    runs, points = [",".join(RUN_COLUMNS)], [",".join((*RUN_COLUMNS[:7], *map(str, range(POINTS))))]
    for curve in curves:
        told = [f'"{text}"' for text in (curve.env, curve.policy, curve.task, curve.role)]
        told += [curve.arm, str(curve.seed), str(curve.steps)]
        runs.append(",".join([*told, f"{curve.mean:.4f}", f"{curve.final:.4f}"]))
        points.append(",".join([*told, *(f"{value:.4f}" for value in curve.returns)]))
    for name, lines in ((RUNS, runs), (CURVES, points)):
        (folder / name).write_text("\n".join([*made, *lines]) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[list[str], list[Curve]]:
    """Reads back what `write` wrote: the remarks and the curves."""
    remarks, rows = read_table(folder / CURVES)
    return remarks, [
        Curve(
            **{name: row[name] for name in RUN_COLUMNS[:5]},
            seed=int(row["seed"]),
            steps=int(row["steps"]),
            returns=np.array([float(row[str(point)]) for point in range(POINTS)]),
        )
        for row in rows
    ]


Arms = Mapping[str, Sequence[Curve]]
"""The runs of one task in one group, by arm; `alone` first where there are such runs."""


def grouped(curves: Sequence[Curve]) -> dict[tuple[str, str, str, str], Arms]:
    """The arms of each group: the tasks of a run, their policy, one task, and its role."""
    alone: dict[str, list[Curve]] = defaultdict(list)
    groups: dict[tuple[str, str, str, str], dict[str, list[Curve]]] = {}
    for curve in curves:
        if curve.role == ALONE:
            alone[curve.task].append(curve)
    for curve in curves:
        if curve.role != ALONE:
            key = (curve.env, curve.policy, curve.task, curve.role)
            arms = groups.setdefault(key, {})
            if curve.task in alone:
                arms.setdefault(ALONE, alone[curve.task])
            arms.setdefault(curve.arm, []).append(curve)
    return dict(groups)


def difference(arm: Sequence[Curve], reference: Sequence[Curve], measure: str) -> Difference | None:
    """How an arm differs from the task alone, over the seeds that both have.

    Args:
        arm: runs of the arm.
        reference: runs of the task alone.
        measure: `mean` or `final`.
    """
    ours, theirs = ({run.seed: getattr(run, measure) for run in runs} for runs in (arm, reference))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    return paired(*(np.array([runs[seed] for seed in seeds]) for runs in (ours, theirs)))


def summary(curves: Sequence[Curve]) -> list[str]:
    """A line for each arm and measure."""
    lines = [
        "env,policy,task,role,arm,measure,runs,steps,value,low,high,"
        "difference,difference_low,difference_high"
    ]
    for key, arms in grouped(curves).items():
        for arm, runs in arms.items():
            for measure in ("mean", "final"):
                (each,) = estimates(np.array([[getattr(run, measure)] for run in runs]))
                than = None
                if ALONE in arms and arm != ALONE:
                    than = difference(runs, arms[ALONE], measure)
                gaps = ["", "", ""]
                if than is not None:
                    gaps = [f"{number:.4f}" for number in (than.value, than.low, than.high)]
                told = [*(f'"{text}"' for text in key), arm, measure, str(len(runs))]
                numbers = [f"{number:.4f}" for number in (each.value, each.low, each.high)]
                lines.append(",".join([*told, str(runs[0].steps), *numbers, *gaps]))
    return lines


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draws the return of the main task (above) and of the other (below), a column for a group."""
    groups = grouped(curves)
    columns = list(dict.fromkeys((env, policy) for env, policy, _, _ in groups))
    figure = Figure(figsize=(3.7 * len(columns), 6.2), layout="constrained")
    panels = figure.subplots(2, len(columns), squeeze=False)
    arms = list(dict.fromkeys(arm for found in groups.values() for arm in found if arm != ALONE))
    inks = dict(zip(arms, cycle(COLOURS[1:]), strict=False)) | {ALONE: "0.35"}
    for (env, policy, task, role), found in groups.items():
        column = columns.index((env, policy))
        axes = panels[int(role == "other"), column]
        for arm, runs in found.items():
            grid = np.linspace(0, runs[0].steps, POINTS) / 1e3
            curve_with_band(axes, grid, np.stack([r.returns for r in runs]), inks[arm], arm)
        axes.set_title(f"{role}: {_short(task)}", fontsize=9)
        axes.set_xlabel("thousand agent steps in this task", fontsize=8)
        axes.set_ylabel("return", fontsize=8)
        tidy(axes)
    for (env, policy), axes in zip(columns, panels[0], strict=True):
        number = len(tasks_of(env, FAMILY))
        told = "a policy each" if policy == "own" else "one policy for all"
        axes.set_title(f"{number} tasks, {told}\n{axes.get_title()}", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), frameon=False)
    figure.savefig(path, dpi=130)


def redraw(path: Path) -> None:
    """Draws the figure from the table next to it."""
    draw(read(path.parent)[1], path)


def _short(task: str) -> str:
    return task if len(task) <= 34 else f"{task[:33]}…"


def compare(options: Options, arguments: Sequence[str]) -> list[str]:
    """Writes tables and figure; returns the summary.

    Args:
        options: of the program.
        arguments: as they were typed.

    Raises:
        UsageError: there are no runs, or one cannot be read.
    """
    if options.redraw == (options.study is not None):
        raise UsageError("Give either STUDY, a folder of runs, or --redraw.")
    if options.study is not None:
        folders = sorted(path.parent for path in options.study.glob(f"*/{CONFIG}"))
        curves = [curve for folder in folders for curve in curves_of(folder)]
        if not curves:
            raise UsageError(f"{options.study} holds no runs: give the folder of a study.")
        versions = (json.loads((folder / VERSIONS).read_text("utf-8")) for folder in folders)
        commits = sorted({f"{each['commit']}{' (dirty)' * each['dirty']}" for each in versions})
        remarks = [f"the runs were made at commit {', '.join(commits)}"]
        made = header("-m experiments.studies.tasks", arguments, remarks)
        options.output.mkdir(parents=True, exist_ok=True)
        write(curves, options.output, made)
    try:
        made, curves = read(options.output)
    except OSError as error:
        raise UsageError(
            f"--redraw needs {options.output / CURVES}, which is not there."
        ) from error
    lines = summary(curves)
    text = "\n".join([*made, *lines]) + "\n"
    (options.output / SUMMARY).write_text(text, encoding="utf-8")
    draw(curves, options.output / PICTURE)
    return lines


def main(arguments: Sequence[str]) -> int:
    """Compares; prints a mistake as one sentence and returns the exit code."""
    return print_lines(compare, Options, arguments, "tasks.py", __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

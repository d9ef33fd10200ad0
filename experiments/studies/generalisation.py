"""Draws how well networks do in held-out gridworlds, by the steps of their training.

    python -m experiments.studies.generalisation RUN... --output benchmarks/results/gridworld_agent

Each RUN is a folder that `held_out` wrote.  Runs that differ only in their
seed are one arm.  The output folder gets `held_out.csv`, all scores with how they were made, and
`held_out.png`: the mean return as a fraction of what the best policy, which knows the whole world,
is expected to score in the same episodes.
"""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

from configs.errors import UsageError
from configs.parsing import read as read_options
from configs.training import TrainConfig
from experiments.figures import COLOURS, tidy
from experiments.results import Row, arguments_of, header, print_lines, read_table
from experiments.studies.held_out import TABLE
from experiments.training.run_folder import VERSIONS, read_config

GOAL = 0.7
COLUMNS = "arm,seed,step,cpu_seconds,return,low,high,optimum,fraction"

Column = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Options:
    """Which runs to draw, and where."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint=""),
    ]
    """Folders that `experiments/studies/held_out.py` wrote."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Where held_out.csv and held_out.png go."""
    explorer: float | None = None
    """A fraction to draw a line at: the best of `experiments.evaluation.explorer`."""


@dataclass(frozen=True)
class Curve:
    """The scores of one run."""

    arm: str
    seed: int
    told: str
    """Its options without seed and folder; the same in all runs of an arm."""
    made: str
    """Commit and hardware."""
    rows: tuple[dict[str, str], ...]

    def column(self, name: str) -> Column:
        """Numbers of one name, from the first score to the last."""
        return np.array([float(row[name]) for row in self.rows])

    @property
    def fraction(self) -> Column:
        """The scores as fractions of the optimum."""
        quotient: Column = self.column("return") / self.column("optimum")
        return quotient


def read(folder: Path) -> Curve:
    """Reads one run.

    Raises:
        UsageError: `held_out` did not write it, or it holds no score yet.
    """
    try:
        versions = json.loads((folder / VERSIONS).read_text(encoding="utf-8"))
        with (folder / TABLE).open(encoding="utf-8", newline="") as file:
            rows = tuple(csv.DictReader(file))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read ({error.strerror}): give folders that "
            "experiments/studies/held_out.py wrote."
        ) from error
    if not rows:
        raise UsageError(f"{folder} holds no score yet: wait for the first one.")
    config = read_config(folder)
    told = config.to_json()
    seed = told["run"].pop("seed")
    told["run"].pop("run_dir")
    dirty = " (dirty)" if versions["dirty"] else ""
    made = f"commit {versions['commit']}{dirty}, {versions['cpu']}, {versions['cores']} cores"
    return Curve(arm_of(config), seed, json.dumps(told, sort_keys=True), made, rows)


def arm_of(config: TrainConfig) -> str:
    """The name of a run's arm, as in the legend of the figure."""
    choice = config.choice
    memory = {"none": "feed-forward", "gru": "GRU"}[choice.core]
    heads = "".join(f", {head} ({choice.gate})" for head in choice.aux)
    _, _, worlds = config.env.protocol.partition("+")
    return f"{memory}, {choice.algo.upper()}{heads}{worlds and f', {worlds}'}"


def check(curves: Sequence[Curve]) -> None:
    """Refuses runs that have the name of one arm but are not seeds of it.

    Raises:
        UsageError: two runs of an arm differ in more than their seed, or have the same seed.
    """
    for arm in {curve.arm for curve in curves}:
        mine = [curve for curve in curves if curve.arm == arm]
        if len({curve.told for curve in mine}) > 1:
            raise UsageError(
                f"The runs called '{arm}' differ in more than their seed: give others."
            )
        if len({curve.seed for curve in mine}) < len(mine):
            raise UsageError(f"Two runs called '{arm}' have the same seed: give one of them.")


def table(curves: Sequence[Curve]) -> list[str]:
    """All scores, one a line."""
    lines = [COLUMNS]
    for curve in curves:
        for row, fraction in zip(curve.rows, curve.fraction, strict=True):
            told = (row[name] for name in COLUMNS.split(",")[2:-1])
            lines.append(",".join([f'"{curve.arm}"', str(curve.seed), *told, f"{fraction:.4f}"]))
    return lines


def draw(curves: Sequence[Curve], path: Path, explorer: float | None) -> None:
    """Draws a thin line for each run and a thick one for the mean of an arm.

    Args:
        curves: the runs.
        path: where the picture goes.
        explorer: the planner's return as a fraction of the optimum, drawn as a line; None for none.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    arms = dict.fromkeys(curve.arm for curve in curves)
    for colour, arm in zip(cycle(COLOURS[1:]), arms, strict=False):
        mine = [curve for curve in curves if curve.arm == arm]
        for curve in mine:
            axes.plot(
                curve.column("step") / 1e6, curve.fraction, color=colour, linewidth=0.8, alpha=0.6
            )
        # As far as the shortest of them has come; all are scored at nearly the same steps.
        length = min(len(curve.rows) for curve in mine)
        step = np.mean([curve.column("step")[:length] for curve in mine], 0) / 1e6
        mean = np.mean([curve.fraction[:length] for curve in mine], 0)
        seeds = "1 seed" if len(mine) == 1 else f"mean of {len(mine)} seeds"
        axes.plot(step, mean, color=colour, linewidth=2.2, label=f"{arm}, {seeds}")
    axes.axhline(GOAL, color="0.5", linestyle=":", linewidth=1.2)
    axes.text(0, GOAL - 0.01, f"goal: {GOAL:.0%}", va="top", color="0.4", fontsize=8)
    if explorer is not None:
        axes.axhline(explorer, color="0.2", linestyle="--", linewidth=1.2)
        axes.text(0, explorer + 0.01, "planner that forgets nothing", va="bottom", fontsize=8)
    axes.set_xlabel("million agent steps of training")
    axes.set_ylabel("return in held-out worlds / optimum")
    tidy(axes)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=140)


def redraw(path: Path) -> None:
    """Draws the figure from held_out.csv next to it, with the planner that its command names.

    Raises:
        UsageError: the command is not one of this program.
    """
    remarks, rows = read_table(path.with_name("held_out.csv"))
    runs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["arm"], row["seed"]), []).append(row)
    curves = [Curve(arm, int(seed), "", "", tuple(mine)) for (arm, seed), mine in runs.items()]
    options = read_options(Options, arguments_of(remarks), "generalisation.py", __doc__)
    draw(curves, path, options.explorer)


def generalisation(options: Options, arguments: Sequence[str]) -> list[str]:
    """Writes table and figure; returns a line on the end of each run.

    Args:
        options: of the program.
        arguments: as they were typed.

    Raises:
        UsageError: a run cannot be read.
    """
    curves = [read(folder) for folder in options.runs]
    if not curves:
        raise UsageError("RUN is missing: give folders that experiments/studies/held_out.py wrote.")
    check(curves)
    made = [f"{curve.arm}, seed {curve.seed}: {curve.made}" for curve in curves]
    told = [f"{arm}: {told}" for arm, told in {curve.arm: curve.told for curve in curves}.items()]
    top = header("-m experiments.studies.generalisation", arguments, [*made, *told])
    options.output.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*top, *table(curves)]) + "\n"
    (options.output / "held_out.csv").write_text(text, encoding="utf-8")
    draw(curves, options.output / "held_out.png", options.explorer)
    return [
        f"{curve.arm}, seed {curve.seed}: {curve.fraction[-1]:.3f} of the optimum after "
        f"{int(curve.rows[-1]['step']):,} steps and {float(curve.rows[-1]['cpu_seconds']):.0f} s"
        for curve in curves
    ]


def main(arguments: Sequence[str]) -> int:
    """Draws; prints a mistake as one sentence and returns the exit code."""
    return print_lines(generalisation, Options, arguments, "generalisation.py", __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""From runs to committed curves, a table and a figure.

    python benchmarks/curves.py runs/exp/* --output benchmarks/results/breakout_distill
    python benchmarks/curves.py --output benchmarks/results/breakout_distill   # draw again

Each run becomes one small CSV whose first lines say how it was made; the figure and
the summary are made from those files alone, so anyone can draw them again.
"""

import csv
import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import tyro
from jaxtyping import Float

mpl.use("Agg")
from matplotlib import pyplot as plt

NUM_POINTS = 100
COLUMNS = (
    "return",
    "length",
    "entropy",
    "explained_variance",
    "distill/cosine",
    "distill/passed",
    "distill/weight",
    "distill/open",
    "distill/norm_ratio",
    "distill/kl",
    "sps",
)
COLOURS = ("#4c4c4c", "#c44e52", "#4c72b0", "#55a868", "#8172b3", "#ccb974")
Curve = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Options:
    """Which runs, and where their curves go."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders of runs to add; none draws what is there already."""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "benchmarks/results/breakout_distill"
    """Where the CSVs, summary.csv and curves.png go."""
    teacher: float = float("nan")
    """The teacher's mean score, drawn as a dotted line."""
    title: str = ""
    """Of the figure."""


@dataclass(frozen=True)
class Run:
    """One committed curve."""

    arm: str
    seed: int
    step: Curve
    columns: dict[str, Curve]

    @property
    def final(self) -> float:
        """Mean return over the last tenth of the steps."""
        late = self.step >= 0.9 * self.step[-1]
        return float(np.nanmean(self.columns["return"][late]))

    @property
    def area(self) -> float:
        """Mean return over all steps: how fast it learnt."""
        return float(np.nanmean(self.columns["return"]))


def arm_name(config: dict[str, Any]) -> str:
    """Main-only, or heads + gate with the options that matter."""
    choice = config["choice"]
    if not choice["aux"]:
        return "main only"
    name = f"{' + '.join(choice['aux'])}, {choice['gate']}"
    return f"{name}, no main loss" if choice["algo"] == "none" else name


def commit_run(folder: Path, output: Path) -> Path:
    """Thins a run's metrics.csv to its curves, with the provenance on top."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = int(rows[-1]["step"])
    arm, seed = arm_name(config), config["run"]["seed"]
    lines = [
        f"# arm: {arm}",
        f"# seed: {seed}",
        f"# command: {command(config)}",
        f"# commit: {versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        f"# hardware: {versions['cpu']}, {versions['cores']} cores, GPU {versions['gpu']}",
        f"# torch {versions['packages']['torch']}, envpool {versions['packages']['envpool']}",
        ",".join(("step", *COLUMNS)),
    ]
    for bin_index in range(NUM_POINTS):
        low, high = (last * edge / NUM_POINTS for edge in (bin_index, bin_index + 1))
        inside = [row for row in rows if low < int(row["step"]) <= high]
        if inside:
            cells = [mean_cell(inside, column) for column in COLUMNS]
            lines.append(",".join([inside[-1]["step"], *cells]))
    path = output / f"{arm.replace(', ', '-').replace(' ', '_')}-s{seed}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def mean_cell(rows: Sequence[dict[str, str]], column: str) -> str:
    """Mean of what was measured, as text; empty if nothing was."""
    values = [float(row[column]) for row in rows if row.get(column)]
    return f"{np.mean(values):.5g}" if values else ""


def command(config: dict[str, Any]) -> str:
    """The command line that makes this run again."""
    choice, run = config["choice"], config["run"]
    words = ["python", "train.py", "--env", choice["env"], "--seed", str(run["seed"])]
    words += ["--steps", str(run["steps"]), "--num-envs", str(run["num_envs"])]
    words += ["--unroll-length", str(run["unroll_length"])]
    words += ["--learning-rate", str(run["learning_rate"]), "--precision", run["precision"]]
    words += ["--algo", choice["algo"]]
    for name, head in config["heads"].items():
        words += ["--aux", name]
        for option, value in head.items():
            if value not in ("", None):
                words += [f"--aux.{name}.{option.replace('_', '-')}", str(value)]
    if choice["gate"]:
        words += ["--gate", choice["gate"]]
    return shlex.join(words)


def read_run(path: Path) -> Run:
    """Reads a committed curve."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = dict(
        line.removeprefix("# ").split(": ", 1)
        for line in lines
        if line.startswith(("# arm", "# seed"))
    )
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    columns = {
        column: np.array([float(row[column]) if row[column] else np.nan for row in rows])
        for column in COLUMNS
    }
    step = np.array([int(row["step"]) for row in rows], dtype=float)
    return Run(header["arm"], int(header["seed"]), step, columns)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over seeds; too narrow with few of them."""
    numbers = np.asarray(values)
    draws = np.random.default_rng(0).integers(len(numbers), size=(10_000, len(numbers)))
    low, high = np.quantile(numbers[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)


def summarise(arms: dict[str, list[Run]], output: Path) -> None:
    """Writes and prints final and mean return of every arm."""
    lines = ["arm,seeds,final_return,final_low,final_high,mean_return,mean_low,mean_high,finals"]
    for arm, runs in arms.items():
        finals, areas = [run.final for run in runs], [run.area for run in runs]
        cells = [np.mean(finals), *interval(finals), np.mean(areas), *interval(areas)]
        numbers = [f"{cell:.2f}" for cell in cells]
        each = " ".join(f"{final:.2f}" for final in finals)
        lines.append(",".join([f'"{arm}"', str(len(runs)), *numbers, each]))
    (output / "summary.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def draw(arms: dict[str, list[Run]], options: Options, output: Path) -> None:
    """Return above, cosine and passed below; the mean over seeds and their range."""
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(7.5, 8.5), sharex=True, height_ratios=(2.2, 1, 1), layout="constrained"
    )
    panels = ((top, "return"), (middle, "distill/cosine"), (bottom, "distill/passed"))
    for (arm, runs), colour in zip(arms.items(), COLOURS, strict=False):
        # Runs log by the clock, so their points do not lie on the same steps.
        step = np.linspace(max(run.step[0] for run in runs), min(run.step[-1] for run in runs), 100)
        for axes, column in panels:
            curves = np.stack([np.interp(step, run.step, run.columns[column]) for run in runs])
            if np.isnan(curves).all():
                continue
            label = f"{arm} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
            axes.plot(step, curves.mean(0), color=colour, label=label, linewidth=1.8)
            axes.fill_between(step, curves.min(0), curves.max(0), color=colour, alpha=0.15)
    if not np.isnan(options.teacher):
        top.axhline(options.teacher, color="black", linestyle=":", linewidth=1.2)
        top.annotate(
            f"teacher {options.teacher:.0f}",
            (0.01, options.teacher),
            xycoords=("axes fraction", "data"),
            va="top",
            fontsize=9,
        )
    top.set_ylabel("episode return (raw score)")
    top.set_title(options.title or "Return while training; band: range over seeds", fontsize=11)
    top.set_ylim(top=1.28 * top.get_ylim()[1])  # room for the legend
    top.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    middle.set_ylabel("cosine(main, distill)")
    middle.axhline(0, color="black", linewidth=0.6)
    bottom.set_ylabel("passed: |added| / |gradient|")
    bottom.set_xlabel("agent steps (4 frames each)")
    for axes, _ in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    bottom.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda x, _: f"{x / 1000:,.0f}k"))
    figure.savefig(output / "curves.png", dpi=140)


def main(options: Options) -> None:
    """Commits the given runs, then draws everything in the folder."""
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    for run in options.runs:
        print(commit_run(Path(run), output))
    arms: dict[str, list[Run]] = defaultdict(list)
    for path in sorted(output.glob("*-s*.csv")):
        run = read_run(path)
        arms[run.arm].append(run)
    order = sorted(arms, key=lambda arm: (arm != "main only", "no main" in arm, arm))
    arms = {arm: arms[arm] for arm in order}
    summarise(arms, output)
    draw(arms, options, output)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Draws the figures of all results again, from the tables next to them.

    python benchmarks/redraw.py                                   # all of benchmarks/results
    python benchmarks/redraw.py benchmarks/results/learning       # those of one folder
    make figures

A figure's name says who draws it: `DRAWERS` is the list.  Tables stay as they are.  A line for each
figure says that it was drawn, or why it was left as it is.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import examples.report
from benchmarks import learning, reward_scale
from examples import digits, preference, regression
from examples.supervised import pairs, pareto, rotated, rotations, semisupervised
from experiments.evaluation import returns
from experiments.report import __main__ as report
from experiments.results import ROOT, options_of
from experiments.studies import adversarial, generalisation, heads, tasks, yardstick
from experiments.sweep import output as sweep

DRAWERS: Mapping[str, Callable[[Path], None]] = {
    "curves.png": report.redraw,
    "digits_cosine.png": examples.report.redraw_courses,
    "digits_pairs.png": digits.redraw,
    "digits_rotation.png": digits.redraw,
    "finals.png": sweep.redraw,
    "heads.png": heads.redraw,
    "held_out.png": generalisation.redraw,
    "improvement.png": report.redraw,
    "learning.png": learning.redraw,
    "pairs.png": pairs.redraw,
    "pairs_cosine.png": examples.report.redraw_courses,
    "pareto.png": pareto.redraw,
    "probe.png": adversarial.redraw,
    "regression.png": regression.redraw,
    "regression_linear.png": preference.redraw,
    "returns.png": returns.redraw,
    "reward_scale.png": reward_scale.redraw,
    "rotated.png": rotated.redraw,
    "rotated_cosine.png": examples.report.redraw_courses,
    "rotations.png": rotations.redraw,
    "semisupervised.png": semisupervised.redraw,
    "sweep.png": sweep.redraw,
    "tasks.png": tasks.redraw,
    "yardstick.png": yardstick.redraw,
}
"""Draws a figure of this name from the tables in its folder."""

COMPUTED: Mapping[str, str] = {
    "surfaces_circle.png": "examples/surfaces.py",
    "surfaces_conflicting.png": "examples/surfaces.py",
    "surfaces_helpful.png": "examples/surfaces.py",
    "surfaces_line.png": "examples/surfaces.py",
    "surfaces_rotating.png": "examples/surfaces.py",
    "vectors.png": "examples/vectors.py",
}
"""Figures of formulas: their tables hold a part of what they show, and a script computes it all."""


@dataclass(frozen=True)
class Options:
    """Which figures to draw."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")] = (
        ROOT / "benchmarks" / "results"
    )
    """With its folders: all figures in it are drawn again."""


def redraw(path: Path) -> str:
    """Draws one figure; returns what became of it."""
    if path.name in COMPUTED:
        return f"left: computed by {COMPUTED[path.name]}, not drawn from a table"
    if path.name not in DRAWERS:
        return "left: benchmarks/redraw.py knows no figure of this name"
    try:
        DRAWERS[path.name](path)
    except FileNotFoundError as error:
        return f"left: there is no {Path(error.filename).name} to draw it from"
    except ValueError as error:
        return f"left: {error}"
    except (KeyError, IndexError) as error:
        return f"left: its table is damaged or of another version (there is no {error})"
    return "drawn"


def redraw_all(folder: Path) -> Iterator[str]:
    """Draws all figures of a folder; yields a line for each."""
    for path in sorted(folder.rglob("*.png")):
        yield f"{path.relative_to(folder)}: {redraw(path)}"


def main(arguments: Sequence[str]) -> int:
    """Draws; returns the exit code."""
    folder, number = options_of(Options, arguments, "redraw.py", __doc__).folder, 0
    for line in redraw_all(folder):
        print(line, flush=True)
        number += 1
    if number == 0:
        print(
            f"redraw.py: there is no figure in {folder}: give a folder of results.", file=sys.stderr
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""From runs to a figure and a table.

    python -m experiments.report runs/exp/* --output benchmarks/results/breakout_distill
    python -m experiments.report --output benchmarks/results/breakout_distill   # draw again

Each run becomes one small CSV in the output folder, whose first lines say how it was made.
All else is made from the CSVs in that folder alone, so anyone can draw it again: report.html,
summary.csv, comparison.csv, report.json, curves.png and improvement.png.  benchmarks/README.md
explains them.
"""

import json
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from agents.runtime.checkpoint import write_atomically
from configs.errors import UsageError
from configs.grid import shortened
from configs.parsing import read as read_options
from experiments.report.arms import group, name_runs, same_run
from experiments.report.figures import draw_curves, draw_improvement
from experiments.report.page import draw_pictures, page
from experiments.report.runs import Run, is_run, parse, read, thin
from experiments.report.scores import compare, summarise
from experiments.report.tables import Report, for_terminal, sentences, write

DOTS_PER_INCH = 130
PAGE_FILE, CURVES, IMPROVEMENT = "report.html", "curves.png", "improvement.png"


@dataclass(frozen=True)
class Options:
    """Which runs, and where their report goes."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Where the report goes."""
    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN")] = ()
    """Runs to add: their folders, folders of such folders, or CSVs of another report; with
    none the report of those that are there is made again."""
    first: Annotated[str, tyro.conf.arg(metavar="ARM")] = ""
    """The arm that the others are compared with; empty: the one without heads."""
    teacher: Annotated[float | None, tyro.conf.arg(metavar="SCORE")] = None
    """A score to draw a line at, besides those of the teachers that the runs name."""


def report(options: Options) -> None:
    """Adds the given runs to the output folder and writes the report of all that is there.

    What is no run, or has no finished episode, is damaged or repeats another run is skipped with
    a warning: `runs/*` may name anything, and a study may still be running.

    Raises:
        UsageError: nothing is left, or no arm is called `first`.
        OSError: the output folder cannot be written.
    """
    if not options.output:
        raise UsageError("--output is empty: name a folder.")
    output = Path(options.output)
    held, skipped, damaged = _held(output)
    added, unusable = _given(options.runs)
    skipped += unusable
    new = [run for run, _ in added]
    kept = [run for run in held if not any(same_run(run, other) for other in new)]
    if not kept + new:
        nothing = (
            f"there are no runs in {output}: give the folders of some, "
            "as in 'python -m experiments.report runs/*'"
        )
        more = f" ({len(skipped) - 1} more were skipped)" if len(skipped) > 1 else ""
        raise UsageError(f"{(skipped or [nothing])[0]}{more}.")
    # Mistakes are reported before anything is written.
    try:
        group(kept + new, options.first)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    names = name_runs(kept + new)
    output.mkdir(parents=True, exist_ok=True)
    placed = list(kept)
    for reason in skipped:
        print(f"report.py: skipped: {reason}.", file=sys.stderr)
    for run, text in added:
        before = [other.path for other in held if same_run(run, other)]
        path = before[0] if before else _free(output, run, names[run.path], damaged)
        write_atomically(path, text.encode())
        damaged = [other for other in damaged if other != path]
        placed.append(replace(run, path=path))
        print(f"{run.path} -> {path}")
    arms = group(sorted(placed, key=lambda run: run.path), options.first)
    made = Report(arms, summarise(arms), compare(arms), options.teacher)
    words = sentences(made)
    write(made, words, output)
    title = f"Report: {output.resolve().name}"
    text = page(made, words, skipped, draw_pictures(made, options.teacher), title)
    write_atomically(output / PAGE_FILE, text.encode(errors="backslashreplace"))
    draw_curves(arms, options.teacher).savefig(output / CURVES, dpi=DOTS_PER_INCH)
    if len(arms) > 1:
        draw_improvement(made).savefig(output / IMPROVEMENT, dpi=DOTS_PER_INCH)
    else:
        # Of an earlier report with more arms.
        (output / IMPROVEMENT).unlink(missing_ok=True)
    _show(made, words)
    print(f"All in one page: {output / PAGE_FILE}")


def redraw(path: Path) -> None:
    """Draws curves.png or improvement.png from the runs' CSVs next to it.

    report.json says which arm comes first, and where the teacher's line is.

    Raises:
        ValueError: there are none.
    """
    runs, _, _ = _held(path.parent)
    if not runs:
        raise ValueError(f"{path.parent} has no CSV of a run.")
    told = json.loads(path.with_name("report.json").read_text(encoding="utf-8"))
    arms = group(runs, told.get("first", ""))
    if path.name == CURVES:
        figure = draw_curves(arms, told.get("teacher"))
    else:
        figure = draw_improvement(Report(arms, summarise(arms), compare(arms)))
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _held(output: Path) -> tuple[list[Run], list[str], list[Path]]:
    """The runs in the output folder, why others there are skipped, and the files to replace."""
    found: list[Run] = []
    skipped, damaged = [], []
    for path in _curves(output):
        try:
            run = read(path)
        except (OSError, ValueError) as error:
            skipped.append(str(error))
            damaged.append(path)
            continue
        twin = next((other for other in found if same_run(run, other)), None)
        if twin is None:
            found.append(run)
        else:
            skipped.append(f"{path} is the same arm and seed as {twin.path}")
    return found, skipped, damaged


def _given(names: Sequence[str]) -> tuple[list[tuple[Run, str]], list[str]]:
    """The runs that are named, with the text of their CSVs, and why others are skipped."""
    found: list[tuple[Run, str]] = []
    expanded = {name: _expand(Path(name)) for name in names}
    skipped = [
        f"{name} holds no run: give folders with a config.json and a metrics.csv"
        if Path(name).exists()
        else f"{name} does not exist: give run folders, or CSVs of another report"
        for name, inside in expanded.items()
        if not inside
    ]
    for path in dict.fromkeys(chain.from_iterable(expanded.values())):
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else thin(path)
            run = parse(text, path)
        except (OSError, ValueError) as error:
            skipped.append(str(error))
            continue
        twin = next((other for other, _ in found if same_run(run, other)), None)
        if twin is None:
            found.append((run, text))
        else:
            skipped.append(f"{path} is the same arm and seed as {twin.path}")
    return found, skipped


def _curves(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.csv")) if path.is_file() and is_run(path)]


def _expand(path: Path) -> list[Path]:
    """The run folders, at any depth, or CSVs that an argument stands for."""
    if (path / "config.json").is_file() or (path.is_file() and is_run(path)):
        return [path]
    return [each.parent for each in sorted(path.rglob("config.json"))] + _curves(path)


def _free(folder: Path, run: Run, arm: str, damaged: Collection[Path]) -> Path:
    """A new or damaged file for a run, named by its game, arm and seed."""
    name = shortened(re.sub(r"[^A-Za-z0-9.]+", "_", f"{run.env} {arm}").strip("_"))
    candidates: Iterator[Path] = (
        folder / f"{name}{suffix}-s{run.seed}.csv" for suffix in _suffixes()
    )
    return next(path for path in candidates if path in damaged or not path.exists())


def _suffixes() -> Iterator[str]:
    yield ""
    number = 2
    while True:
        yield f"-{number}"
        number += 1


def _show(made: Report, words: Sequence[str]) -> None:
    console = Console(highlight=False)
    for env in dict.fromkeys(row.env for row in made.summaries):
        console.print(for_terminal(made, env))
    for sentence in words:
        console.print(f"- {sentence}", markup=False)


def main(arguments: Sequence[str]) -> int:
    """Makes the report; prints a mistake as one sentence and returns the exit code."""
    try:
        options = read_options(Options, arguments, prog="report.py", description=__doc__)
        report(options)
    except UsageError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"report.py: the report cannot be written ({error.strerror or error}): choose "
            "another folder by --output.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the examples share: verdicts on claims, and the files that they leave behind."""

import csv
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image

from configs.errors import UsageError
from examples.figures import Panels, draw_courses, panels_of, rows_of
from experiments.results import read_table
from experiments.statistics import Difference, differences
from experiments.training import run_folder as rundir

DOTS_PER_INCH = 90
COLOURS = 256
"""Of a figure's file, which is a third as large as with all of them."""
Row = Mapping[str, object]
"""Of a table: values by column."""
FEWEST = 6
"""Pairs below which a permutation test cannot fall below 0.05: n of them give 2 / 2^n at least."""


@dataclass(frozen=True)
class Verdict:
    """One claim, and what became of it."""

    claim: str
    outcome: str
    """shown, not shown, or reversed."""
    evidence: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.outcome}. {self.evidence}"


def positive(claim: str, pairs: Float[np.ndarray, " _"], meaning: str) -> Verdict:
    """Judges a claim that says that the mean of paired differences is above zero.

    Args:
        claim: in words.
        pairs: one difference per seed or start.
        meaning: what is subtracted from what.
    """
    found = _mean(pairs)
    outcome = {1: "shown", 0: "not shown", -1: "reversed"}[found.sign]
    return Verdict(claim, outcome, f"{meaning}: {words(found, len(pairs))}")


def no_less(claim: str, pairs: Float[np.ndarray, " _"], meaning: str, margin: float) -> Verdict:
    """Judges a claim that says that a mean difference is not below zero.

    That nothing was found does not show it: the whole interval must lie above `-margin`.
    """
    found = _mean(pairs)
    reversed_or_not = "reversed" if found.sign < 0 else "not shown"
    outcome = "shown" if found.low > -margin else reversed_or_not
    evidence = f"{meaning}: {words(found, len(pairs))} Margin: {margin:g}."
    return Verdict(claim, outcome, evidence)


def words(found: Difference, pairs: int) -> str:
    """A difference, its interval, and the p-value of its sign-flip permutation test."""
    few = ", too few pairs to show anything" if pairs < FEWEST else ""
    return (
        f"{found.value:+.3g} (95 % {found.low:+.3g} to {found.high:+.3g}, "
        f"p = {found.p:.2g}, {pairs} pairs{few})."
    )


def _mean(pairs: Float[np.ndarray, " _"]) -> Difference:
    # In float64: ties among the choices of signs are to stay ties.
    [found] = differences(pairs.astype(np.float64)[:, None])
    return found


def folder_of(path: str) -> Path:
    """Makes the folder for the results.

    Raises:
        UsageError: it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {path} cannot be made ({error.strerror}): choose another folder."
        ) from error
    return folder


def publish(
    folder: Path,
    name: str,
    command: Sequence[str],
    rows: Sequence[Row],
    figures: Mapping[str, Figure],
    verdicts: Sequence[Verdict],
    courses: Mapping[str, Panels] = MappingProxyType({}),
) -> None:
    """Writes a table and figures, and prints the verdicts.

    Args:
        folder: where they go.
        name: of the table.
        command: the script and its arguments.
        rows: of the table, all with the same columns.
        figures: by name.
        verdicts: on the claims.
        courses: of cosines, by the name of their figure; each has a table of its own.
    """
    versions = rundir.versions()
    head = [
        f"command: {shlex.join(['python', f'examples/{command[0]}', *command[1:]])}",
        f"commit: {versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        f"hardware: {versions['cpu']}, {versions['cores']} cores; one thread on the CPU",
        f"packages: torch {versions['packages']['torch']}",
    ]
    _write(folder / f"{name}.csv", [*head, *map(str, verdicts)], rows)
    for figure_name, figure in figures.items():
        save(figure, folder / f"{figure_name}.png")
    for figure_name, panels in courses.items():
        _write(folder / f"{figure_name}.csv", head, rows_of(panels))
        redraw_courses(folder / f"{figure_name}.png")
    for verdict in verdicts:
        print(f"- {verdict}")
    print(f"{folder / name}.csv, {', '.join(f'{each}.png' for each in (*figures, *courses))}")


def _write(path: Path, head: Sequence[str], rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {line}\n" for line in head)
        table = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def redraw_courses(path: Path) -> None:
    """Draws the courses of cosines from the table of the same name."""
    save(draw_courses(panels_of(read_table(path.with_suffix(".csv"))[1])), path)


def save(figure: Figure, path: Path) -> None:
    """Writes the file of a figure."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=DOTS_PER_INCH)
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path)


def run(script: str, work: Callable[[], None]) -> int:
    """Returns the exit code; a mistake of the user's is one sentence.

    Networks and batches are small: more than one thread would only cost.
    """
    torch.set_num_threads(1)
    try:
        work()
    except UsageError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2
    return 0

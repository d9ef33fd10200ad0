"""How far a study is: from the logs of its runs, on the terminal, with the time that is left."""

import csv
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agents.logs.report import METRICS_FILE
from agents.logs.terminal import duration
from configs.grid import Planned
from configs.training import TrainConfig
from experiments.running.backends import ROOT
from experiments.running.folder import LOGS, PRUNED, is_done, last_step
from experiments.running.worker import last_line

MEASURED = ROOT / "benchmarks" / "results" / "study_speed.csv"
"""Speeds of single runs, for an estimate before anything has run."""
PLAIN_SECONDS, LIVE_SECONDS = 30.0, 1.0
"""Between two plain lines, and between two pictures of the live table."""
SHOWN = 16
"""Runs in the live table."""

Kind = tuple[str, ...]
"""What a run's speed depends on, from the most to the least important."""


def kind(config: TrainConfig) -> Kind:
    """What the speed of a run depends on: family, environment, heads, gate, other components."""
    choice = config.choice
    others = (choice.algo, choice.torso, choice.core)
    return (choice.family, choice.env, "+".join(choice.aux), choice.gate or "", *others)


class Speeds:
    """Steps per second of runs that were measured, and a guess for those that were not."""

    def __init__(self, measured: Iterable[tuple[Kind, float]] = ()) -> None:
        self._known: dict[Kind, list[float]] = {}
        for each, speed in measured:
            self.add(each, speed)

    def add(self, of: Kind, speed: float) -> None:
        """Adds a measurement; it stands for all runs that agree with it so far as they do."""
        if speed > 0:
            for length in range(1, len(of) + 1):
                self._known.setdefault(of[:length], []).append(speed)

    def guess(self, of: Kind) -> float | None:
        """The mean of the runs that are most alike; None where nothing of the family is known."""
        for length in range(len(of), 0, -1):
            if of[:length] in self._known:
                return fmean(self._known[of[:length]])
        return None


def measured_speeds(path: Path = MEASURED) -> Speeds:
    """The committed table; empty where there is none, as in a wheel."""
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line[:1] != "#"]
        names = ("family", "env", "aux", "gate", "algo", "torso", "core")
        return Speeds(
            (tuple(row[name] for name in names), float(row["steps_per_second"]))
            for row in csv.DictReader(lines)
        )
    except (OSError, KeyError, ValueError):
        return Speeds()


@dataclass
class Row:
    """One run as it is watched."""

    run: Planned
    state: str = "waiting"
    step: int = 0
    speed: float = 0.0
    """Steps per second, as its log last said; 0 before."""
    reason: str = ""
    """Why it failed."""

    @property
    def steps(self) -> int:
        """That it is to make."""
        return self.run.config.run.steps


@dataclass
class Progress:
    """All runs of a study."""

    folder: Path
    rows: dict[str, Row]
    """By name."""
    jobs: int
    speeds: Speeds = field(default_factory=Speeds)
    began: float = field(default_factory=time.time)
    """When `study.py` began; what was printed since is of runs that are being trained."""
    to_come: int = 0
    """Runs that a search has not proposed yet."""

    def read(self) -> None:
        """Reads the logs of the runs that are being trained."""
        for row in self.rows.values():
            if row.state == "queued" and self._prints(row):
                row.state = "running"
            if row.state == "running":
                row.step, row.speed = tail(self.folder / row.run.name)

    def _prints(self, row: Row) -> bool:
        log = self.folder / LOGS / f"{row.run.name}.log"
        return log.is_file() and log.stat().st_mtime >= self.began

    def count(self, *states: str) -> int:
        """Runs in one of these states: done, running, queued, waiting, failed or pruned."""
        return sum(row.state in states for row in self.rows.values())

    @property
    def speed(self) -> float:
        """Steps per second of all runs together."""
        return sum(row.speed for row in self.rows.values() if row.state == "running")

    def seconds_left(self) -> float | None:
        """Estimated time to the end of the study; None where nothing is measured."""
        known = Speeds()
        for row in self.rows.values():
            if row.speed and row.state in ("running", "done"):
                known.add(kind(row.run.config), row.speed)
        left, longest, whole = 0.0, 0.0, []
        for row in self.rows.values():
            if row.state in ("running", "queued", "waiting"):
                own = row.speed if row.state == "running" else 0.0
                of = kind(row.run.config)
                speed = own or known.guess(of) or self.speeds.guess(of)
                if speed is None:
                    return None
                seconds = max(0, row.steps - row.step) / speed
                left, longest = left + seconds, max(longest, seconds)
                whole.append(row.steps / speed)
        if whole:
            left += self.to_come * fmean(whole)
        return max(left / max(1, self.jobs), longest)


def look(folder: Path, runs: Sequence[Planned], jobs: int) -> Progress:
    """Finds out how far the runs of a study are.

    Args:
        folder: of the study.
        runs: all of them.
        jobs: that run at a time.
    """
    rows = {}
    for run in runs:
        row = rows[run.name] = Row(run)
        place, steps = folder / run.name, run.config.run.steps
        row.step = last_step(place) or 0
        if row.step >= steps and is_done(place, steps):
            row.state = "done"
        elif (place / PRUNED).exists():
            row.state = "pruned"
        if row.step:
            row.speed = tail(place)[1]
    return Progress(folder, rows, jobs, measured_speeds())


def tail(folder: Path) -> tuple[int, float]:
    """Step and steps per second in the last line of a run's log; zeros before there is one."""
    try:
        with (folder / METRICS_FILE).open("rb") as file:
            header = file.readline().decode().strip().split(",")
            file.seek(0, 2)
            file.seek(max(file.tell() - 8192, 0))
            lines = file.read().decode("utf-8", "replace").split("\n")
        cells = dict(zip(header, next(csv.reader([lines[-2]])), strict=True))
        return int(cells["step"]), float(cells.get("sps") or 0)
    except (OSError, IndexError, KeyError, StopIteration, ValueError):
        return 0, 0.0


class Watch:
    """Shows the progress: one live table on a terminal, plain lines elsewhere."""

    def __init__(self, progress: Progress, console: Console) -> None:
        """Prepares to show; nothing is printed yet.

        Args:
            progress: that is shown.
            console: where to.
        """
        self.progress, self._console = progress, console
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False)
        self._shown_at = time.monotonic()

    def __enter__(self) -> "Watch":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self.progress.read()
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def note(self, text: str) -> None:
        """Prints a line, above the table where there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def ended(self, row: Row) -> None:
        """Says that a run has ended, where there is no table."""
        if self._live is None:
            reason = f": {row.reason}" if row.reason else ""
            self.note(f"{row.state}: {row.run.name}{reason}")

    def update(self) -> None:
        """Shows the progress, if it was not shown just before."""
        now = time.monotonic()
        if now - self._shown_at < (PLAIN_SECONDS if self._live is None else LIVE_SECONDS):
            return
        self._shown_at = now
        self.progress.read()
        if self._live is None:
            self.note(summary(self.progress))
        else:
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        rows = self.progress.rows.values()
        shown = [row for state in ("failed", "running") for row in rows if row.state == state]
        table = Table.grid(padding=(0, 2))
        for row in shown[:SHOWN]:
            end = (
                Text(row.reason, "red", overflow="ellipsis", no_wrap=True)
                if row.state == "failed"
                else Text(f"{row.speed:,.0f} steps/s")
            )
            bar = ProgressBar(total=row.steps, completed=min(row.step, row.steps), width=20)
            table.add_row(row.run.name, bar, f"{min(100, 100 * row.step // row.steps)}%", end)
        if len(shown) > SHOWN:
            table.add_row(f"and {len(shown) - SHOWN} more")
        done = sum(min(row.step, row.steps) for row in rows)
        whole = ProgressBar(total=sum(row.steps for row in rows) or 1, completed=done)
        picture = Table.grid(expand=True)
        for part in (table, whole, Text(summary(self.progress))):
            picture.add_row(part)
        return picture


def summary(progress: Progress) -> str:
    """The whole study in one line."""
    counts = f"{progress.count('done'):,} done, {progress.count('running'):,} running, "
    counts += f"{progress.count('waiting', 'queued'):,} waiting"
    for state in ("failed", "pruned"):
        if number := progress.count(state):
            counts += f", {number:,} {state}"
    left = progress.seconds_left()
    eta = "-" if left is None else duration(left)
    runs = len(progress.rows) + progress.to_come
    return f"{counts} of {runs:,} runs; {progress.speed:,.0f} steps/s; ETA {eta}"


def failures(progress: Progress) -> list[str]:
    """The runs that failed, each with the last line of its log."""
    return [
        f"{row.run.name}: {row.reason} ({progress.folder / LOGS / row.run.name}.log)"
        for row in progress.rows.values()
        if row.state == "failed"
    ]


def why(progress: Progress, name: str, code: int) -> str:
    """Why a run failed: the last line of its log, or the signal that ended it.

    Args:
        progress: of the study.
        name: of the run.
        code: with which its process ended.
    """
    if code < 0:
        return f"its process was ended by signal {-code}"
    return last_line(progress.folder / LOGS / f"{name}.log") or f"exit code {code}"

"""Reports: every log line goes to `metrics.csv`, to TensorBoard and to the terminal."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from rich.console import Console

from agents.logs.progress import Progress, Split
from agents.logs.table import Table
from agents.logs.tensorboard import EventFile
from agents.logs.terminal import Terminal

METRICS_FILE = "metrics.csv"

__all__ = ["METRICS_FILE", "Progress", "Report", "Split"]


class Report:
    """One run's log lines, in three places; a context manager.

    Every line is on the disk when `log` returns.  Whatever cannot be written raises
    `OSError` there and then, and leaves what was written before readable.
    """

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        description: Mapping[str, object],
        start_step: int = 0,
        console: Console | None = None,
    ) -> None:
        """Opens the files in `folder`; on a resume, cuts them at `start_step`.

        Args:
            folder: the run directory, made where it is missing.
            total_steps: agent steps of the whole run.
            description: the run's hyper-parameters, flat, for TensorBoard.
            start_step: agent steps at which this process begins; what was logged
                beyond it is forgotten, so that no point appears twice.
            console: where to show progress; the standard output by default.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._terminal = Terminal(total_steps, console, start_step)
        self._table = Table(folder / METRICS_FILE, start_step)
        self._events = EventFile(folder, description, start_step)

    def log(self, progress: Progress) -> None:
        """Writes and shows one log line.

        Raises:
            OSError: the disk is full, say.
        """
        numbers = progress.numbers()
        self._table.append(progress.step, numbers)
        self._events.append(progress.step, numbers)
        self._terminal.show(progress)

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Writes pictures for TensorBoard, by name.

        Raises:
            OSError: the disk is full, say.
        """
        if pictures:
            self._events.show(step, pictures)

    def tick(self, step: int, seconds: float) -> None:
        """Keeps the live line moving between two log lines; writes nothing.

        Args:
            step: agent steps so far.
            seconds: since this process began to train.
        """
        self._terminal.tick(step, seconds)

    def note(self, text: str) -> None:
        """Prints a line of text without disturbing the live line."""
        self._terminal.note(text)

    def close(self) -> None:
        """Leaves the last log line on the screen and closes the files."""
        self._terminal.close()
        try:
            self._table.close()
        finally:
            self._events.close()

    def __enter__(self) -> "Report":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OSError:
            # Files that could not be written cannot be closed well either: say it once.
            if error is None:
                raise


class NoReport:
    """Says and writes nothing: for processes beside the one that reports."""

    def log(self, progress: Progress) -> None:
        """Forgets a log line."""

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Forgets pictures."""

    def tick(self, step: int, seconds: float) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
        """Says nothing."""

    def __enter__(self) -> "NoReport":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

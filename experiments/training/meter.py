"""When a line of the log is due, and what it says of the updates since the one before."""

import time
from collections.abc import Mapping

from torch import Tensor

from agents.logs.report import Progress, Split
from agents.statistics import RunningMean
from experiments.training.session import Session


class Every:
    """Tells when training passes the next multiple of a number of agent steps."""

    def __init__(self, steps: int, start: int = 0) -> None:
        """Counts from `start` agent steps."""
        self._steps, self._last = steps, start

    def passed(self, step: int) -> bool:
        """Whether a multiple lies after the last `step` that returned true, up to this one."""
        if step // self._steps == self._last // self._steps:
            return False
        self._last = step
        return True


class Meter:
    """Measures speed, episodes and mean scalars between two lines of the log."""

    def __init__(self, session: Session, gate: str | None) -> None:
        """Starts the clock.

        Args:
            session: that trains.
            gate: its name; None without auxiliary heads.
        """
        self._session, self._gate = session, gate
        self._metrics = RunningMean(session.processes)
        self._began = self._read_at = time.monotonic()
        self._read_step = session.learner.steps

    @property
    def seconds(self) -> float:
        """Since the clock was started."""
        return time.monotonic() - self._began

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Takes the scalars of one update, on the device."""
        self._metrics.add(scalars)

    def leave_out(self, seconds: float) -> None:
        """Leaves time out of the speed of the next line, such as that of an evaluation."""
        self._read_at += seconds

    def read(self) -> Progress:
        """What there is to say since the last call; waits for the device."""
        learner, now = self._session.learner, time.monotonic()
        seconds, clock = now - self._read_at, self._session.collector.clock.read()
        split = clock.environment / seconds, clock.acting / seconds
        episodes, of_others = self._session.drain()
        progress = Progress(
            step=learner.steps,
            seconds=now - self._began,
            steps_per_second=(learner.steps - self._read_step) / seconds,
            split=Split(*split, learning=1 - sum(split)),
            episodes=episodes,
            learning_rate=learner.learning_rate,
            metrics={**self._metrics.drain(), **of_others},
            gate=self._gate,
        )
        self._read_at, self._read_step = now, learner.steps
        return progress

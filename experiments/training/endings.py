"""How a run ended, in words: skipped updates, heads that learnt nothing, a folder that is gone."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from agents.learning.learner import Learner
from agents.networks.actor_critic import NotFiniteError
from agents.runtime.checkpoint import write_json
from agents.runtime.distributed import Agreement
from configs.errors import UsageError, quoted
from configs.stored import counted
from configs.training import TrainConfig
from experiments.training.lock import FolderLock, VanishedError
from experiments.training.run_folder import CHECKPOINTS, CONFIG, VERSIONS, versions
from experiments.training.session import Session

DROPPED = "/dropped"
"""The metric that is 1 in updates for which a head's loss or gradient was not finite."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room to write."""


class Dropped:
    """Notices heads that were dropped in every update, from the lines of the log."""

    def __init__(self) -> None:
        self._always: dict[str, bool] = {}

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes the means of one log line."""
        for key, value in metrics.items():
            if key.endswith(DROPPED):
                name = key.removesuffix(DROPPED)
                self._always[name] = self._always.get(name, True) and value >= 1

    def notes(self) -> list[str]:
        """A sentence on each head that never took part."""
        return [
            f"The head {name} was dropped in every update, because its loss or gradient was never "
            "finite: the run learnt nothing from it."
            for name, always in self._always.items()
            if always
        ]


def skipped(learner: Learner) -> str:
    """How many updates were skipped, in words; empty if none were."""
    number, last = int(learner.skipped), int(learner.skipped_in_a_row)
    if number == 0:
        return ""
    ending = f", the last {last:,} in a row" if last > 1 else ""
    return f"{number:,} of {learner.attempts:,} updates were skipped{ending}"


def unsound(learner: Learner) -> bool:
    """Whether a run that has done its steps ended in skipped updates, or skipped more than half."""
    return bool(learner.skipped_in_a_row > 0) or 2 * int(learner.skipped) > learner.attempts


def culprit(learner: Learner) -> tuple[str, str]:
    """Why updates were skipped, and what helps."""
    if learner.unsound > 0:
        return (
            "observations or rewards of the environment were not finite",
            "The environment has to be put right: no option of train.py helps.",
        )
    return "the loss was not finite", "Try a smaller --learning-rate."


def ruin(learner: Learner, folder: Path, max_skipped: int) -> str:
    """Why a run is not to be trusted, and what helps.

    Args:
        learner: after the last update.
        folder: of the run.
        max_skipped: updates in a row after which a run stops.
    """
    why, cure = culprit(learner)
    try:
        learner.check_finite()
    except NotFiniteError as error:
        return (
            f"{error}, so they were not saved; {folder} holds those of the last checkpoint. {cure}"
        )
    what = skipped(learner)
    if learner.skipped_in_a_row >= max_skipped:
        what = f"the last {int(learner.skipped_in_a_row):,} updates were skipped"
    return f"{what}, because {why}; the weights before them are saved in {folder}. {cure}"


class LeaderFailedError(OSError):
    """The leading process has met an error, and says which; all others raise this."""

    def __init__(self, vanished: bool) -> None:
        super().__init__("the first process has met an error, and says which")
        self.vanished = vanished
        """Whether the folder is gone."""


class Writing:
    """Keeps an error of the process that writes until all processes can end together.

    Only the leading process writes and evaluates, so it alone finds out; if it left at once, the
    others would wait for it in their next update.  A process that is alone raises at once.
    """

    def __init__(self, session: Session, lock: FolderLock | None = None) -> None:
        """Has met no error yet.

        Args:
            session: of the run.
            lock: of the run's folder; none where another process writes.
        """
        self._alone = session.processes.size == 1
        self._agreement = Agreement(session.processes, session.env.device)
        self._lock = lock
        self._error: OSError | UsageError | None = None

    @property
    def failed(self) -> bool:
        """Whether this process has met an error."""
        return self._error is not None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps an error of what is written within until `settle`."""
        try:
            yield
        except (OSError, UsageError) as error:
            if self._alone:
                raise
            self._error = self._error or error

    def settle(self) -> None:
        """Waits for all processes, and ends them if one of them has met an error.

        Raises:
            OSError: that of this process.
            UsageError: that of this process.
            LeaderFailedError: another process has met one.
        """
        if self._agreement.settle(self.failed):
            gone = self._lock is not None and not self._lock.intact(CONFIG)
            vanished = self._agreement.settle(gone)
            raise self._error or LeaderFailedError(vanished)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written within succeeds for all processes or ends them all."""
        with self.kept():
            yield
        self.settle()


@contextmanager
def holding(lock: FolderLock | None, config: TrainConfig, session: Session) -> Iterator[None]:
    """Lets go of a run's folder at the end, and saves the run elsewhere where the folder is gone.

    Args:
        lock: of the folder; none where another process writes.
        config: of the run.
        session: that trains meanwhile.

    Raises:
        VanishedError: in place of any error of writing, if the folder is gone.
    """
    try:
        yield
    except OSError as error:
        if lock is None or lock.intact(CONFIG):
            raise
        raise rescue(lock.folder, config, session) from error
    finally:
        if lock is not None:
            lock.release()


def rescue(folder: Path, config: TrainConfig, session: Session) -> VanishedError:
    """Saves a run whose folder is gone next to where it was, in a folder that can be resumed.

    Args:
        folder: that the run had.
        config: of the run.
        session: as it is now, between two updates.

    Returns:
        The error to raise, which says where the run is.
    """
    start = f"{folder} was removed, renamed or emptied while the run was writing there"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            place = folder.with_name(f"{folder.name}-rescued{'' if number == 1 else f'-{number}'}")
            if not place.exists():
                break
        (place / CHECKPOINTS).mkdir(parents=True)
        write_json(place / VERSIONS, versions())
        write_json(place / CONFIG, counted(config.to_json()))
        session.save(place)
    except (OSError, NotFiniteError) as error:
        return VanishedError(f"{start}, and it cannot be saved next to it ({error})")
    return VanishedError(
        f"{start}: it is saved, as it was at step {session.learner.steps:,}, in {place}; go on by "
        f"--resume {quoted(place)}."
    )


def trouble(error: OSError) -> str:
    """What could not be written and what helps, in one sentence.

    Args:
        error: that ended the run.
    """
    if error.filename is not None and error.errno not in FULL:
        where = f"{error.filename} cannot be written"
        cure = f"move {error.filename} away or choose another --run-dir"
    else:
        where, cure = "writing failed", "free some space or choose another --run-dir"
    return f"{where} ({error.strerror or error}): {cure}, then go on with --resume."

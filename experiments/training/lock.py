"""One process writes to a folder: a lock on it, which ends with its process however that ends.

A run, a study or a sweep holds the lock of its folder while it writes there.  The lock is the
operating system's, on the file `.lock`, so `kill -9` frees it; `.lock.json` says who holds it.
Both are removed at the end; where they are left, a process was killed.
"""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from agents.runtime.checkpoint import write_json
from configs.errors import UsageError

LOCK, HOLDER = ".lock", ".lock.json"
LOCK_FILES = (LOCK, HOLDER)
"""What is in a folder as long as it is held."""


class InUseError(UsageError):
    """Another process writes to the folder."""


class VanishedError(OSError):
    """The folder was removed or renamed, or another one has its name."""


class FolderLock:
    """Holds a folder from its making until `release`, or until nothing refers to it any more.

    A context manager, for programs that hold a folder from start to end:

        with FolderLock(folder):
            ...
    """

    def __init__(self, folder: Path) -> None:
        """Takes the lock at once.

        Args:
            folder: must be there.

        Raises:
            InUseError: another process, or another lock of this one, holds it; says which.
            OSError: the folder cannot be written.
        """
        self.folder = folder
        # Any thread may release it.
        self._lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise InUseError(
                f"{folder} is in use by {_holder(folder)}: wait until it has ended, or stop it."
            ) from error
        except NotImplementedError:
            pass  # a file system that has no locks
        self._folder_is, self._lock_is = _identity(folder), _identity(folder / LOCK)
        with suppress(OSError):  # a full disk, which whoever needs room on it will report
            write_json(folder / HOLDER, {"host": socket.gethostname(), "process": os.getpid()})

    def intact(self, *names: str) -> bool:
        """Whether the folder is still in its place.

        Args:
            names: of files that must still be in it.
        """
        # The lock file is open, so no other file gets its number; a folder may.
        here = _identity(self.folder / LOCK)
        return (
            _identity(self.folder) == self._folder_is
            and here in (None, self._lock_is)
            and all((self.folder / name).exists() for name in names)
        )

    def check(self, *names: str) -> None:
        """Raises VanishedError unless the folder is `intact`.

        Args:
            names: of files that must still be in it.
        """
        if not self.intact(*names):
            raise VanishedError(f"{self.folder} was removed, renamed or emptied")

    def release(self) -> None:
        """Frees the folder; a second call does nothing."""
        if not self._lock.is_locked:
            return
        if self.intact():
            # Before the lock is freed; who has opened the file meanwhile finds it removed, and
            # takes that for a lock in use.
            for name in (HOLDER, LOCK):
                with suppress(OSError):
                    (self.folder / name).unlink()
        self._lock.release()

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _holder(folder: Path) -> str:
    """Who holds a lock, in words."""
    try:
        held = json.loads((folder / HOLDER).read_text("utf-8"))
        return f"process {held['process']} on {held['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has only just taken it

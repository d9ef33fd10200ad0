"""Runs the programs in processes that may die, and judges how they ended.

A process is forked, so that nothing is imported anew; `torch._dynamo`, which an optimizer imports
late and slowly, is therefore imported here.  The process dies by SIGKILL before one of the
operations on files that it would do next, which is where a program can lose something, or after a
while.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo

Main = Callable[[Sequence[str]], int]

CRASHED = 70
"""Exit code of a program that raised what it should have caught."""
SECONDS = 120.0
"""After which a program counts as hanging."""
CHANGES = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
)
"""Audit events of operations that change a folder; `open` counts where it is for writing."""


@dataclass(frozen=True)
class Death:
    """When a process is killed."""

    operation: int = 0
    """Before this one of its operations on files, counted from 1; 0 for never."""
    seconds: float = SECONDS
    """At the latest after so long."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int | None
    """None if it was killed."""
    said: str
    """All that it printed."""
    hung: bool = False

    @property
    def trouble(self) -> str:
        """What no user should ever see; empty if all is well."""
        if self.hung:
            return "hangs"
        if "Traceback" in self.said or self.code == CRASHED:
            return "traceback"
        return "" if self.code in (None, 0, 1, 2, 130) else f"exit code {self.code}"


def run(main: Main, line: str | Sequence[str], folder: Path, death: Death | None = None) -> Outcome:
    """Runs a program in a process of its own.

    Args:
        main: of the program.
        line: its arguments.
        folder: where it works.
        death: when it is killed; by default only if it hangs.
    """
    words = line.split() if isinstance(line, str) else list(line)
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as printed:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Of threads, which this process lets rest.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _live(main, words, folder, printed.fileno(), death or Death())
        deadline = time.monotonic() + (death.seconds if death else SECONDS)
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(0.005)
        printed.seek(0)
        said = printed.read()
    code = os.waitstatus_to_exitcode(status)
    hung = code == -signal.SIGKILL and death is None
    return Outcome(None if code == -signal.SIGKILL else code, said, hung)


def _live(main: Main, words: list[str], folder: Path, printed: int, death: Death) -> None:
    """The life of the forked process; never returns."""
    code = CRASHED
    try:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        torch.set_num_threads(1)
        if death.operation:
            sys.addaudithook(_reaper(death.operation))
        code = main(words)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reaper(operation: int) -> Callable[[str, tuple[object, ...]], None]:
    left = operation

    def reap(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and _for_writing(arguments)
        if writes or event in CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reap


def _for_writing(arguments: tuple[object, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))

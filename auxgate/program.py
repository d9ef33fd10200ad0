"""What every program does around its work: interrupts, closed pipes, terminals of any encoding.

Imports nothing that takes time, so that Ctrl-C ends a program without a traceback while the rest
is imported.
"""

import errno
import io
import os
import signal
import sys
from importlib import import_module
from typing import Any, TextIO

FAILED, STOPPED = 1, 130
"""Exit codes: the output could not be written; Ctrl-C."""

SPINS = "20000"
"""How often a thread of PyTorch looks for work before it sleeps, unless the user says otherwise.

OpenMP's own number is 15 times as large. Two runs on the same cores then take turns in waiting:
together they are half as fast again with this number, and one run alone is hardly slower
(`benchmarks/results/spinning.csv`).
"""

_GONE = (errno.EPIPE, errno.EIO)
"""What writing fails with when nobody reads any more: a closed pipe, a terminal that hung up."""


class _Output(io.FileIO):
    """A standard stream whose reader may go away: what a run writes to files matters more."""

    def write(self, data: Any) -> int:
        """Writes bytes, or drops them if nobody reads them."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return len(data)


def tolerant(stream: TextIO | None) -> TextIO:
    r"""A standard stream that takes any character, and goes on when its reader is gone.

    What the terminal's encoding lacks is written as an escape, as `\u2192`.

    Args:
        stream: `sys.stdout` or `sys.stderr`; None where the program was started without.
    """
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # a notebook's, or a test's
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(number, "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.isatty() or stream is sys.stderr,
    )


def run(module: str, *arguments: Any) -> int:
    """Imports the `main` of a module and runs it.

    Args:
        module: its full name.
        arguments: of `main`.

    Returns:
        The exit code.
    """
    # A process that was started to ignore interrupts goes on ignoring them.
    ours = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL)
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when PyTorch is imported
    main = import_module(module).main
    try:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = int(main(*arguments))
    except KeyboardInterrupt:
        code = STOPPED
    finally:
        # While Python ends there is nothing left to save, and no traceback to be shown.
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"The output could not be written ({error.strerror}).", file=sys.stderr)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, for Python's own end
        return code or FAILED
    return code

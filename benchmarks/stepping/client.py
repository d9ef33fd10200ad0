"""The other side of `worker`: starts programs, and has them play in turns."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.stepping.protocol import Burst

ROOT = Path(__file__).resolve().parent.parent.parent
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
"""What makes torch, numpy and JAX compute with one thread."""


@dataclass(frozen=True)
class Worker:
    """A program at work."""

    versions: str
    """Of the packages that matter."""
    views: Mapping[str, str]
    """What it sees, by the ways in which it can be stepped."""
    _line: "_Line"

    def play(self, form: str, seconds: float) -> Burst:
        """Lets it play for some processor time.

        Raises:
            ValueError: it failed; holds the last line that it printed.
        """
        self._line.say(f"{form} {seconds}")
        return Burst(**self._line.hear())


@dataclass(frozen=True)
class _Line:
    """The pipes to a process and back, and what it prints besides."""

    python: str
    process: "subprocess.Popen[str]"
    printed: IO[str]

    def say(self, words: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(words + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It is gone: that is noticed by what it does not answer.

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            self.printed.seek(0)
            last = (self.printed.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise ValueError(f"{self.python} failed: {last}")
        heard: dict[str, Any] = json.loads(answer)
        return heard


@contextmanager
def working(program: str, python: str, num_envs: int, core: int) -> Iterator[Worker]:
    """Runs a program of `benchmarks.stepping` until the context is left.

    Args:
        program: the module's name.
        python: the interpreter, one that has what the program imports.
        num_envs: environments stepped together.
        core: the processor it is bound to.

    Raises:
        ValueError: it cannot be run; says why.
    """
    found = shutil.which(python)
    if found is None:
        raise ValueError(f"{python} is not a program that can be run.")
    # Absolute, but links are not followed: through one of them Python finds its environment.
    command = [str(Path(found).absolute()), "-m", "benchmarks.stepping.worker"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": path}
    # Not in the caller's folder: PufferLib leaves a link wherever it is imported.
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as printed,
    ):
        process = subprocess.Popen(
            [*command, program, str(num_envs), str(core)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        )
        try:
            line = _Line(python, process, printed)
            about = line.hear()
            yield Worker(about["versions"], about["views"], line)
        finally:
            process.kill()
            process.communicate()

"""Result files: CSVs with remarks above that say how, from what and on what they were made."""

import csv
import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agents.runtime.checkpoint import write_atomically
from configs.errors import UsageError
from configs.parsing import read
from experiments.training import run_folder

ROOT = Path(__file__).resolve().parent.parent

Options = TypeVar("Options")

Row = dict[str, str]
"""A line of a CSV, by column."""


def header(program: str, arguments: Sequence[str], remarks: Sequence[str] = ()) -> list[str]:
    """The lines above a result: how and on what it was made.

    Args:
        program: what follows `python` on the command line.
        arguments: the program's.
        remarks: further lines.
    """
    versions = run_folder.versions()
    packages = versions["packages"]
    return [
        f"# command: {shlex.join(['python', *program.split(), *arguments])}",
        f"# commit: {versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        f"# hardware: {versions['cpu']}, {versions['cores']} cores, GPU {versions['gpu']}",
        f"# packages: torch {packages['torch']}, envpool {packages['envpool']}",
        *(f"# {remark}" for remark in remarks),
    ]


def publish(lines: Sequence[str], path: str) -> None:
    """Prints a result, and writes it to `path` unless that is empty."""
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if path:
        Path(path).write_text(text, encoding="utf-8")


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """The remarks above a result, and its rows by column, without one that was cut short."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    remarks = [line.rstrip("\n") for line in lines if line.startswith("#")]
    whole = (line for line in lines if line.endswith("\n") and not line.startswith("#"))
    rows = csv.DictReader(whole)
    return remarks, [row for row in rows if None not in row and None not in row.values()]


def remark(remarks: Sequence[str], name: str) -> str:
    """The last remark of a name: `title` finds what follows `# title: `; empty if there is none."""
    start = f"# {name}: "
    named = [line.removeprefix(start) for line in remarks if line.startswith(start)]
    return named[-1] if named else ""


def arguments_of(remarks: Sequence[str]) -> list[str]:
    """The arguments of the program in the last remark that names a command."""
    words = shlex.split(remark(remarks, "command"))
    return words[3:] if words[1:2] == ["-m"] else words[2:]


@dataclass(frozen=True)
class Table:
    """A CSV that grows by a row whenever a run ends, so that an interrupted study loses none."""

    path: Path
    columns: tuple[str, ...]

    def read(self) -> tuple[list[str], list[Row]]:
        """The remarks and the rows; none before the file is there."""
        return read_table(self.path) if self.path.is_file() else ([], [])

    def start(self, remarks: Sequence[str], rows: Iterable[Mapping[str, str]] = ()) -> None:
        """Writes the file anew, with the rows that it is to keep; a kill loses none of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        text.writelines(f"{remark}\n" for remark in remarks)
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())

    def append(self, cells: Sequence[str]) -> None:
        """Writes one more row through to the file."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)


def options_of(
    kind: type[Options], arguments: Sequence[str], program: str, description: str | None
) -> Options:
    """Reads a program's options; a mistake ends it with one sentence.

    Args:
        kind: the dataclass of its options.
        arguments: of the command line.
        program: its name.
        description: for the help.

    Raises:
        SystemExit: an option is wrong (code 2), or the help was printed.
    """
    try:
        return read(kind, arguments, program, description)
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def print_lines(
    lines_of: Callable[[Options, Sequence[str]], Iterable[str]],
    kind: type[Options],
    arguments: Sequence[str],
    program: str,
    description: str | None,
) -> int:
    """Runs a program and prints its lines, or its mistake as one sentence.

    Args:
        lines_of: the program; of its options and the arguments as they were typed.
        kind: the dataclass of its options.
        arguments: of the command line.
        program: its name.
        description: for the help.

    Returns:
        The exit code.
    """
    try:
        options = read(kind, arguments, program, description)
        print("\n".join(lines_of(options, arguments)))
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    return 0


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates a program's own arguments from those after `--`, which are for another one."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def run_quietly(command: Sequence[str], name: str) -> None:
    """Runs a command with one thread of PyTorch, and says that it is done.

    Args:
        command: the program and its arguments.
        name: of the run, for what is said.

    Raises:
        ValueError: the command failed; holds the last line that it printed.
    """
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise ValueError(f"{name} failed: {_last_line(done.stdout)}")
    print(f"{name} done", flush=True)


def _last_line(printed: str) -> str:
    return (printed.strip().splitlines() or ["it printed nothing"])[-1]


def run_alone(command: Sequence[str]) -> float:
    """Runs a command from the root of the repository and returns its peak memory, in MiB.

    Raises:
        ValueError: the command failed; holds the last line that it printed.
    """
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as printed:
        process = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        try:
            # Not `process.wait`: this also tells what this one process used.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            printed.seek(0)
            raise ValueError(f"{shlex.join(command)} failed: {_last_line(printed.read())}")
    # In bytes on macOS, in kibibytes elsewhere.
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

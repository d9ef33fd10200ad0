"""The folder of a run: its config, the versions it ran with, and where its results go."""

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import torch

from agents.logs.report import EVALUATIONS_FILE, METRICS_FILE
from agents.logs.tensorboard import PREFIX
from agents.logs.tracking import LOCAL
from agents.runtime.checkpoint import (
    LEFTOVER,
    PATTERN,
    DamagedFileError,
    load_tensors,
    read_text,
    remove_leftovers,
    write_json,
)
from agents.teachers import BEST_FILE, POLICY_FILE
from configs.cli import ResumeOptions
from configs.errors import UsageError, naming, quoted
from configs.stored import counted
from configs.training import TrainConfig
from experiments.training.lock import LOCK, LOCK_FILES, FolderLock

CONFIG = "config.json"
VERSIONS = "versions.json"
CHECKPOINTS = "checkpoints"
PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "ale-py", "tensorboard", "safetensors")
ROOT = Path(__file__).resolve().parents[2]


def create(config: TrainConfig, variant: str = "") -> Path:
    """Makes the folder of a new run as `claim` does, and lets go of it.

    Args:
        config: of the run.
        variant: a name for code that an experiment has replaced; `versions.json` has it.

    Returns:
        The folder.

    Raises:
        UsageError: it cannot be written, or is not free.
    """
    lock = claim(config, variant)
    lock.release()
    return lock.folder


def claim(config: TrainConfig, variant: str = "") -> FolderLock:
    """Makes the folder of a new run, writes its config and versions, and holds it.

    Args:
        config: of the run.
        variant: a name for code that an experiment has replaced; `versions.json` has it.

    Returns:
        The lock of the folder.

    Raises:
        UsageError: it cannot be written, another process holds it, or it holds something already.
    """
    folder = Path(config.run.run_dir) if config.run.run_dir else _unused(default_name(config))
    with _whole_or_absent(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Before the lock, which is a file, and once more when nobody else writes there.
        refuse_occupied(folder)
        with ExitStack() as undo:
            lock = FolderLock(folder)
            undo.callback(lock.release)
            refuse_occupied(folder)
            clear(folder)
            (folder / CHECKPOINTS).mkdir(exist_ok=True)
            write_json(folder / VERSIONS, versions() | ({"variant": variant} if variant else {}))
            write_json(folder / CONFIG, counted(config.to_json()))
            undo.pop_all()
    return lock


def refuse_occupied(folder: Path) -> None:
    """Refuses a folder for a new run, unless it is empty or its run died before it began.

    Raises:
        UsageError: it holds a run, or something that is not this program's.
    """
    if not any(folder.iterdir()) or never_began(folder):
        return
    if (folder / CONFIG).exists():
        raise UsageError(
            f"--run-dir {folder} holds a run already: choose another folder, or go on with it "
            f"by --resume {quoted(folder)}."
        )
    raise UsageError(
        f"--run-dir {folder} is not empty and holds no run: choose another folder, so that nothing "
        "in it is overwritten."
    )


def never_began(folder: Path) -> bool:
    """Whether a folder holds only what a run writes before its first checkpoint.

    Such a run was killed, or met a full disk, and starts over.  Event files and an unlocked folder
    count only next to the config of a run, since they might be another program's.
    """
    entries = {path.name: path for path in folder.iterdir()}
    ours = _has_config(folder)
    if not ours and (CONFIG in entries or LOCK not in entries):
        return False
    checkpoints = entries.pop(CHECKPOINTS, None)
    if checkpoints is not None and not (
        checkpoints.is_dir() and all(_is_leftover(path) for path in checkpoints.iterdir())
    ):
        return False
    known = (CONFIG, VERSIONS, *LOCK_FILES)
    return all(
        name in known or _is_leftover(path) or (ours and name.startswith(PREFIX))
        for name, path in entries.items()
    )


def _has_config(folder: Path) -> bool:
    """Whether a run's `config.json` is there; not whether it fits this version."""
    try:
        content = json.loads(read_text(folder / CONFIG))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"choice", "run", "env"} <= content.keys()


def _writes(name: str) -> bool:
    """Whether a run writes a file of this name, and could be killed while it does."""
    usual = (CONFIG, VERSIONS, METRICS_FILE, EVALUATIONS_FILE, *LOCK_FILES)
    # Another task's policy is `policy-Pong.safetensors`.
    policies = (file.replace(".", "*.") for file in (POLICY_FILE, BEST_FILE))
    return name in usual or any(Path(name).match(each) for each in (PATTERN, *policies))


def _is_leftover(path: Path) -> bool:
    written = LEFTOVER.fullmatch(path.name)
    return written is not None and _writes(written[1]) and path.is_file()


def clear(folder: Path) -> None:
    """Removes what killed processes left behind; where the run never began, its event files too.

    Args:
        folder: of a run, held by this process.
    """
    if never_began(folder):
        for path in folder.glob(f"{PREFIX}*"):
            path.unlink()
    remove_leftovers(folder, _writes)
    remove_leftovers(folder / CHECKPOINTS, _writes)


@dataclass(frozen=True)
class Resumed:
    """A run that continues."""

    source: Path
    """The folder whose checkpoint is loaded."""
    folder: Path
    """Where the run continues: in the same folder, unless --run-dir names another."""
    config: TrainConfig
    notes: tuple[str, ...] = ()
    """Sentences on what the options change."""


def resumed(options: ResumeOptions) -> Resumed:
    """Reads the config of a run and applies the options that may change.

    Raises:
        UsageError: there is no such run, a value is not allowed, or the other folder exists.
    """
    source = Path(options.run)
    config = read_config(source)
    with naming(config.run):
        run = replace(config.run, **options.changes)
    folder = Path(options.run_dir) if options.run_dir else source
    if folder != source and folder.exists():
        raise UsageError(f"--run-dir {folder} exists already: choose another folder.")
    notes: tuple[str, ...] = ()
    if run.steps != config.run.steps:
        notes = (
            f"The run ends at {run.steps:,} steps instead of {config.run.steps:,}, and so do its "
            "schedules: the learning rate is no longer what it was planned to be.",
        )
    return Resumed(source, folder, replace(config, run=run), notes)


def hold(source: Path, folder: Path) -> FolderLock | None:
    """Holds the folder of a run that is to continue.

    Args:
        source: the run's own folder.
        folder: where it continues.

    Returns:
        The lock; none for a folder that is only copied and cannot be written.

    Raises:
        UsageError: another process holds it, or it cannot be written.
    """
    try:
        return FolderLock(source)
    except OSError as error:
        if folder != source:
            return None
        raise UsageError(
            f"--resume {source} cannot be written ({error.strerror or error}): go on in a copy by "
            "--run-dir FOLDER."
        ) from error


def go_on(
    source: Path, folder: Path, config: TrainConfig, lock: FolderLock | None = None
) -> FolderLock | None:
    """Prepares the folder in which a run continues: its own, or a copy of it.

    Args:
        source: the run's own folder.
        folder: where it continues.
        config: with the changed options, written to the folder.
        lock: of the run's own folder.

    Returns:
        The lock of the folder in which it continues.

    Raises:
        UsageError: it cannot be written.
    """
    with _whole_or_absent(folder):
        if folder != source:
            _copy(source, folder)
            if lock is not None:
                lock.release()
            lock = FolderLock(folder)
        clear(folder)
        write_json(folder / CONFIG, counted(config.to_json()))
    return lock


def has_policy(path: Path, steps: int) -> bool:
    """Whether an exported policy of a run is whole and as old as its last checkpoint.

    Args:
        path: of the policy's file.
        steps: agent steps of the checkpoint.
    """
    try:
        _, content = load_tensors(path)
    except (OSError, DamagedFileError):
        return False
    return bool(content.get("steps") == steps)


def _copy(source: Path, folder: Path) -> None:
    """Copies a run as a whole, or not at all if it is interrupted."""
    for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
        if stale.is_dir() and LEFTOVER.fullmatch(stale.name):
            shutil.rmtree(stale)
    copy = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*LOCK_FILES, *LOCAL, ".*.tmp"))
        copy.rename(folder)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def _whole_or_absent(folder: Path) -> Iterator[None]:
    """Turns errors of the disk into one sentence and removes a new folder that is incomplete."""
    new = not folder.is_dir() or {path.name for path in folder.iterdir()} <= {*LOCK_FILES}
    try:
        yield
    except OSError as error:
        if new and folder.is_dir():  # a pipe of that name would be waited for
            shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(
            f"--run-dir {folder} cannot be written ({error.strerror or error}): choose another "
            "folder."
        ) from error


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Flattens a nested config to dotted names, for TensorBoard's table."""
    items: dict[str, object] = {}
    for name, value in content.items():
        key = f"{prefix}{name}"
        items |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return items


def described(config: TrainConfig) -> dict[str, object]:
    """The options of a run for tables: environment, heads, gate and seed first, then all."""
    choice = config.choice
    first = {
        "env": choice.env,
        "heads": " ".join(choice.aux) or "none",
        "gate": choice.gate or "none",
        "seed": config.run.seed,
    }
    said = ("choice.env", "choice.aux", "choice.gate", "run.seed")
    rest = flat(config.to_json()).items()
    return first | {name: value for name, value in rest if name not in said}


def read_config(folder: Path) -> TrainConfig:
    """Reads back the config of a run.

    Raises:
        UsageError: it is not a run's folder, or its config does not fit this version.
    """
    try:
        content = json.loads(read_text(folder / CONFIG))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is not a run's folder: it has no {CONFIG}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read ({error}).") from error
    return TrainConfig.from_json(content)


def default_name(config: TrainConfig) -> str:
    """Names a run <env>-<aux>-<gate>-s<seed>-<time>, safe for every file system."""
    choice = config.choice
    parts = [choice.env, choice.losses, choice.gate or ""]
    parts += [f"s{config.run.seed}", time.strftime("%Y%m%d-%H%M%S")]
    return re.sub(r"[^\w.+-]", "_", "-".join(part for part in parts if part))


def _unused(name: str) -> Path:
    """Makes a folder of that name, numbered if another run has it."""
    for number in count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        with _whole_or_absent(folder), suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def versions() -> dict[str, Any]:
    """Commit, packages and hardware; no environment variables, which may hold secrets."""
    return {
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def _git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():
        return ""  # installed, perhaps below a repository that is the user's
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor()

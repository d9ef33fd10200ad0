"""The folder of a run: its config, the versions it ran with, and where its results go."""

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import torch

from agents.logs.tracking import LOCAL
from agents.runtime.checkpoint import write_json
from configs.cli import ResumeOptions
from configs.errors import UsageError, naming, quoted
from configs.stored import counted
from configs.training import TrainConfig

CONFIG = "config.json"
VERSIONS = "versions.json"
CHECKPOINTS = "checkpoints"
PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "ale-py", "tensorboard", "safetensors")
ROOT = Path(__file__).resolve().parents[2]


def create(config: TrainConfig, variant: str = "") -> Path:
    """Makes the folder of a new run and writes its config and versions.

    Args:
        config: of the run.
        variant: a name for code that an experiment has replaced; `versions.json` has it.

    Returns:
        The folder.

    Raises:
        UsageError: it cannot be written, or another run is in it.
    """
    folder = Path(config.run.run_dir) if config.run.run_dir else _unused(default_name(config))
    with _whole_or_absent(folder):
        if (folder / CONFIG).exists():
            raise UsageError(
                f"--run-dir {folder} holds a run already: choose another folder, or go on with it "
                f"by --resume {quoted(folder)}."
            )
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        write_json(folder / VERSIONS, versions() | ({"variant": variant} if variant else {}))
        write_json(folder / CONFIG, counted(config.to_json()))
    return folder


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
        UsageError: there is no such run, or a value is not allowed.
    """
    source = Path(options.run)
    config = read_config(source)
    changes: dict[str, Any] = {"steps": options.steps, "device": options.device}
    with naming(config.run):
        run = replace(
            config.run, **{name: value for name, value in changes.items() if value is not None}
        )
    folder = Path(options.run_dir) if options.run_dir else source
    notes: tuple[str, ...] = ()
    if run.steps != config.run.steps:
        notes = (
            f"The run ends at {run.steps:,} steps instead of {config.run.steps:,}, and so do its "
            "schedules: the learning rate is no longer what it was planned to be.",
        )
    return Resumed(source, folder, replace(config, run=run), notes)


def go_on(source: Path, folder: Path, config: TrainConfig) -> None:
    """Prepares the folder in which a run continues: its own, or a copy of it.

    Args:
        source: the run's own folder.
        folder: where it continues.
        config: with the changed options, written to the folder.

    Raises:
        UsageError: it cannot be written, or another run is in it.
    """
    if folder != source and folder.exists():
        raise UsageError(f"--run-dir {folder} exists already: choose another folder.")
    with _whole_or_absent(folder):
        if folder != source:
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*LOCAL))
        write_json(folder / CONFIG, counted(config.to_json()))


@contextmanager
def _whole_or_absent(folder: Path) -> Iterator[None]:
    """Turns errors of the disk into one sentence and removes a new folder that is incomplete."""
    new = not folder.is_dir() or not any(folder.iterdir())
    try:
        yield
    except OSError as error:
        if new:
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
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is not a run's folder: it has no {CONFIG}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read ({error}).") from error
    return TrainConfig.from_json(content)


def default_name(config: TrainConfig) -> str:
    """Names a run <env>-<aux>-<gate>-s<seed>-<time>, safe for every file system."""
    choice = config.choice
    parts = [choice.env, "+".join(choice.aux) or "main", choice.gate or ""]
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

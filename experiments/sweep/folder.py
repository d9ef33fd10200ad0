"""The folder of a sweep: its options, its chunks as they are computed, all results together."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from agents.runtime.checkpoint import (
    LEFTOVER,
    DamagedFileError,
    load_tensors,
    read_text,
    remove_leftovers,
    save_tensors,
    write_json,
)
from configs.errors import UsageError, naming, quoted
from configs.programs import SweepConfig
from configs.stored import filled
from experiments.sweep.arms import SweepArm, Teaching, arms, teachings
from experiments.training.lock import HOLDER, LOCK, LOCK_FILES, FolderLock
from experiments.training.run_folder import CONFIG, VERSIONS, versions

CHUNK = {"cpu": 1_000, "cuda": 40_000}
"""Students at once: what fits the cache of a CPU, or keeps a GPU busy."""


@dataclass(frozen=True)
class Chunk:
    """The results of R rows; a row is a world with one seed of its students."""

    expected_return: Float64[Tensor, "points K R"]
    """Exact returns of each arm."""
    cosine: Float32[Tensor, "intervals K R"]
    """Between main and auxiliary gradients, averaged between points; 0 without a teacher."""
    weight: Float32[Tensor, "intervals K R"]
    """The gate's weight of the auxiliary gradient, averaged likewise."""
    teacher: Float64[Tensor, "teachings R"]
    """Exact return of each teacher in the student's world."""
    optimum: Float64[Tensor, " R"]
    random: Float64[Tensor, " R"]
    """Exact return of the uniform policy."""
    cells: Int64[Tensor, " R"]
    """Cells in which an agent can act: reachable, and no end of an episode."""
    aliased: Int64[Tensor, " R"]
    """Those of them that look like another one."""


@dataclass(frozen=True)
class Results:
    """Returns of the students in W worlds, averaged over the seeds of each world."""

    config: SweepConfig
    expected_return: Float[np.ndarray, "points K W"]
    """Exact returns of each arm."""
    cosine: Float[np.ndarray, "intervals K W"]
    weight: Float[np.ndarray, "intervals K W"]
    teacher: Float[np.ndarray, "teachings W"]
    """Exact return of each teacher in the student's world."""
    optimum: Float[np.ndarray, " W"]
    random: Float[np.ndarray, " W"]
    cells: Float[np.ndarray, " W"]
    """Cells in which an agent can act: reachable, and no end of an episode."""
    aliased: Float[np.ndarray, " W"]
    """Those of them that look like another one."""

    @staticmethod
    def join(config: SweepConfig, chunks: Sequence[Chunk]) -> "Results":
        """Joins all chunks of a sweep, in their order."""

        def joined(name: str) -> Float[np.ndarray, "*shape"]:
            rows = np.concatenate([getattr(chunk, name).double().numpy() for chunk in chunks], -1)
            by_world = rows.reshape(*rows.shape[:-1], -1, config.seeds)
            return np.asarray(by_world.mean(-1))

        names = [name for name in Results.__dataclass_fields__ if name != "config"]
        return Results(config, **{name: joined(name) for name in names})

    @property
    def num_worlds(self) -> int:
        """How many worlds there are."""
        return len(self.optimum)

    @property
    def steps(self) -> Float[np.ndarray, " points"]:
        """The agent steps of each student at the points of the curves (updates, where exact)."""
        return np.asarray(self.config.log_points, float) * self.config.steps_per_update

    @property
    def arms(self) -> tuple[SweepArm, ...]:
        """All students of one world, main-only first."""
        return arms(self.config)

    def curves(self, gate: str, teaching: Teaching | None) -> Float[np.ndarray, "points W"]:
        """The returns of one arm."""
        return np.asarray(self.expected_return[:, self.arms.index(SweepArm(gate, teaching))])

    def taught_by(self, teaching: Teaching) -> Float[np.ndarray, " W"]:
        """Exact returns of one teacher in the students' worlds."""
        return np.asarray(self.teacher[teachings(self.config).index(teaching)])

    def final(self) -> Float[np.ndarray, "K W"]:
        """The returns at the end."""
        return np.asarray(self.expected_return[-1])

    def area(self) -> Float[np.ndarray, "K W"]:
        """The mean of each curve over the steps, by the trapezoidal rule."""
        return np.asarray(np.trapezoid(self.expected_return, self.steps, axis=0) / self.steps[-1])


CHUNKS, CHUNK_FILE = "chunks", r"\d{5,}\.safetensors"
WRITTEN = ("curves.csv", "worlds.csv", "summary.json", "verdicts.txt")
"""What a finished sweep writes as a whole, or not at all."""
ELSEWHERE = ("output", "resume", "workers", "on", "address", "slurm", "full")
"""Options that change no number."""


def settle(config: SweepConfig, device: torch.device) -> SweepConfig:
    """Replaces options that were left open by the values chosen, so that they can be saved."""
    return replace(
        config,
        full=False,
        worlds=config.num_worlds,
        learning_rate=config.rate,
        device=str(device),
        chunk=config.chunk or CHUNK[device.type],
    )


def fresh(config: SweepConfig) -> Path:
    """The folder of a new sweep that names none."""
    return Path("runs") / f"sweep-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def create(config: SweepConfig) -> Path:
    """Makes the folder of a settled sweep, or finds the one that a sweep with these options began.

    Raises:
        UsageError: the folder cannot be written, or holds something else.
    """
    folder = Path(config.output) if config.output else fresh(config)
    content = to_json(config)
    try:
        if _begun(folder, content):
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not _never_began(folder):
            raise UsageError(f"--output {folder} is not empty: choose another folder.")
        # Two sweeps that start together agree here on whose options the folder has.
        with FolderLock(folder):
            if not _begun(folder, content):
                (folder / CHUNKS).mkdir(exist_ok=True)
                write_json(folder / VERSIONS, versions())
                write_json(folder / CONFIG, content)
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise UsageError(
            f"--output {folder} cannot be written ({reason}): choose another folder."
        ) from error
    return folder


def _begun(folder: Path, content: Mapping[str, Any]) -> bool:
    """Whether a folder holds a sweep with these options.

    Raises:
        UsageError: it holds one with others.
    """
    if not (folder / CONFIG).is_file():
        return False
    if modern(json.loads(read_text(folder / CONFIG))) != content:
        raise UsageError(
            f"--output {folder} holds a sweep or run with other options: choose another folder, or "
            f"go on with it by --resume {quoted(folder)}."
        )
    return True


def _never_began(folder: Path) -> bool:
    """Whether a folder holds only what a sweep writes before its options, when it was killed."""
    entries = {path.name: path for path in folder.iterdir()}
    chunks = entries.pop(CHUNKS, None)
    return (
        LOCK in entries
        and (chunks is None or (chunks.is_dir() and not any(chunks.iterdir())))
        and all(name in (VERSIONS, *LOCK_FILES) or _leftover(name) for name in entries)
    )


def _leftover(name: str) -> bool:
    written = LEFTOVER.fullmatch(name)
    return written is not None and written[1] in (CONFIG, VERSIONS, HOLDER)


def clear(folder: Path) -> None:
    """Removes what killed processes left behind in a sweep's folder that this process holds."""
    remove_leftovers(folder / CHUNKS, lambda name: re.fullmatch(CHUNK_FILE, name) is not None)
    remove_leftovers(folder, lambda name: name in (CONFIG, VERSIONS, HOLDER) or name in WRITTEN)


def resumed(config: SweepConfig) -> SweepConfig:
    """Reads the options of the sweep that `--resume` names.

    Raises:
        UsageError: it is no sweep's folder, or other options were given as well.
    """
    folder = Path(config.resume)
    places: dict[str, Any] = {
        name: getattr(config, name) for name in ("workers", "on", "address", "slurm")
    }
    if config != SweepConfig(resume=config.resume, **places):
        raise UsageError(
            f"--resume {folder} takes its options from there: drop all others but --workers and "
            "--on."
        )
    try:
        content = modern(json.loads(read_text(folder / CONFIG)))
        begun = from_json(content)
        if to_json(begun) != content:
            raise ValueError("options are missing")
    except (OSError, RecursionError, ValueError) as error:
        raise UsageError(f"--resume {folder} is not a sweep's folder ({error}).") from error
    with naming(begun):
        return replace(begun, output=str(folder), **places)


def to_json(config: SweepConfig) -> dict[str, Any]:
    """All options that change a number, as JSON reads them back."""
    content = {name: value for name, value in asdict(config).items() if name not in ELSEWHERE}
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def modern(content: Any) -> Any:
    """Options as `to_json` writes them today, from those that an earlier version wrote."""
    world = content.get("world") if isinstance(content, dict) else None
    if not isinstance(world, dict) or "time_limit" not in world:
        return content
    renamed = {"max_episode_steps" if name == "time_limit" else name: world[name] for name in world}
    return {**content, "world": renamed}


def from_json(content: dict[str, Any]) -> SweepConfig:
    """Reads the options that `to_json` wrote.

    Raises:
        MisfitError: an option is unknown, or has a value that it cannot have.
    """
    return filled(SweepConfig, content, "")


def save(folder: Path, number: int, chunk: Chunk, config: SweepConfig | None = None) -> None:
    """Writes a chunk as a whole, or nothing if it is interrupted.

    Args:
        folder: of the sweep.
        number: of the chunk, from 0.
        chunk: its results.
        config: of the sweep, by which another sweep's chunk is told from this one's.
    """
    content = {} if config is None else _identity(number, config)
    save_tensors(_path(folder, number), vars(chunk), content)


def load(folder: Path, number: int, config: SweepConfig | None = None) -> Chunk | None:
    """Reads a chunk; None if it is not there, damaged or another one, and has to be computed.

    Args:
        folder: of the sweep.
        number: of the chunk, from 0.
        config: of the sweep; None takes any chunk, as it takes those of earlier versions.
    """
    try:
        tensors, content = load_tensors(_path(folder, number))
    except (OSError, DamagedFileError):
        return None
    if config is not None and content:
        content = {**content, "config": modern(content.get("config"))}
        if content != _identity(number, config):
            return None
    names = {field.name for field in fields(Chunk)}
    return Chunk(**tensors) if tensors.keys() == names else None


def _identity(number: int, config: SweepConfig) -> dict[str, Any]:
    return {"number": number, "config": to_json(config)}


def _path(folder: Path, number: int) -> Path:
    return folder / CHUNKS / f"{number:05d}.safetensors"

"""Teachers by name: those shipped with the code, and policies anywhere else.

A shipped teacher is a folder below `teachers/` and is named by its path there: `Breakout` is the
usual one for Breakout, `Breakout/weak` another.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from agents.teachers import (
    POLICY_FILE,
    NetworkTeacher,
    OtherActionsError,
    PolicyCard,
    Teacher,
    find_policy,
    load_policy,
    load_teacher,
)
from configs.errors import UsageError, nearest_first
from envs import EnvSpec
from envs.atari import games
from envs.names import canonical, nearest
from experiments.training.actions import has_own_actions, in_students_actions, is_among_all
from experiments.training.foreign import is_foreign, load_foreign
from experiments.training.hardware import Hardware

SHIPPED_TEACHERS = Path(__file__).resolve().parents[2] / "teachers"
SCORE_FILE = "evaluation.json"
"""In the folder of a shipped teacher: the score of its policy."""
DIGITS = 12
"""Of a file's SHA-256, as the table shows it."""


def shipped_names() -> tuple[str, ...]:
    """The names of all shipped teachers, in the order of the alphabet."""
    files = SHIPPED_TEACHERS.rglob(POLICY_FILE)
    return tuple(sorted(file.parent.relative_to(SHIPPED_TEACHERS).as_posix() for file in files))


def locate_policy(text: str) -> Path:
    """Finds the policy that a text means.

    Args:
        text: a policy's file, a run's folder, or the name of a shipped teacher, whatever its case.

    Returns:
        The file or folder; where there is no policy, the text as a path.
    """
    path = Path(text)
    if find_policy(path).is_file():
        return path
    name = canonical(text, shipped_names())
    return path if name is None else SHIPPED_TEACHERS / name


def shipped_for(env: str) -> Path | None:
    """The folder of the usual teacher of an environment; None where none is shipped."""
    folder = SHIPPED_TEACHERS / env
    return folder if (folder / POLICY_FILE).is_file() else None


def find_teacher(text: str, spec: EnvSpec, hardware: Hardware, own: Sequence[str] = ()) -> Teacher:
    """Loads a teacher, or the usual one that is shipped for the environment.

    Args:
        text: a run's folder, an exported policy, another library's file or a shipped teacher's
            name; empty for the usual one.
        spec: of the student's environment.
        hardware: what the teacher computes on.
        own: names of the teachers that the environment itself has, for the error message.

    Returns:
        The teacher.

    Raises:
        UsageError: there is none, or it does not fit; the message says how to get one.
    """
    path = locate_policy(text) if text else shipped_for(spec.name)
    if path is None:
        raise UsageError(
            f"--aux distill needs a teacher and none is shipped for {spec.name}: train one with "
            f"'python train.py --env {spec.name} --run-dir runs/teacher-{spec.name}' and give "
            f"--teacher runs/teacher-{spec.name}."
        )
    try:
        return in_students_actions(partial(_load, path, hardware), spec)
    except OtherActionsError as error:
        raise UsageError(
            f"--teacher {text or path}: {error}; {_fitting_teacher(error.card, spec)}."
        ) from error
    except ValueError as error:
        others = f" in the same worlds, or one of {', '.join(own)}" if own else ""
        raise UsageError(
            f"--teacher {text or path}: {error}{_likely(path)}; give a run or an exported policy "
            f"of {spec.name}{others}."
        ) from error


def _load(path: Path, hardware: Hardware, spec: EnvSpec) -> Teacher:
    """Loads a teacher that has the actions of `spec`, ours or another library's."""
    if not is_foreign(path):
        return load_teacher(path, spec, hardware.device, hardware.precision)
    agent, card, said = load_foreign(path, spec, hardware.device, hardware.precision)
    if hardware.processes.leads:
        print(f"The teacher {said}", flush=True)
    return NetworkTeacher(agent, card)


def _likely(path: Path) -> str:
    """The shipped teachers that may have been meant, where there is nothing at a path."""
    names = () if path.exists() else shipped_names()
    if not names:
        return ""
    wanted = path.as_posix()
    likely = nearest_first(wanted, nearest(wanted, names))
    return f", and no shipped teacher has this name (did you mean {likely}?)"


def _fitting_teacher(card: PolicyCard, spec: EnvSpec) -> str:
    """How to get a teacher that has the student's actions."""
    if is_among_all(card, spec):
        if card.core != "none":
            return "give a teacher without a recurrent core, or one that was trained with all 18"
        if "ale" not in games.installed_backends():
            return (
                "install ale-py, which tells which of the 18 actions it has (pip install "
                "'auxgate[atari]'), or give a teacher that was trained with all of them"
            )
    own = has_own_actions(card) and has_own_actions(spec)
    if card.env != spec.name and own and card.core == "none":
        return (
            "add --env.full-action-space, since a game's own actions are some of those 18, or "
            f"give a run or an exported policy of {spec.name}"
        )
    theirs, ours = (protocol.partition("+")[0] for protocol in (card.protocol, spec.protocol))
    if card.env != spec.name or theirs == ours:
        return f"give a run or an exported policy of {spec.name} with the same actions"
    folder = f"runs/teacher-{spec.name}-{ours}"
    return (
        f"play by its protocol (--protocol {theirs}), or train a teacher by yours ('python "
        f"train.py --env {spec.name} --protocol {ours} --run-dir {folder}') and give --teacher "
        f"{folder}"
    )


HEADINGS = ("teacher", "environment", "mean score (95 % interval)", "agent steps", "size", "sha256")


def teacher_table() -> str:
    """Lists the shipped teachers: environment, score with its interval, steps, size and digest."""
    rows = [HEADINGS, *map(_row, shipped_names())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _row(name: str) -> tuple[str, ...]:
    folder = SHIPPED_TEACHERS / name
    file = folder / POLICY_FILE
    _, card = load_policy(file, torch.device("cpu"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    size = f"{file.stat().st_size / 2**20:.1f} MiB"
    return name, card.env, _score(folder), f"{card.steps:,}", size, digest[:DIGITS]


def _score(folder: Path) -> str:
    """The score of a shipped teacher's policy, as `evaluate.py` wrote it; a dash without one."""
    file = folder / SCORE_FILE
    if not file.is_file():
        return "-"
    found = json.loads(file.read_text(encoding="utf-8"))
    low, high = found["interval_95"]
    return f"{found['mean']:.4g} ({low:.4g} to {high:.4g})"

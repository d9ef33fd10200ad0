"""The teacher that a run asks for, or how to get one."""

from collections.abc import Sequence
from pathlib import Path

from agents.teacher import OtherActionsError, PolicyCard, Teacher, load_teacher
from configs.errors import UsageError
from configs.hardware import Hardware
from envs import EnvSpec

SHIPPED_TEACHERS = Path(__file__).resolve().parent.parent / "teachers"


def find_teacher(path: str, spec: EnvSpec, hardware: Hardware, own: Sequence[str] = ()) -> Teacher:
    """Loads the teacher at `path`, or the one shipped for an environment without its own.

    Raises:
        UsageError: there is none, or it does not fit; says how to get one.
    """
    shipped = SHIPPED_TEACHERS / spec.name
    if not path and not shipped.is_dir():
        raise UsageError(
            f"--aux distill needs a teacher and none is shipped for {spec.name}: train one with "
            f"'python train.py --env {spec.name} --run-dir runs/teacher-{spec.name}' and give "
            f"--teacher runs/teacher-{spec.name}."
        )
    try:
        return load_teacher(
            Path(path) if path else shipped, spec, hardware.device, hardware.precision
        )
    except OtherActionsError as error:
        raise UsageError(f"--teacher: {error}; {_fitting_teacher(error.card, spec)}.") from error
    except ValueError as error:
        others = f" in the same worlds, or one of {', '.join(own)}" if own else ""
        raise UsageError(
            f"--teacher: {error}; give a run or an exported policy of {spec.name}{others}."
        ) from error


def _fitting_teacher(card: PolicyCard, spec: EnvSpec) -> str:
    """How to get a teacher that has the student's actions."""
    theirs, ours = (protocol.partition("+")[0] for protocol in (card.protocol, spec.protocol))
    if card.env != spec.name or theirs == ours:
        return f"give a run or an exported policy of {spec.name} with the same actions"
    folder = f"runs/teacher-{spec.name}-{ours}"
    return (
        f"play by its protocol (--protocol {theirs}), or train a teacher by yours ('python "
        f"train.py --env {spec.name} --protocol {ours} --run-dir {folder}') and give --teacher "
        f"{folder}"
    )

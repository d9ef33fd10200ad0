"""Teachers that have some of their student's actions: a game's own among the console's 18."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agents.teachers import OtherActionsError, PolicyCard, Teacher
from agents.trajectory import Trajectory
from envs import EnvSpec
from envs.atari.games import FULL_ACTIONS, FULL_SET, action_names, minimal_set

NEVER = -1e9
"""The logit of an action that a teacher does not have: finite, and its probability is 0."""


class PartialTeacher(Teacher):
    """A teacher in the actions of its student; it never takes those that it lacks."""

    order: Int[Tensor, " A"]

    def __init__(self, teacher: Teacher, places: Sequence[int], num_actions: int) -> None:
        """Wraps a teacher without memory.

        Args:
            teacher: has other actions than its student.
            places: of its actions among the student's.
            num_actions: A, of the student.
        """
        super().__init__()
        self.teacher = teacher
        self.digest = teacher.digest
        order = torch.full((num_actions,), len(places))  # the place of NEVER
        order[list(places)] = torch.arange(len(places))
        self.register_buffer("order", order, persistent=False)

    def forward(self, trajectory: Trajectory) -> Float[Tensor, "T B A"]:
        """Puts the teacher's logits into the places of its actions."""
        logits = self.teacher(trajectory)
        never = torch.full_like(logits[..., :1], NEVER)
        return torch.cat([logits, never], -1).index_select(-1, self.order)


def has_own_actions(played: PolicyCard | EnvSpec) -> bool:
    """Whether a policy or a student plays an Atari game's own actions, fewer than 18."""
    name = played.env if isinstance(played, PolicyCard) else played.name
    return played.action_set == minimal_set(name, played.num_actions)


def is_among_all(card: PolicyCard, spec: EnvSpec) -> bool:
    """Whether a policy plays an Atari game's own actions, and its student has all 18."""
    return has_own_actions(card) and spec.action_set == FULL_SET


def in_students_actions(load: Callable[[EnvSpec], Teacher], spec: EnvSpec) -> Teacher:
    """Loads a teacher, also one that has only some of the student's actions.

    Args:
        load: of a teacher for an environment, such as `load_teacher`.
        spec: of the student's environment.

    Raises:
        OtherActionsError: the teacher has other actions, which cannot be found among the student's.
        ValueError: as `load` raises it.
    """
    try:
        return load(spec)
    except OtherActionsError as error:
        card = error.card
        names = action_names(card.env, card.num_actions) if is_among_all(card, spec) else ()
        if not names or card.core != "none":  # a core hears what was done, in its own actions
            raise
    teacher = load(replace(spec, action_set=card.action_set, num_actions=card.num_actions))
    places = [FULL_ACTIONS.index(name) for name in names]
    device = next(teacher.parameters()).device
    return PartialTeacher(teacher, places, spec.num_actions).to(device)

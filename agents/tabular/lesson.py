"""`Lesson`: students of several arms learn side by side, each arm through a gate of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from agents.gates import Gate
from agents.tabular.signals import Signal, gradients
from agents.tabular.students import Students


@dataclass(frozen=True)
class Arm:
    """Consecutive students whose gradients one gate judges, each student's apart."""

    students: int
    """How many."""
    gate: Gate | None
    """None: they learn by their main loss alone."""


class Lesson:
    """Plain gradient descent along what the gates let through."""

    def __init__(
        self,
        students: Students,
        arms: Sequence[Arm],
        signal: Callable[[], Signal],
        learning_rate: float,
    ) -> None:
        """Prepares the lesson.

        Args:
            students: of all arms, in the arms' order.
            arms: who is judged by which gate.
            signal: gives what an update rests on: a `Practice`'s signal, or the exact one.
            learning_rate: of all students.
        """
        assert sum(arm.students for arm in arms) == len(students), "every student has an arm"
        self.students = students
        self._arms, self._signal, self._learning_rate = arms, signal, learning_rate
        self._cosine = torch.zeros(len(students), device=students.logits.device)
        self._weight = torch.zeros_like(self._cosine)
        self._updates = 0

    def update(self) -> None:
        """Takes one step with every student."""
        rows = gradients(self.students, self._signal())
        direction = rows[:, 0].clone()
        first = 0
        for arm in self._arms:
            mine = slice(first, first + arm.students)
            first = mine.stop
            if arm.gate is None:
                continue
            judgement = arm.gate.judge(rows[mine])
            direction[mine] = judgement.direction
            self._cosine[mine] += judgement.gramian.cosine[:, 0, 0, 1]
            self._weight[mine] += judgement.weights[:, 0, 1]
        self.students.descend(direction, self._learning_rate)
        self._updates += 1

    def drain(self) -> tuple[Float32[Tensor, " S"], Float32[Tensor, " S"]]:
        """Returns each student's mean cosine and weight since the last call; 0 without a gate."""
        cosine, weight = self._cosine / self._updates, self._weight / self._updates
        self._cosine.zero_()
        self._weight.zero_()
        self._updates = 0
        return cosine, weight

"""`Lesson`: students of several arms learn side by side, each arm through a gate of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from agents.gates import Gate
from agents.tabular.students import Students
from gridworld import NUM_ACTIONS, action_values, evaluate


@dataclass(frozen=True)
class Signal:
    """What an update rests on, summed over its steps or in expectation."""

    credit: Float[Tensor, "S A O"]
    """psi: the advantages of what was done, by action and observation."""
    visits: Float[Tensor, "S cells"]
    """n: how often an action was taken on each cell."""


def gradients(students: Students, signal: Signal) -> Float[Tensor, "S 2 P"]:
    """Returns each student's gradients: row 0 of the main loss, row 1 of the auxiliary one.

    With advantages psi and visits n, sums over the cells s that look like o:

        main:       -sum_s [psi(s, a) - pi(a|o) sum_b psi(s, b)]
        auxiliary:   sum_s n(s) [pi(a|o) - teacher(a|s)]

    The first is the policy gradient of a softmax table.  The second is that of the
    cross-entropy H(teacher || pi) on the states that the student visits, which are held
    fixed: on-policy distillation.  It is not the gradient of any loss (Czarnecki et al.
    2019, https://arxiv.org/abs/1902.02186, Theorem 1); a gate does not require that it is
    (Du et al. 2018, https://arxiv.org/abs/1812.02224, Proposition 1).
    """
    policy = students.policy()
    taught = signal.visits[:, None] * students.teacher
    wanted = by_observation(students, taught)  # [S, A, O]
    # A teacher's probabilities sum to 1, so its wishes sum to the visits.
    rows = torch.stack(
        [
            torch.addcmul(-signal.credit, policy, signal.credit.sum(1, keepdim=True)),
            torch.addcmul(-wanted, policy, wanted.sum(1, keepdim=True)),
        ],
        dim=1,
    )
    return rows.flatten(2)


def by_observation(students: Students, table: Float[Tensor, "S A cells"]) -> Float[Tensor, "S A O"]:
    """Sums a table over the cells that look alike."""
    seen = students.worlds.observation.index_select(0, students.world)
    entry = seen[:, None].expand(-1, NUM_ACTIONS, -1)
    total = table.new_zeros(*table.shape[:2], students.num_observations)
    return total.scatter_add_(2, entry, table)


def exact_signal(students: Students) -> Signal:
    """Solves for the expected signal of every student's current policy, which has no noise.

    By the policy gradient theorem (Sutton, McAllester, Singh, Mansour 2000), with d the
    discounted visits of an episode and Q the exact values of actions,

        psi(s, a) = d(s) pi(a|s) (Q(s, a) - V(s)),    n(s) = d(s)

    give minus the gradient of the expected discounted return, and the auxiliary field on
    the same distribution of states.  Time limits are ignored.
    """
    discount = students.worlds.config.discount
    policy = students.cell_policy()
    solved = evaluate(students.worlds, policy, discount, students.world)
    ahead = action_values(students.worlds.select(students.world), solved.value, discount)
    advantage = policy * (ahead - solved.value[:, :, None])
    credit = (solved.visitation[:, :, None] * advantage).float()
    return Signal(
        credit=by_observation(students, credit.transpose(1, 2)),
        visits=solved.visitation.float(),
    )


@dataclass(frozen=True)
class GateGroup:
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
        arms: Sequence[GateGroup],
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

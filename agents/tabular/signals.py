"""From what was experienced to the gradients of both losses.

With advantages psi and visits n, sums over the cells s that look like o:

    main:       -sum_s [psi(s, a) - pi(a|o) sum_b psi(s, b)]
    auxiliary:   sum_s n(s) [pi(a|o) - teacher(a|s)]

The first is the policy gradient of a softmax table.  The second is that of the
cross-entropy with the teacher, H(teacher || pi), on states as the student visits them,
held fixed: "on-policy distillation", which is no gradient of any loss (Czarnecki et
al. 2019, https://arxiv.org/abs/1902.02186, Theorem 1), nor need it be behind a gate
(Du et al. 2018, https://arxiv.org/abs/1812.02224, Proposition 1).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.tabular.students import Students
from gridworld import NUM_ACTIONS


@dataclass(frozen=True)
class Signal:
    """What an update rests on, summed over its steps or in expectation."""

    credit: Float[Tensor, "S A O"]
    """psi: the advantages of what was done, by action and observation."""
    visits: Float[Tensor, "S cells"]
    """n: how often an action was taken on each cell."""


def gradients(students: Students, signal: Signal) -> Float[Tensor, "S 2 P"]:
    """Returns each student's gradients: row 0 of the main loss, row 1 of the auxiliary one."""
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

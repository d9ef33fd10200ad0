"""Losses of policy distillation on the student's own states, per step.

Czarnecki et al. 2019, "Distilling Policy Distillation" (arXiv 1902.02186), Table 1, writes
them all as descent along

    E_{pi} [ sum_t grad l(x_t) - R_t grad log pi(a_t | x_t) ],    R_t = sum_{i >= t} r_i

with pi the student and R_t a constant.  H(p, q) = -sum_a p(a) log q(a).

| name             | l           | r_i                      | descends the function           |
|------------------|-------------|--------------------------|---------------------------------|
| student          | H(pi_T, pi) | 0                        | none ("on-policy distill")      |
| n_distill        | H(pi_T, pi) | -H(pi_T, pi) at x_{i+1}  | E_pi sum_t H(pi_T, pi)          |
| expected_entropy | H(pi, pi_T) | log pi_T(a_{i+1})        | E_pi sum_t -log pi_T(a_t)       |
| entropy          | 0           | log pi_T(a_i)            | E_pi sum_t -log pi_T(a_t)       |

Departures: the sums end with the trajectory as they end with the episode, since no critic
estimates the rest; they have no baseline and are not discounted.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from agents.algorithms import log_probability
from agents.trajectory import Trajectory

DistillLoss = Literal["student", "n_distill", "expected_entropy", "entropy"]


def cross_entropy(
    policy: Float[Tensor, "T B A"], log_other: Float[Tensor, "T B A"]
) -> Float[Tensor, "T B"]:
    """Returns -sum_a p(a) log q(a), in nats."""
    return -(policy * log_other).sum(-1)


def distill_loss(
    name: DistillLoss,
    teacher: Float[Tensor, "T B A"],
    student: Float[Tensor, "T B A"],
    trajectory: Trajectory,
) -> Float[Tensor, "T B"]:
    """Returns the loss of every step; where R_t is not 0, only its gradient has a meaning.

    Args:
        name: a line of the table above.
        teacher: its probabilities; `log pi_T` clamps them to the dtype's smallest number.
        student: its log-probabilities, with their gradient.
        trajectory: the student's.
    """
    if name == "student":
        return cross_entropy(teacher, student)
    chosen = log_probability(student, trajectory.action)
    if name == "n_distill":
        forward = cross_entropy(teacher, student)
        return forward + chosen * after(forward.detach(), trajectory)
    # A cold teacher's probabilities underflow to 0, whose logarithm would turn 0 x log 0 into NaN.
    log_teacher = teacher.clamp(min=torch.finfo(teacher.dtype).tiny).log()
    praise = log_teacher.gather(-1, trajectory.action.unsqueeze(-1)).squeeze(-1)
    if name == "expected_entropy":
        return cross_entropy(student.exp(), log_teacher) - chosen * after(praise, trajectory)
    return -chosen * (praise + after(praise, trajectory))


def after(value: Float[Tensor, "T B"], trajectory: Trajectory) -> Float[Tensor, "T B"]:
    """Returns the sum of `value` over the later steps of the episode within the trajectory."""
    goes_on = ~(trajectory.terminated | trajectory.truncated)
    result = torch.zeros_like(value)
    for t in reversed(range(len(value) - 1)):
        result[t] = torch.where(goes_on[t], value[t + 1] + result[t + 1], 0.0)
    return result

"""Tabular students, and the `Lesson` in which students of several gates learn together.

`Students` are S softmax policies as tables over observations, each in one world. In a `Lesson`
groups of them learn at the same time, each group through its gate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from agents.gates import Gate
from agents.statistics import certainty
from gridworld import NUM_ACTIONS, Worlds, action_values, cell_policy, evaluate


@dataclass(frozen=True)
class Students:
    """S students side by side; their tables change in place.

    `O` is the largest number of observations of any world.  Actions come before
    observations, so that what is done to each action is done to long rows of memory.
    """

    worlds: Worlds
    world: Int64[Tensor, " S"]
    """The world of each."""
    teacher: Float32[Tensor, "S A cells"]
    """What each one's teacher does on each cell: unlike its student it sees where it is."""
    logits: Float32[Tensor, "S A O"]
    """The policies, before the softmax."""
    value: Float32[Tensor, "S O"]
    """The critics, which see what the policies see."""

    @staticmethod
    def fresh(
        worlds: Worlds, world: Int64[Tensor, " S"], teacher: Float[Tensor, "S cells A"]
    ) -> "Students":
        """Makes students that know nothing: uniform policies, values of zero.

        Args:
            worlds: the pool.
            world: the number of each student's world in the pool.
            teacher: the policy of each student's teacher.
        """
        # Before any update: the one wait for the device.
        observations = int(worlds.num_observations.amax())
        shape = (len(world), NUM_ACTIONS, observations)
        return Students(
            worlds=worlds,
            world=world,
            teacher=teacher.float().transpose(1, 2).contiguous(),
            logits=torch.zeros(shape, device=worlds.device),
            value=torch.zeros(shape[0], observations, device=worlds.device),
        )

    def __len__(self) -> int:
        return len(self.world)

    @property
    def num_observations(self) -> int:
        """O, the rows of every student's tables."""
        return self.value.shape[1]

    @property
    def num_parameters(self) -> int:
        """P, the entries of one policy."""
        return NUM_ACTIONS * self.num_observations

    def policy(self) -> Float32[Tensor, "S A O"]:
        """Returns the probabilities of actions at each observation."""
        return self.logits.softmax(1)

    def descend(self, direction: Float[Tensor, "S P"], learning_rate: float) -> None:
        """Moves every policy against its direction."""
        self.logits.sub_(direction.view_as(self.logits), alpha=learning_rate)

    def cell_policy(self) -> Float32[Tensor, "S cells A"]:
        """Returns the probabilities of actions on each cell, as the exact solvers want them."""
        policy = self.policy().transpose(1, 2).contiguous()
        return cell_policy(self.worlds, policy, self.world)

    def expected_return(self) -> Float64[Tensor, " S"]:
        """Solves for the exact expected return of every student, at its worlds' discount."""
        policy, discount = self.cell_policy(), self.worlds.config.discount
        return evaluate(self.worlds, policy, discount, self.world).expected_return


@dataclass(frozen=True)
class Signal:
    """What an update rests on, summed over its steps or in expectation."""

    credit: Float[Tensor, "S A O"]
    """psi: the advantages of what was done, by action and observation."""
    visits: Float[Tensor, "S cells"]
    """n: how often an action was taken on each cell."""
    mean_return: Float[Tensor, " S"] | None = None
    """Discounted, of the latest episodes."""
    return_variance: Float[Tensor, " S"] | None = None
    """The squared standard error of that mean."""

    def select(self, students: slice) -> "Signal":
        """What the updates of some students rest on."""
        return Signal(
            *(None if part is None else part[students] for part in vars(self).values())  # type: ignore[arg-type]
        )


def wanted(students: Students, signal: Signal) -> Float[Tensor, "S A O"]:
    """Returns how often each one's teacher would have taken each action, by observation."""
    return by_observation(students, signal.visits[:, None] * students.teacher)


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
    taught = wanted(students, signal)  # [S, A, O]
    # A teacher's probabilities sum to 1, so its wishes sum to the visits.
    rows = torch.stack(
        [
            torch.addcmul(-signal.credit, policy, signal.credit.sum(1, keepdim=True)),
            torch.addcmul(-taught, policy, taught.sum(1, keepdim=True)),
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
        mean_return=solved.expected_return.float(),
        return_variance=torch.zeros(len(students), device=credit.device),
    )


MEMORY = 0.9
"""Share of the past that a teacher's estimated advantage keeps at each update."""
ENOUGH = 0.2
"""The teacher's advantage, in units of reward, at which its lesson counts in full."""
LARGEST_RATIO = 20.0
"""Bound of the ratio of the teacher's to the student's probability of an action."""


class TeacherAdvantage:
    """Estimates how much better each teacher's actions are than its student's, by observation.

        u(o) = sum_a psi(o, a) q(a|o) / pi(a|o) / n(o),    q(a|o) = sum_s n(s) teacher(a|s) / n(o)

    with sums of advantages psi and visits n that forget (`MEMORY`).  As `--aux.distill.where
    advantage` does for a network, the auxiliary gradient of an observation counts by u / ENOUGH,
    at least 0 and at most 1.
    """

    def __init__(self) -> None:
        self._gained: Tensor | None = None
        self._visits: Tensor | None = None

    def weights(
        self,
        policy: Float[Tensor, "S A O"],
        signal: Signal,
        taught: Float[Tensor, "S A O"],
    ) -> Float[Tensor, "S O"]:
        """Takes in one update's signal and returns the weight of every observation.

        Args:
            policy: of the students.
            signal: of the students.
            taught: how often the teachers would have taken each action.
        """
        visits = taught.sum(1)
        ratio = (taught / visits.unsqueeze(1) / policy).nan_to_num(0.0).clamp(max=LARGEST_RATIO)
        gained = (signal.credit * ratio).sum(1)
        if self._gained is not None and self._visits is not None:
            gained, visits = MEMORY * self._gained + gained, MEMORY * self._visits + visits
        self._gained, self._visits = gained, visits
        return (gained / visits / ENOUGH).nan_to_num(0.0).clamp(0.0, 1.0)


class TeacherLead:
    """How far each teacher is known to earn more than its student, as `heads.components.trust`.

    The teacher's return is the exact one, which a trial of many episodes would find; the
    student's mean is that of its latest episodes.
    """

    def __init__(self, standard: Float[Tensor, " S"]) -> None:
        """Takes the teachers' expected discounted returns."""
        self._standard = standard

    def weights(
        self, policy: Float[Tensor, "S A O"], signal: Signal, taught: Float[Tensor, "S A O"]
    ) -> Float[Tensor, "S O"]:
        """Returns the weights, the same for every observation of a student.

        Args:
            policy: of the students.
            signal: of the students.
            taught: not asked.
        """
        assert signal.mean_return is not None
        assert signal.return_variance is not None
        lead = self._standard - signal.mean_return
        weight = certainty(lead, signal.return_variance)
        return weight.unsqueeze(1).expand(-1, policy.shape[2])


@dataclass(frozen=True)
class GateGroup:
    """Consecutive students whose gradients one gate judges, each student's apart."""

    students: int
    """How many students the group has."""
    gate: Gate | None
    """None: they learn by their main loss alone."""
    trust: TeacherAdvantage | TeacherLead | None = None
    """Weighs the auxiliary gradient of each observation before the gate; None: all count alike."""


class Lesson:
    """Gradient descent for several groups of students, each along the direction of its gate."""

    def __init__(
        self,
        students: Students,
        arms: Sequence[GateGroup],
        signal: Callable[[], Signal],
        learning_rate: float,
    ) -> None:
        """Keeps its arguments and starts the means of `drain` at zero.

        Args:
            students: of all arms, in the arms' order.
            arms: the gate of each group of students.
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
        signal = self._signal()
        rows = gradients(self.students, signal)
        if any(arm.trust is not None for arm in self._arms):
            policy, taught = self.students.policy(), wanted(self.students, signal)
        direction = rows[:, 0].clone()
        first = 0
        for arm in self._arms:
            mine = slice(first, first + arm.students)
            first = mine.stop
            if arm.gate is None:
                continue
            if arm.trust is not None:
                weights = arm.trust.weights(policy[mine], signal.select(mine), taught[mine])
                # A view: rows are not used again.
                rows[mine, 1].view_as(policy[mine]).mul_(weights.unsqueeze(1))
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

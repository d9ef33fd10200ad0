"""The same signal in expectation, by linear solves: no noise is left for a gate to judge.

By the policy gradient theorem (Sutton, McAllester, Singh, Mansour 2000), with d the
discounted visits of an episode and Q the exact values of actions,

    psi(s, a) = d(s) pi(a|s) (Q(s, a) - V(s)),    n(s) = d(s)

give minus the gradient of the expected discounted return itself, and the auxiliary field
on the very same distribution of states.
"""

from agents.tabular.signals import Signal, by_observation
from agents.tabular.students import Students
from gridworld import action_values, evaluate


def exact_signal(students: Students) -> Signal:
    """Solves for the signal of every student's current policy; time limits are ignored."""
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

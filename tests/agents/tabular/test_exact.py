from dataclasses import replace

import pytest
import torch

from agents.gates import make
from agents.tabular import GateGroup, Lesson, exact_signal, gradients
from gridworld import evaluate


@pytest.mark.parametrize("radius", [0, 1])
def test_the_main_gradient_is_that_of_the_exact_return(build_students, radius):
    students = build_students(view_radius=radius)
    found = gradients(students, exact_signal(students))[:, 0]
    step = 1e-2
    for number in range(students.num_parameters):
        nudge = torch.zeros(3, students.num_parameters)
        nudge[:, number] = step
        students.descend(nudge, -1.0)
        above = students.expected_return()
        students.descend(nudge, 2.0)
        below = students.expected_return()
        students.descend(nudge, -1.0)
        # The loss is minus the return; central differences err by step**2.
        slope = -((above - below) / (2 * step)).float()
        torch.testing.assert_close(found[:, number], slope, atol=1e-3, rtol=1e-3)


def test_visits_are_discounted_and_on_the_students_own_cells(build_students):
    students = build_students()
    visits = exact_signal(students).visits
    policy = students.cell_policy()
    wanted = evaluate(students.worlds, policy, 0.99, students.world).visitation
    torch.testing.assert_close(visits, wanted.float())
    # Nobody acts on walls and terminal cells.
    idle = (students.worlds.wall | students.worlds.terminal)[students.world]
    assert (visits[idle] == 0).all()


@pytest.fixture
def misled(build_students):
    """Students whose teachers do nearly the opposite of what is best, where little is to be won."""
    students = build_students(terminal_rewards=(1.0, 0.5, -0.5, -1.0), penalty=-0.1)
    policy = students.cell_policy()
    signal = exact_signal(replace(students, logits=torch.zeros_like(students.logits)))
    worst = signal.credit.argmin(1)
    seen = students.worlds.observation[students.world]
    teacher = torch.full_like(policy, 0.01)
    teacher.scatter_(2, worst.gather(1, seen)[:, :, None], 0.97)
    return replace(students, teacher=teacher.transpose(1, 2).contiguous())


def learn(students, gate, updates=60):
    learner = replace(students, logits=torch.zeros_like(students.logits))
    lesson = Lesson(
        learner,
        [GateGroup(len(students), make(gate))],
        lambda: exact_signal(learner),
        learning_rate=0.05,
    )
    returns = [learner.expected_return()]
    for _ in range(updates):
        lesson.update()
        returns.append(learner.expected_return())
    return torch.stack(returns)


@pytest.mark.parametrize("gate", ["cosine", "cosine_unweighted", "projection"])
def test_without_noise_no_gate_lets_a_bad_teacher_lower_the_return(misled, gate):
    # Propositions 1 and 3 of Du et al., with small steps of plain gradient descent.
    returns = learn(misled, gate)
    assert (returns.diff(dim=0) > 0).all()


def test_without_a_gate_a_bad_teacher_lowers_the_return(misled):
    returns = learn(misled, "sum")
    assert (returns[-1] < returns[0]).all()

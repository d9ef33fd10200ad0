import pytest
import torch

from agents.tabular import Signal, gradients
from agents.tabular.students import by_observation


@pytest.fixture
def students(build_students):
    return build_students(view_radius=0)


@pytest.fixture
def signal(students):
    torch.manual_seed(1)
    credit = torch.randn(3, 4, students.num_observations)
    return Signal(credit=credit, visits=torch.rand(3, 30))


def test_the_main_gradient_is_that_of_the_log_likelihood_weighed_by_advantages(students, signal):
    logits = students.logits.clone().requires_grad_()
    (-(signal.credit * logits.log_softmax(1)).sum()).backward()
    torch.testing.assert_close(gradients(students, signal)[:, 0], logits.grad.flatten(1))


def test_the_auxiliary_gradient_is_that_of_the_cross_entropy_with_the_teacher(students, signal):
    logits = students.logits.clone().requires_grad_()
    loss = torch.zeros(())
    for student, world in enumerate(students.world.tolist()):
        for cell, seen in enumerate(students.worlds.observation[world].tolist()):
            log_policy = logits[student, :, seen].log_softmax(0)
            cross_entropy = -(students.teacher[student, :, cell] * log_policy).sum()
            loss = loss + signal.visits[student, cell] * cross_entropy
    loss.backward()
    torch.testing.assert_close(gradients(students, signal)[:, 1], logits.grad.flatten(1))


def test_cells_that_look_alike_are_summed(students):
    table = torch.randn(3, 4, 30)
    wanted = torch.zeros(3, 4, students.num_observations)
    for student, world in enumerate(students.world.tolist()):
        for cell, seen in enumerate(students.worlds.observation[world].tolist()):
            wanted[student, :, seen] += table[student, :, cell]
    torch.testing.assert_close(by_observation(students, table), wanted)


def test_a_student_that_agrees_with_its_teacher_feels_no_auxiliary_gradient(build_students):
    students = build_students(view_radius=4)
    students.teacher.copy_(students.cell_policy().transpose(1, 2))
    signal = Signal(credit=torch.zeros_like(students.logits), visits=torch.rand(3, 30))
    torch.testing.assert_close(
        gradients(students, signal)[:, 1],
        torch.zeros(3, students.num_parameters),
        atol=1e-6,
        rtol=0,
    )

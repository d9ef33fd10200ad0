from dataclasses import replace

import pytest
import torch

from agents.gates import make
from agents.tabular import GateGroup, Lesson, Signal, TeacherAdvantage, gradients


@pytest.fixture
def students(build_students):
    return build_students(world=(1, 0, 1, 0, 0))


@pytest.fixture
def signal(students):
    credit = torch.randn(5, 4, students.num_observations)
    return Signal(credit=credit, visits=torch.rand(5, 30))


def taught(students, arms, signal):
    """What one update makes of the logits, and the lesson."""
    learner = replace(students, logits=students.logits.clone())
    lesson = Lesson(learner, arms, lambda: signal, learning_rate=0.5)
    lesson.update()
    return learner.logits, lesson


def test_each_arm_is_judged_by_its_own_gate_and_each_student_apart(students, signal):
    arms = [GateGroup(1, None), GateGroup(2, make("sum")), GateGroup(2, make("cosine"))]
    found, _ = taught(students, arms, signal)
    rows = gradients(students, signal)
    cosine = torch.nn.functional.cosine_similarity(rows[:, 0], rows[:, 1])
    # Main-only 0, sum 1, the cosine gate max(0, cos).
    weight = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0])
    weight[3:] = cosine[3:].clamp(min=0)
    direction = rows[:, 0] + weight[:, None] * rows[:, 1]
    wanted = students.logits - 0.5 * direction.reshape(students.logits.shape)
    torch.testing.assert_close(found, wanted)


def test_cosines_and_weights_are_means_since_the_last_look(students, signal):
    arms = [GateGroup(2, None), GateGroup(3, make("cosine_unweighted"))]
    _, lesson = taught(students, arms, signal)
    rows = gradients(students, signal)
    first = torch.nn.functional.cosine_similarity(rows[:, 0], rows[:, 1])
    rows = gradients(lesson.students, signal)
    second = torch.nn.functional.cosine_similarity(rows[:, 0], rows[:, 1])
    lesson.update()
    cosine, weight = lesson.drain()
    assert (cosine[:2] == 0).all()
    assert (weight[:2] == 0).all()
    torch.testing.assert_close(cosine[2:], ((first + second) / 2)[2:])
    torch.testing.assert_close(weight[2:], (((first > 0).float() + (second > 0)) / 2)[2:])
    lesson.update()
    assert not torch.equal(lesson.drain()[0], cosine)


def test_a_gate_with_memory_remembers_every_student_apart(students, signal):
    arms = [GateGroup(5, make("projection", decay=0.9))]
    together, _ = taught(students, arms, signal)
    for number in range(5):
        one = replace(
            students,
            world=students.world[number : number + 1],
            teacher=students.teacher[number : number + 1],
            logits=students.logits[number : number + 1],
            value=students.value[number : number + 1],
        )
        own = Signal(signal.credit[number : number + 1], signal.visits[number : number + 1])
        alone, _ = taught(one, [GateGroup(1, make("projection", decay=0.9))], own)
        torch.testing.assert_close(alone[0], together[number])


def test_a_lesson_counts_as_far_as_the_teachers_actions_gain_more_and_the_estimate_forgets():
    # One observation with two visits, where the teacher always takes action 1 and the student
    # takes every action with probability 1/4; another one without any visit.
    policy = torch.full((1, 4, 2), 0.25)
    taught = torch.zeros(1, 4, 2)
    taught[0, 1, 0] = 2.0
    gain, loss, none = torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.zeros(1, 2)
    gain[0, 1, 0], loss[0, 1, 0] = 0.05, -0.1
    advantage = TeacherAdvantage()
    # 0.05 * (1 / 0.25) / 2 visits = 0.1, half of what counts in full.
    torch.testing.assert_close(
        advantage.weights(policy, Signal(gain, none), taught), torch.tensor([[0.5, 0.0]])
    )
    # 0.9 * 0.2 - 0.4 < 0: the teacher's actions have become worse.
    assert advantage.weights(policy, Signal(loss, none), taught)[0, 0] == 0


def test_a_group_with_an_estimate_does_not_follow_before_it_is_known_to_help(students, signal):
    none = Signal(torch.zeros_like(signal.credit), signal.visits)
    arms = [GateGroup(2, make("sum"), TeacherAdvantage()), GateGroup(3, make("sum"))]
    found, _ = taught(students, arms, none)
    torch.testing.assert_close(found[:2], students.logits[:2])
    assert not torch.equal(found[2:], students.logits[2:])

from math import log

import pytest
import torch
from torch.testing import assert_close

from agents.heads.components.imitation import after, cross_entropy, distill_loss

T, B, A = 3, 2, 4

OTHERS = ("n_distill", "expected_entropy", "entropy")


@pytest.fixture
def policies():
    """A teacher's probabilities and a student's logits, both without zeros."""
    generator = torch.Generator().manual_seed(3)
    teacher, student = torch.randn(2, T, B, A, generator=generator, dtype=torch.float64).unbind()
    return teacher.softmax(-1), student.requires_grad_()


def enumerate_paths(length):
    """All sequences of actions."""
    return torch.cartesian_prod(*[torch.arange(A)] * length).tolist()


def expected(per_step, student, length):
    """E over the student's action sequences of sum_t per_step(t, a_t), by brute force.

    The states do not depend on the actions here, so each sequence's probability is a product.
    """
    policy = student[:length, 0].softmax(-1)
    total = torch.zeros((), dtype=torch.float64)
    for path in enumerate_paths(length):
        probability = torch.stack([policy[t, a] for t, a in enumerate(path)]).prod()
        total = total + probability * sum(per_step(t, a) for t, a in enumerate(path))
    return total


def estimated(name, teacher, student, build_trajectory):
    """The mean, over all action sequences, of the gradient of the summed loss."""
    base = build_trajectory()
    policy = student.detach()[:, 0].softmax(-1)
    total = torch.zeros_like(student[:, 0])
    for path in enumerate_paths(T):
        base.action[:, 0] = torch.tensor(path)
        loss = distill_loss(name, teacher, student.log_softmax(-1), base)[:, 0].sum()
        (gradient,) = torch.autograd.grad(loss, student)
        probability = torch.stack([policy[t, a] for t, a in enumerate(path)]).prod()
        total += probability * gradient[:, 0]
    return total


def test_the_cross_entropy_is_in_nats():
    p = torch.tensor([[[0.5, 0.5, 0.0, 0.0]]])
    log_q = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
    # 1/2 log 2 + 1/2 log 4.
    assert_close(cross_entropy(p, log_q), torch.tensor([[1.5 * log(2.0)]]))


def test_what_comes_after_is_summed_within_the_episode_and_the_trajectory(build_trajectory):
    value = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    # Environment 0 ends at step 1: after step 0 comes 2; environment 1 goes on: 20 + 40, 40, 0.
    trajectory = build_trajectory(terminated=[(1, 0)])
    expected = [[2.0, 60.0], [0.0, 40.0], [0.0, 0.0]]
    assert after(value, trajectory).tolist() == expected
    cut = build_trajectory(truncated=[(1, 0)])
    assert after(value, cut).tolist() == expected


def test_the_students_loss_is_the_cross_entropy(policies, build_trajectory):
    teacher, student = policies
    log_student = student.log_softmax(-1)
    loss = distill_loss("student", teacher, log_student, build_trajectory())
    assert torch.equal(loss, cross_entropy(teacher, log_student))


@pytest.mark.parametrize("name", ["expected_entropy", "entropy"])
def test_entropy_losses_descend_the_expected_surprise_of_the_teacher(
    name, policies, build_trajectory
):
    teacher, student = policies
    function = expected(lambda t, a: -teacher[t, 0, a].log(), student, T)
    (exact,) = torch.autograd.grad(function, student)
    assert_close(estimated(name, teacher, student, build_trajectory), exact[:, 0])


def test_n_distill_descends_the_expected_sum_of_cross_entropies(policies, build_trajectory):
    teacher, student = policies
    log_student = student.log_softmax(-1)
    # Here the states, and so the sum, do not depend on the actions.
    function = cross_entropy(teacher, log_student)[:, 0].sum()
    (exact,) = torch.autograd.grad(function, student)
    assert_close(estimated("n_distill", teacher, student, build_trajectory), exact[:, 0])


def test_n_distill_avoids_actions_after_which_the_student_differs(policies, build_trajectory):
    teacher, student = policies
    trajectory, log_student = build_trajectory(), student.log_softmax(-1)
    extra = distill_loss("n_distill", teacher, log_student, trajectory) - distill_loss(
        "student", teacher, log_student, trajectory
    )
    # grad log pi(a_t) times the later cross-entropies: descent makes a_t less likely.
    (gradient,) = torch.autograd.grad(extra[0, 0], student)
    action, later = trajectory.action[0, 0], cross_entropy(teacher, log_student)[1:, 0].sum()
    one_hot = torch.nn.functional.one_hot(action, A)
    assert_close(gradient[0, 0], later.detach() * (one_hot - student[0, 0].softmax(-1)).detach())
    assert (gradient[1:] == 0).all()


@pytest.mark.parametrize("name", OTHERS)
def test_the_praise_to_come_is_a_constant(name, policies, build_trajectory):
    teacher, student = policies
    loss = distill_loss(name, teacher, student.log_softmax(-1), build_trajectory())
    (gradient,) = torch.autograd.grad(loss[0].sum(), student)
    assert (gradient[0] != 0).any()
    assert (gradient[1:] == 0).all()


@pytest.mark.parametrize("name", OTHERS)
def test_no_loss_looks_beyond_an_end(name, policies, build_trajectory):
    teacher, student = policies
    trajectory = build_trajectory(truncated=[(0, 0)], terminated=[(1, 1)])
    log_student = student.log_softmax(-1).detach()
    before = distill_loss(name, teacher, log_student, trajectory)
    other = teacher.clone()
    other[1:, 0] = other[2:, 1] = 0.25
    after_end = distill_loss(name, other, log_student, trajectory)
    assert torch.equal(before[0], after_end[0])
    assert torch.equal(before[1, 1], after_end[1, 1])


@pytest.mark.parametrize("name", ["expected_entropy", "entropy"])
def test_a_cold_teacher_turns_nothing_into_nan(name, build_trajectory):
    # exp(-200) is 0 in float32: it counts as 2^-126, whose logarithm is -87.3.
    teacher = torch.tensor([20.0, 0.0, 0.0, 0.0]).div(0.1).softmax(-1).expand(T, B, A)
    assert (teacher[..., 1:] == 0).all()
    student = torch.zeros(T, B, A, requires_grad=True)
    loss = distill_loss(name, teacher, student.log_softmax(-1), build_trajectory())
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    if name == "expected_entropy":
        # In the last step nothing follows: three of four actions at a quarter each.
        assert_close(loss[-1], torch.full((B,), 0.75 * 126 * log(2.0)))

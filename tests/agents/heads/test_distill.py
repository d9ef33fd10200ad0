from dataclasses import replace
from math import inf, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.heads import Heads
from agents.heads.base import Schedule
from agents.heads.components.imitation import distill_loss
from agents.heads.components.trust import TeacherAdvantage
from agents.heads.distill import Distill, DistillConfig, teacher_policy
from agents.teachers import ChangedTeacherError, Teacher
from agents.trajectory import AgentOutput

T, B, A, F = 3, 2, 4, 5
WEIGHT = Schedule(1.0, 1.0, 0)


class Fixed(Teacher):
    """Has the same opinion everywhere, and counts how often it is asked."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)
        self.asked = 0

    def forward(self, trajectory):
        self.asked += 1
        return self.logits.expand(*trajectory.action.shape, A)


@pytest.fixture
def distilled(agent, build_trajectory):
    """Computes the loss of a student with the given logits everywhere."""

    def distilled(teacher_logits, logits, temperature=1.0, trajectory=None):
        trajectory = trajectory or build_trajectory()
        head = Distill(Fixed(teacher_logits), temperature, WEIGHT)
        features = torch.zeros(T + 1, B, F)
        logits = logits.expand(T + 1, B, A)
        output = AgentOutput(None, features, features, logits, torch.zeros(T + 1, B))
        return head(agent, output, trajectory, head.prepare(agent, trajectory))

    return distilled


def test_the_loss_is_the_cross_entropy_in_nats(distilled):
    # Teacher (1/2, 1/2, 0, 0), student (1/2, 1/4, 1/8, 1/8):
    # -1/2 log 1/2 - 1/2 log 1/4 = 3/2 log 2; the teacher's own entropy is log 2.
    student = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    result = distilled([0.0, 0.0, -inf, -inf], student)
    assert_close(result.loss, torch.full((T, B), 1.5 * log(2.0)))
    assert_close(result.metrics["teacher_entropy"], torch.tensor(log(2.0)))
    assert_close(result.metrics["kl"], torch.tensor(0.5 * log(2.0)))


def test_the_gradient_is_the_students_policy_less_the_teachers(distilled):
    logits = torch.tensor([0.3, -0.2, 1.0, 0.0], requires_grad=True)
    teacher = [1.0, 2.0, 0.0, -1.0]
    result = distilled(teacher, logits)
    result.loss[0, 0].backward()
    assert_close(logits.grad, logits.detach().softmax(-1) - torch.tensor(teacher).softmax(-1))


def test_at_temperature_0_the_teacher_is_greedy_and_ties_share():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0], [2.0, 0.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    expected = [[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]
    assert teacher_policy(logits, 0.0).tolist() == expected


def test_a_small_temperature_approaches_the_greedy_teacher_ties_included():
    # The gaps are 1 or more: e^(-1 / 0.01) is 0 in float32.
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0], [2.0, 0.0, 2.0, 1.0]])
    assert_close(teacher_policy(logits, 0.01), teacher_policy(logits, 0.0))


def test_the_temperature_divides_the_teachers_logits_alone(distilled):
    # Teacher (2 log 3, 0, ..) at 2 is (log 3, 0, ..): (3, 1, 0, 0) / 4.
    expected = torch.tensor([[0.75, 0.25, 0.0, 0.0]])
    assert_close(teacher_policy(torch.tensor([[2 * log(3.0), 0.0, -inf, -inf]]), 2.0), expected)
    # With the student (1/2, 1/4, ..): 3/4 log 2 + 1/4 log 4.
    student = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    result = distilled([2 * log(3.0), 0.0, -inf, -inf], student, temperature=2.0)
    assert_close(result.loss, torch.full((T, B), 1.25 * log(2.0)))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**20), temperature=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
def test_no_student_is_nearer_to_the_teacher_than_the_teacher(seed, temperature):
    # KL(p, q) >= 0, and 0 for q = p: cross-entropy is at least the teacher's entropy.
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (3 * torch.randn(2, 50, A, generator=generator)).unbind()
    policy = teacher_policy(teacher, temperature)
    entropy = -policy.xlogy(policy).sum(-1)
    cross = -(policy * student.log_softmax(-1)).sum(-1)
    assert (cross >= entropy - 1e-5).all()


def test_a_student_like_its_teacher_agrees_and_has_no_distance(distilled):
    logits = [0.3, -0.2, 1.0, 0.0]
    result = distilled(logits, torch.tensor(logits))
    assert_close(result.metrics["kl"], torch.tensor(0.0))
    assert result.metrics["agreement"] == 1.0
    opposite = distilled(logits, -torch.tensor(logits))
    assert opposite.metrics["agreement"] == 0.0
    assert opposite.metrics["kl"] > 0.1


def test_metrics_are_means_over_valid_steps(agent, teacher, build_trajectory):
    trajectory = build_trajectory(terminated=[(0, 0), (1, 1)])
    head = Distill(teacher, 1.0, WEIGHT)
    targets = head.prepare(agent, trajectory)
    output = agent(trajectory.observation)
    result = head(agent, output, trajectory, targets)
    student = output.logits[:-1].log_softmax(-1)
    kl = (targets.probabilities * (targets.probabilities.log() - student)).sum(-1)
    agrees = (targets.probabilities.argmax(-1) == student.argmax(-1)).float()
    assert trajectory.valid.sum() == 4
    assert_close(result.metrics["kl"], kl[trajectory.valid].mean().detach())
    assert_close(result.metrics["agreement"], agrees[trajectory.valid].mean())


def test_what_stands_at_invalid_steps_may_be_no_number(agent, teacher, build_trajectory):
    trajectory = build_trajectory(terminated=[(0, 0), (1, 1)])
    head = Distill(teacher, 1.0, WEIGHT)
    targets = head.prepare(agent, trajectory)
    output = agent(trajectory.observation)
    expected = head(agent, output, trajectory, targets).metrics
    targets.probabilities[~trajectory.valid] = torch.nan
    targets.entropy[~trajectory.valid] = torch.nan
    assert head(agent, output, trajectory, targets).metrics == expected


def test_the_targets_are_the_teachers_policy_at_the_students_states(
    agent, teacher, build_trajectory
):
    trajectory = build_trajectory()
    targets = Distill(teacher, 0.5, WEIGHT).prepare(agent, trajectory)
    logits = teacher.agent(trajectory.observation).logits[:-1]
    assert_close(targets.probabilities, (logits / 0.5).softmax(-1))
    assert_close(targets.entropy, torch.distributions.Categorical(logits=logits / 0.5).entropy())


def test_the_teacher_is_asked_once_per_trajectory(agent, build_trajectory):
    teacher, trajectory = Fixed([0.0, 1.0, 2.0, 3.0]), build_trajectory()
    head = Distill(teacher, 1.0, WEIGHT)
    targets = head.prepare(agent, trajectory)
    for _ in range(3):
        head(agent, agent(trajectory.observation), trajectory, targets)
    assert teacher.asked == 1


def test_the_teacher_is_neither_trained_nor_saved(context):
    head = Heads().distill.build(context)
    assert list(head.parameters()) == []
    assert list(head.state_dict()) == ["_extra_state"]  # which teacher it was, not its weights
    assert head.get_extra_state()["memory"] is None


def test_a_run_does_not_go_on_with_another_teacher(context):
    head = Heads().distill.build(context)
    saved = head.state_dict()
    head.load_state_dict(saved)
    head._teacher[0].digest = "of other weights"
    with pytest.raises(ChangedTeacherError, match="not the one that the run began with"):
        head.load_state_dict(saved)


def test_the_teacher_is_the_one_of_the_path_given(context, teacher):
    paths = []

    def load_teacher(path):
        paths.append(path)
        return teacher

    asking = replace(context, load_teacher=load_teacher)
    DistillConfig(teacher="runs/mine").build(asking)
    DistillConfig().build(asking)
    assert paths == ["runs/mine", ""]


def test_the_weight_is_constant_unless_a_schedule_is_asked_for(context):
    constant = DistillConfig(coefficient=0.7).build(context).coefficient
    assert [constant(step) for step in (0, 100, 10**9)] == [0.7] * 3
    moving = DistillConfig(coefficient=1.0, coefficient_end=0.0, coefficient_steps=200)
    schedule = moving.build(context).coefficient
    assert [schedule(step) for step in (0, 50, 200, 300)] == [1.0, 0.75, 0.0, 0.0]


def test_a_weight_may_move_by_equal_factors(context):
    moving = DistillConfig(
        coefficient=8.0,
        coefficient_end=0.5,
        coefficient_steps=400,
        coefficient_schedule="exponential",
    )
    schedule = moving.build(context).coefficient
    assert [schedule(step) for step in (0, 100, 200, 400, 500)] == [8.0, 4.0, 2.0, 0.5, 0.5]


def test_smoothing_mixes_in_the_uniform_policy():
    logits = torch.tensor([0.0, 3.0, 1.0, 0.0])
    expected = torch.tensor([0.05, 0.85, 0.05, 0.05])  # 0.8 (0, 1, 0, 0) + 0.2 / 4
    assert_close(teacher_policy(logits, 0.0, 0.2), expected)


@pytest.mark.parametrize("name", ["n_distill", "expected_entropy", "entropy"])
def test_another_loss_is_taken_by_its_name(name, agent, teacher, context, build_trajectory):
    trajectory = build_trajectory(terminated=[(1, 1)])
    head = DistillConfig(loss=name, temperature=0.5).build(context)
    output = agent(trajectory.observation)
    result = head(agent, output, trajectory, head.prepare(agent, trajectory))
    log_student = output.logits[:-1].log_softmax(-1)
    policy = teacher_policy(teacher(trajectory), 0.5)
    assert torch.equal(result.loss, distill_loss(name, policy, log_student, trajectory))
    usual = Distill(teacher, 0.5, WEIGHT)
    expected = usual(agent, output, trajectory, usual.prepare(agent, trajectory)).metrics
    assert result.metrics == expected  # how near the student is does not depend on the loss
    assert usual.non_negative
    assert not head.non_negative


class Table(Fixed):
    """Its logits are the returns that it expects."""

    logits_are_values = True


def test_only_where_the_teacher_expects_more_it_is_imitated(agent, build_trajectory):
    # Greedy, half the time uniform: (5/8, 1/8, 1/8, 1/8) of (4, 0, 0, -4) is 2.
    teacher = Table([4.0, 0.0, 0.0, -4.0])
    head = Distill(teacher, 0.0, WEIGHT, smoothing=0.5, where="better")
    trajectory = build_trajectory(terminated=[(1, 1)])
    value = torch.tensor([[1.9, 2.1], [3.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    features, logits = torch.zeros(T + 1, B, F), torch.zeros(T + 1, B, A)
    output = AgentOutput(None, features, features, logits, value)
    result = head(agent, output, trajectory, head.prepare(agent, trajectory))
    # Against a uniform student every cross-entropy is log 4.
    expected = log(4.0) * torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert_close(result.loss, expected)
    assert torch.equal(result.valid, trajectory.valid)
    assert_close(result.metrics["teacher_better"], torch.tensor(3 / 5))  # (2, 1) is invalid


def test_a_teacher_without_values_cannot_be_asked_where_it_is_better(context):
    with pytest.raises(ValueError, match=r"^where better .* one of the gridworld's"):
        DistillConfig(where="better").build(context)


def rewarded(build_trajectory, favourite):
    """A trajectory in which an action is worth 1 and all others -1, taken by a uniform student."""
    trajectory = build_trajectory(length=8, batch=6)
    good = trajectory.action == favourite
    return replace(
        trajectory,
        reward=torch.where(good, 1.0, -1.0),
        terminated=torch.ones_like(trajectory.terminated),  # so that advantages are rewards
        valid=torch.ones_like(trajectory.valid),
        log_probability=torch.full_like(trajectory.log_probability, log(1 / A)),
    )


def blind(trajectory):
    """The output of a student that sees the same everywhere, and expects nothing."""
    steps, batch = trajectory.action.shape
    features = torch.ones(steps + 1, batch, F, requires_grad=True)
    logits = torch.zeros(steps + 1, batch, A, requires_grad=True)
    return AgentOutput(None, features, features, logits, torch.zeros(steps + 1, batch))


def test_the_teachers_advantage_is_learnt_from_ratio_times_advantage(agent, build_trajectory):
    trajectory = rewarded(build_trajectory, favourite=1)
    output = blind(trajectory)
    head = Distill(Fixed([0.0, 8.0, 0.0, 0.0]), 0.0, WEIGHT, advantage=TeacherAdvantage(F, 0.9))
    result = head(agent, output, trajectory, head.prepare(agent, trajectory))
    # Greedy for action 1, which a uniform student takes with 1/4; root mean square of rewards: 1.
    drawn = torch.where(trajectory.action == 1, 4.0, 0.0)
    assert_close(result.loss, 0.5 * drawn.square())  # nothing is followed yet
    assert result.metrics["followed"] == 0
    result.loss.mean().backward()
    assert not output.logits.grad.any()
    assert output.features.grad is None
    assert_close(head.advantage.layer.bias.grad, -drawn.mean()[None])


@pytest.mark.parametrize(("advised", "followed"), [(1, 1.0), (2, 0.0)])
def test_a_teacher_is_followed_where_its_actions_are_found_to_be_better(
    agent, build_trajectory, advised, followed
):
    trajectory = rewarded(build_trajectory, favourite=1)
    logits = [8.0 if action == advised else 0.0 for action in range(A)]
    head = Distill(Fixed(logits), 0.0, WEIGHT, advantage=TeacherAdvantage(F, 0.9))
    descent = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(30):
        descent.zero_grad()
        output = blind(trajectory)
        result = head(agent, output, trajectory, head.prepare(agent, trajectory))
        result.loss.mean().backward()
        descent.step()
    assert result.metrics["followed"] == followed
    assert bool(output.logits.grad.any()) == bool(followed)
    if followed:
        head.advantage = None
        expected = head(agent, output, trajectory, head.prepare(agent, trajectory)).loss
        error = result.loss - expected
        assert (error >= 0).all()


def test_nothing_is_learnt_of_a_teachers_advantage_from_invalid_steps(agent, build_trajectory):
    trajectory = build_trajectory(terminated=[(0, 1)])
    reward = torch.where(trajectory.valid, trajectory.reward, 1e6)
    gradients = []
    for each in (trajectory, replace(trajectory, reward=reward)):
        head = Distill(Fixed([1.0, 0.0, 0.0, 0.0]), 1.0, WEIGHT, advantage=TeacherAdvantage(F, 0.9))
        result = head(agent, blind(each), each, head.prepare(agent, each))
        torch.where(each.valid, result.loss, 0.0).sum().backward()
        gradients.append(head.advantage.layer.bias.grad)
    assert torch.equal(*gradients)


def test_once_the_teacher_is_followed_the_loss_trains_what_it_declares(
    agent, context, build_trajectory
):
    trajectory = build_trajectory(truncated=[(1, 0)])
    head = DistillConfig(where="advantage").build(context)
    torch.nn.init.ones_(head.advantage.layer.bias)
    output = agent(trajectory.observation)
    result = head(agent, output, trajectory, head.prepare(agent, trajectory))
    assert result.metrics["followed"] == 1
    result.loss[result.valid].mean().backward()
    reached = {
        name: any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        for name, part in agent.parts.items()
    }
    assert reached == {"torso": True, "policy": True, "value": False}
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("name", ["entropy", "expected_entropy"])
def test_the_logarithm_of_a_greedy_teacher_is_refused(name):
    with pytest.raises(ValueError, match=f"^loss {name} .*smoothing"):
        DistillConfig(loss=name, temperature=0.0)
    DistillConfig(loss=name, temperature=0.0, smoothing=0.01)


@pytest.mark.parametrize("end", [None, 0.0])
def test_a_weight_cannot_move_by_equal_factors_to_nothing(end):
    options = {} if end is None else {"coefficient_end": end, "coefficient_steps": 10}
    with pytest.raises(ValueError, match=r"^coefficient_schedule exponential"):
        DistillConfig(coefficient_schedule="exponential", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"smoothing": 1.0},
        {"coefficient": -1.0},
        {"coefficient_end": -1.0, "coefficient_steps": 10},
        {"coefficient_end": 0.5},
        {"coefficient_steps": 10},
        {"coefficient_steps": -10},
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        DistillConfig(**options)

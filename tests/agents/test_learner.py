import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.checkpoint import load_checkpoint, save_checkpoint
from agents.collect import Collector
from agents.gates import make
from agents.heads import AuxiliaryHead, HeadLoss, Schedule
from agents.heads.distill import Distill
from agents.learner import Learner, LearnerConfig
from agents.losses import A2CConfig
from agents.masked import masked_mean
from agents.seeding import generator
from agents.teacher import Teacher

A2C = A2CConfig(normalize_advantage=False).build(discount=0.9)
NAN, INF = float("nan"), float("inf")
T = 5
"""Longer than an episode of `catch` (two steps) and its autoreset."""


def main_losses(output, trajectory):
    """The main loss of every step."""
    loss = A2C.loss(output, trajectory)
    value, entropy = A2C.value_coefficient, A2C.entropy_coefficient
    return loss.policy + value * loss.value - entropy * loss.entropy


class Head(AuxiliaryHead):
    """Wants the features to be large; a probe of its own reads the value off them."""

    trains = ("torso",)
    non_negative = False

    def __init__(self, weight=1.0, private_weight=1.0):
        super().__init__()
        self.coefficient = Schedule(weight, weight, 0)
        self.private_weight = private_weight
        self.followed = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.probe = nn.Linear(5, 1)

    def forward(self, agent, output, trajectory, targets):
        loss = self.shared_loss(output, trajectory)
        return HeadLoss(loss + self.private_weight * self.error(output), trajectory.valid)

    def shared_loss(self, output, trajectory):
        return -output.features[:-1].square().sum(-1)

    def error(self, output):
        return (self.probe(output.features.detach())[:-1, :, 0] - 1.0).square()

    def after_update(self, agent):
        self.followed += 1


class Opponent(Head):
    """Always wants the opposite of the main loss."""

    trains = ("torso", "policy", "value")

    def shared_loss(self, output, trajectory):
        return -main_losses(output, trajectory)


class Probe(Head):
    """Reads the features and trains no part of the agent."""

    trains = ()

    def shared_loss(self, output, trajectory):
        return torch.zeros_like(trajectory.reward)


class Broken(Head):
    """Multiplies its loss by `factor`."""

    factor = NAN

    def forward(self, agent, output, trajectory, targets):
        result = super().forward(agent, output, trajectory, targets)
        return HeadLoss(self.factor * result.loss, result.valid)


class Steep(Head):
    """A finite loss whose gradient is not: the root of zero has an infinite slope."""

    def shared_loss(self, output, trajectory):
        return (0.0 * output.features[:-1].sum(-1)).abs().sqrt()


class Uniform(Teacher):
    def forward(self, trajectory):
        return torch.zeros(*trajectory.action.shape, 3)


CONFIG = LearnerConfig(
    learning_rate=0.01, learning_rate_end=0.0, total_steps=10_000, max_gradient_norm=0.5
)


@pytest.fixture
def build(build_agent, catch):
    """Builds a learner around an agent that is always the same."""

    def build(heads=None, gate="cosine", device="cpu", **config):
        agent = build_agent(catch.spec).to(device)
        heads = heads or {}
        for head in heads.values():
            head.to(device)
        return Learner(agent, A2C, heads, make(gate).to(device), replace(CONFIG, **config))

    return build


@pytest.fixture
def collected(build_catch, build_agent):
    """Plays a few trajectories on Catch with an agent that does not learn."""
    env = build_catch()
    return collect(env, build_agent(env.spec), 6)


def collect(env, agent, count):
    collector = Collector(env, agent, generator(0, "acting", env.device), T)
    return [collector.collect() for _ in range(count)]


def numbers(state):
    """Copies all tensors of a state, in order."""
    if isinstance(state, torch.Tensor):
        return [state.clone()]
    if isinstance(state, dict):
        return [number for value in state.values() for number in numbers(value)]
    return []


def agent_numbers(learner):
    """Copies the agent's weights and moments."""
    state = learner.state_dict()
    return numbers(state["agent"]) + numbers(state["optimizers"]["agent"])


def same(left, right):
    """Bit for bit, NaN being equal to itself."""
    return len(left) == len(right) and all(
        torch.allclose(x, y, rtol=0.0, atol=0.0, equal_nan=True)
        for x, y in zip(left, right, strict=True)
    )


def update_all(learner, trajectories):
    return [learner.update(trajectory) for trajectory in trajectories]


def gradients(module):
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


# What an update changes, and what it does not look at.


def test_an_update_changes_every_weight_of_agent_and_head(build, collected):
    learner = build({"aux": Head()})
    before = numbers(learner.state_dict()["agent"]) + numbers(learner.state_dict()["heads"])
    learner.update(collected[0])
    after = numbers(learner.state_dict()["agent"]) + numbers(learner.state_dict()["heads"])
    assert all(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert (learner.steps, learner.updates) == (T * 2, 1)
    assert learner.heads["aux"].followed == 1


def test_an_update_changes_neither_trajectory_nor_teacher_nor_global_random_numbers(
    build, collected, build_agent, catch
):
    teacher = Uniform()
    teacher.weight = nn.Parameter(torch.ones(2))
    learner = build({"distill": Distill(teacher, 1.0, Schedule(1.0, 1.0, 0))})
    trajectory = collected[0]
    before, state = numbers(vars(trajectory)), torch.get_rng_state()
    learner.update(trajectory)
    assert same(before, numbers(vars(trajectory)))
    assert teacher.weight.grad is None
    assert torch.equal(state, torch.get_rng_state())


def test_the_agent_is_updated_by_adam_on_its_clipped_main_loss(build, collected):
    learner = build()
    twin = copy.deepcopy(learner.agent)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01, eps=CONFIG.adam_epsilon)
    for trajectory in collected[:3]:
        adam.param_groups[0]["lr"] = learner.learning_rate
        learner.update(trajectory)
        adam.zero_grad()
        main_losses(twin(trajectory.observation), trajectory)[trajectory.valid].mean().backward()
        nn.utils.clip_grad_norm_(twin.parameters(), CONFIG.max_gradient_norm)
        adam.step()
    for mine, theirs in zip(learner.agent.parameters(), twin.parameters(), strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("head", [Opponent, Probe])
def test_invalid_steps_enter_no_loss_bit_for_bit(build, collected, head):
    plain, odd = build({"aux": head()}, "sum"), build({"aux": head()}, "sum")
    for trajectory in collected:
        invalid = ~trajectory.valid
        assert invalid.any()
        # All of Catch's episodes terminate: not even the bootstrap sees the last observation,
        # which is that of the invalid step.
        observation = trajectory.observation.clone()
        observation[:-1][invalid] = 100.0
        changed = replace(
            trajectory,
            observation=observation,
            action=torch.where(invalid, 2 - trajectory.action, trajectory.action),
            reward=torch.where(invalid, 1e6, trajectory.reward),
            log_probability=torch.where(invalid, -50.0, trajectory.log_probability),
        )
        metrics, expected = odd.update(changed), plain.update(trajectory)
        assert same(numbers(metrics), numbers(expected))
    assert same(numbers(plain.state_dict()), numbers(odd.state_dict()))


def test_normalized_advantages_look_at_valid_steps_alone_bit_for_bit(build_agent, catch, collected):
    def updated(trajectory):
        algorithm = A2CConfig(normalize_advantage=True).build(0.9)
        learner = Learner(build_agent(catch.spec), algorithm, {}, make("sum"), CONFIG)
        learner.update(trajectory)
        return agent_numbers(learner)

    trajectory = collected[0]
    assert not trajectory.valid.all()
    reward = torch.where(trajectory.valid, trajectory.reward, 1e30)
    assert same(updated(trajectory), updated(replace(trajectory, reward=reward)))


def test_an_update_without_any_valid_step_is_harmless(build, collected):
    learner = build({"aux": Head()})
    trajectory = collected[0]
    metrics = learner.update(replace(trajectory, valid=torch.zeros_like(trajectory.valid)))
    assert all(number.isfinite().all() for number in numbers(learner.state_dict()["agent"]))
    assert metrics["policy_loss"] == metrics["aux/loss"] == 0.0


def test_what_is_logged_is_scalars_without_gradient(build, collected):
    for value in build({"aux": Head()}).update(collected[0]).values():
        assert value.shape == ()
        assert not value.requires_grad


def test_the_learning_rate_falls_linearly_by_agent_steps(build, collected):
    # 10 steps an update: 0.01 at step 0, half of it at step 10, none from step 20 on.
    learner = build(total_steps=20)
    rates = []
    for trajectory in collected[:4]:
        rates.append(learner.learning_rate)
        before = numbers(learner.state_dict()["agent"])
        learner.update(trajectory)
        assert same(before, numbers(learner.state_dict()["agent"])) == (rates[-1] == 0.0)
    assert rates == [0.01, 0.005, 0.0, 0.0]


# Who is shared, and whose gradient passes the gate.


@pytest.mark.parametrize("head", [Head, Opponent])
def test_sum_is_the_backward_of_the_summed_loss(build, collected, head):
    trajectory = collected[0]
    learner = build({"aux": head(weight=0.3)}, "sum", max_gradient_norm=0.0)
    agent, twin = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    learner.update(trajectory)
    output = agent(trajectory.observation)
    loss = main_losses(output, trajectory) + 0.3 * twin(agent, output, trajectory, None).loss
    loss[trajectory.valid].mean().backward()
    for mine, theirs in ((learner.agent, agent), (learner.heads["aux"], twin)):
        for x, y in zip(gradients(mine), gradients(theirs), strict=True):
            assert_close(x, y)


def test_a_half_open_gate_gives_the_agent_the_gated_gradient(build, collected):
    trajectory = collected[0]
    learner = build({"aux": Head()}, "cosine", max_gradient_norm=0.0)
    agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    metrics = learner.update(trajectory)
    output = agent(trajectory.observation)
    shared, valid = list(agent.torso.parameters()), trajectory.valid
    main = main_losses(output, trajectory)[valid].mean()
    auxiliary = head(agent, output, trajectory, None).loss[valid].mean()
    g, h = (torch.autograd.grad(loss, shared, retain_graph=True) for loss in (main, auxiliary))
    flat_g, flat_h = (torch.cat([x.flatten() for x in rows]) for rows in (g, h))
    cosine = torch.cosine_similarity(flat_g, flat_h, dim=0)
    assert_close(metrics["aux/cosine"], cosine)
    for parameter, x, y in zip(learner.agent.torso.parameters(), g, h, strict=True):
        assert_close(parameter.grad, x + cosine.clamp(min=0) * y)


@pytest.mark.parametrize("gate", ["cosine", "cosine_unweighted"])
def test_a_closed_gate_changes_no_number_of_the_agent_in_20_updates(build_catch, build, gate):
    def trained(heads):
        env = build_catch()
        learner = build(heads, gate)
        collector = Collector(env, learner.agent, generator(0, "acting", env.device), T)
        logs = [learner.update(collector.collect()) for _ in range(20)]
        return learner, logs

    alone, expected = trained({})
    opponent = Opponent()
    first = numbers(opponent.state_dict())
    gated, logs = trained({"aux": opponent})
    assert same(agent_numbers(alone), agent_numbers(gated))
    for mine, theirs in zip(logs, expected, strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
        assert mine["aux/weight"] == mine["aux/open"] == 0.0
        assert_close(mine["aux/cosine"], torch.tensor(-1.0))
    assert not same(first, numbers(opponent.state_dict()))


def test_the_opponent_hurts_without_a_gate(build, collected):
    # Else the closed gate above would close nothing: main - 0.5 main is half as long.
    alone = build(max_gradient_norm=0.0)
    summed = build({"aux": Opponent(weight=0.5)}, "sum", max_gradient_norm=0.0)
    alone.update(collected[0])
    summed.update(collected[0])
    for x, y in zip(gradients(summed.agent), gradients(alone.agent), strict=True):
        assert_close(x, 0.5 * y)


@pytest.mark.parametrize("gate", ["sum", "cosine"])
def test_a_heads_own_parameters_get_their_own_gradient_whatever_the_gate(build, collected, gate):
    trajectory = collected[0]
    learner = build({"aux": Opponent(weight=0.5)}, gate, max_gradient_norm=0.0)
    head = copy.deepcopy(learner.heads["aux"])
    agent = copy.deepcopy(learner.agent)
    learner.update(trajectory)
    (0.5 * head.error(agent(trajectory.observation))[trajectory.valid].mean()).backward()
    for x, y in zip(gradients(learner.heads["aux"]), gradients(head), strict=True):
        assert_close(x, y)


def test_a_head_that_trains_no_part_of_the_agent_leaves_it_alone(build, collected):
    alone, probed = build(), build({"aux": Probe()})
    update_all(alone, collected)
    metrics = update_all(probed, collected)
    assert same(agent_numbers(alone), agent_numbers(probed))
    assert metrics[-1]["aux/loss"] < metrics[0]["aux/loss"]
    assert metrics[-1]["aux/dropped"] == 0.0


def test_every_owner_is_clipped_by_its_own_norm(build, collected):
    free = build({"aux": Head(private_weight=100.0)}, max_gradient_norm=0.0)
    clipped = build({"aux": Head(private_weight=100.0)}, max_gradient_norm=0.01)
    free.update(collected[0])
    metrics = clipped.update(collected[0])
    for owner, key in (("agent", "gradient_norm"), ("aux", "aux/gradient_norm")):
        module, unclipped = (
            learner.agent if owner == "agent" else learner.heads["aux"]
            for learner in (clipped, free)
        )
        norm = nn.utils.get_total_norm(gradients(unclipped))
        assert norm > 0.01
        assert_close(metrics[key], norm)
        assert_close(nn.utils.get_total_norm(gradients(module)), torch.tensor(0.01))


def test_a_large_gradient_of_a_head_shortens_none_of_the_agents(build, collected):
    small = build({"aux": Head(private_weight=1.0)})
    large = build({"aux": Head(private_weight=1e4)})
    update_all(small, collected[:3])
    update_all(large, collected[:3])
    assert same(agent_numbers(small), agent_numbers(large))


@pytest.mark.parametrize("scope", ["shared", "tensor", "layer"])
def test_a_head_is_gated_in_every_scope(build, collected, scope):
    alone, gated = build(), build({"aux": Opponent()}, gate_scope=scope)
    update_all(alone, collected)
    update_all(gated, collected)
    assert same(agent_numbers(alone), agent_numbers(gated))


# What is not finite.


@pytest.mark.parametrize("factor", [NAN, INF])
def test_an_auxiliary_that_is_not_finite_is_dropped_and_counted(build, collected, factor):
    broken = Broken()
    broken.factor = factor
    first = numbers(broken.state_dict())
    alone, gated = build(), build({"aux": broken})
    update_all(alone, collected)
    for metrics in update_all(gated, collected):
        assert metrics["aux/dropped"] == 1.0
        assert metrics["skipped"] == 0.0
    assert same(agent_numbers(alone), agent_numbers(gated))
    assert same(first, numbers(broken.state_dict()))


def test_a_gradient_that_is_not_finite_is_dropped_though_the_loss_is(build, collected):
    steep = Steep()
    first = numbers(steep.state_dict())
    alone, gated = build(), build({"aux": steep})
    update_all(alone, collected)
    for metrics in update_all(gated, collected):
        assert metrics["aux/loss"].isfinite()
        assert metrics["aux/dropped"] == 1.0
    assert same(agent_numbers(alone), agent_numbers(gated))
    assert same(first, numbers(steep.state_dict()))


def test_a_dropped_auxiliary_comes_back_and_another_head_never_notices(build, collected):
    broken, other = Broken(), Head()
    learner = build({"broken": broken, "other": other})
    metrics = learner.update(collected[0])
    assert (metrics["broken/dropped"], metrics["other/dropped"]) == (1.0, 0.0)
    pair = build({"other": Head()})
    pair.update(collected[0])
    assert same(numbers(other.state_dict()), numbers(pair.heads["other"].state_dict()))
    assert same(agent_numbers(learner), agent_numbers(pair))
    broken.factor, before = 1.0, numbers(broken.state_dict())
    assert learner.update(collected[1])["broken/dropped"] == 0.0
    assert not same(before, numbers(broken.state_dict()))


@pytest.mark.parametrize("gate", ["sum", "cosine", "projection"])
@pytest.mark.parametrize("strange", [NAN, INF])
def test_a_main_loss_that_is_not_finite_skips_everything_and_is_counted(
    build, collected, gate, strange
):
    learner = build({"aux": Head()}, gate)
    learner.update(collected[0])

    def kept():
        state = learner.state_dict()
        return [n for key in ("agent", "heads", "optimizers") for n in numbers(state[key])]

    before = kept()
    reward = collected[1].reward.clone()
    assert collected[1].valid[1, 0]
    reward[1, 0] = strange
    for count in (1, 2):
        metrics = learner.update(replace(collected[1], reward=reward))
        assert (metrics["skipped"], learner.skipped_in_a_row) == (count, count)
        assert same(before, kept())
    metrics = learner.update(collected[2])
    assert (metrics["skipped"], learner.skipped_in_a_row) == (2.0, 0.0)
    assert not same(before, kept())


def test_a_skipped_update_counts_its_steps(build, collected):
    learner = build()
    learner.update(replace(collected[0], reward=torch.full_like(collected[0].reward, NAN)))
    assert (learner.steps, learner.updates) == (T * 2, 1)


# Judging every n-th update.


def test_between_judgements_the_last_weights_are_used_again(build, collected):
    learner = build({"aux": Head()}, "cosine", gate_every=3, max_gradient_norm=0.0)
    judged = []
    for trajectory in collected:
        agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
        metrics = learner.update(trajectory)
        judged.append("aux/cosine" in metrics)
        if judged[-1]:
            weight = metrics["aux/weight"]
        output = agent(trajectory.observation)
        main = main_losses(output, trajectory)[trajectory.valid].mean()
        own = head(agent, output, trajectory, None).loss[trajectory.valid].mean()
        own.backward(retain_graph=True, inputs=list(head.parameters()))
        (main + weight * own).backward(inputs=list(agent.parameters()))
        for x, y in zip(gradients(learner.agent), gradients(agent), strict=True):
            assert_close(x, y, rtol=1e-4, atol=1e-6)
        for x, y in zip(gradients(learner.heads["aux"]), gradients(head), strict=True):
            assert_close(x, y)
    assert judged == [True, False, False, True, False, False]


def test_the_weights_in_between_are_worth_a_test(build, collected):
    # Were all of them 0 or 1, the test above would prove little.
    learner = build({"aux": Head()}, "cosine", gate_every=3)
    weights = [
        float(metrics["aux/weight"])
        for metrics in update_all(learner, collected)
        if "aux/weight" in metrics
    ]
    assert any(0.01 < weight < 0.99 for weight in weights)


def test_an_auxiliary_that_is_not_finite_between_judgements_skips_the_agents_update(
    build, collected
):
    broken = Broken()
    broken.factor = 1.0
    learner = build({"aux": broken}, gate_every=2)
    learner.update(collected[0])
    broken.factor, before = NAN, numbers(learner.state_dict()["agent"])
    metrics = learner.update(collected[1])
    assert (metrics["skipped"], metrics["aux/dropped"]) == (1.0, 1.0)
    assert same(before, numbers(learner.state_dict()["agent"]))


# Saving and restoring.


@pytest.mark.parametrize(
    ("gate", "options", "every"),
    [("cosine", {}, 2), ("projection", {"decay": 0.9}, 1), ("sum", {}, 1)],
)
def test_a_restored_learner_goes_on_bit_for_bit(
    build_agent, catch, collected, tmp_path, gate, options, every
):
    def fresh(seed=0):
        config = replace(CONFIG, gate_every=every, total_steps=100)
        agent = build_agent(catch.spec, seed)
        return Learner(agent, A2C, {"aux": Head()}, make(gate, **options), config)

    uninterrupted = fresh()
    expected = update_all(uninterrupted, collected)
    first = fresh()
    update_all(first, collected[:3])
    save_checkpoint(tmp_path, first.steps, {"learner": first.state_dict()})
    second = fresh(seed=1)
    second.load_state_dict(load_checkpoint(tmp_path).state["learner"])
    metrics = update_all(second, collected[3:])
    assert same(numbers(second.state_dict()), numbers(uninterrupted.state_dict()))
    for mine, theirs in zip(metrics, expected[3:], strict=True):
        assert mine.keys() == theirs.keys()
        assert same(numbers(mine), numbers(theirs))
    assert (second.steps, second.updates) == (uninterrupted.steps, uninterrupted.updates)


def test_the_count_of_skipped_updates_is_saved(build, collected):
    learner, other = build(), build()
    learner.update(replace(collected[0], reward=torch.full_like(collected[0].reward, NAN)))
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert other.skipped == other.skipped_in_a_row == 1.0


# Small parts.


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("gate", ["sum", "cosine", "projection"])
def test_on_a_gpu_an_update_is_the_same_and_never_waits(build, collected, gate):
    host, device = build({"aux": Head()}, gate), build({"aux": Head()}, gate, device="cuda")
    on_device = [
        replace(t, **{name: x.cuda() for name, x in vars(t).items() if x is not None})
        for t in collected
    ]
    device.update(on_device[0])  # allocates moments
    host.update(collected[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics = update_all(device, on_device[1:])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for mine, theirs in zip(metrics, update_all(host, collected[1:]), strict=True):
        for key, value in theirs.items():
            assert_close(mine[key].cpu(), value, rtol=1e-3, atol=1e-4, equal_nan=True)
    for mine, theirs in zip(device.agent.parameters(), host.agent.parameters(), strict=True):
        assert_close(mine.cpu(), theirs, rtol=1e-3, atol=1e-4)

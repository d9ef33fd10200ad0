import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.algorithms import A2CConfig, NoneConfig, PPOConfig
from agents.gates import make
from agents.heads import Schedule
from agents.heads.distill import Distill
from agents.learning.gating import GatingConfig
from agents.learning.learner import Learner
from agents.runtime.checkpoint import load_checkpoint, save_checkpoint
from agents.runtime.distributed import Processes
from agents.runtime.random import Stream, generator
from tests.agents.updating import (
    A2C,
    CONFIG,
    INF,
    NAN,
    Broken,
    Head,
    Opponent,
    Probe,
    Steep,
    T,
    Uniform,
    agent_numbers,
    collect,
    gradients,
    main_losses,
    numbers,
    same,
    update_all,
)

# What an update changes, and what it does not look at.


def test_an_update_changes_every_weight_of_agent_and_head(build_learner, collected):
    learner = build_learner({"aux": Head()})

    def weights():
        return numbers(dict(learner.agent.named_parameters())) + numbers(
            learner.state_dict()["heads"]
        )

    before = weights()
    learner.update(collected[0])
    after = weights()
    assert all(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert (learner.steps, learner.updates) == (T * 2, 1)
    assert learner.heads["aux"].followed == 1


def test_an_update_changes_neither_trajectory_nor_teacher_nor_global_random_numbers(
    build_learner, collected, build_agent, catch
):
    teacher = Uniform()
    teacher.weight = nn.Parameter(torch.ones(2))
    learner = build_learner({"distill": Distill(teacher, 1.0, Schedule(1.0, 1.0, 0))})
    trajectory = collected[0]
    before, state = numbers(vars(trajectory)), torch.get_rng_state()
    learner.update(trajectory)
    assert same(before, numbers(vars(trajectory)))
    assert teacher.weight.grad is None
    assert torch.equal(state, torch.get_rng_state())


def test_the_agent_is_updated_by_adam_on_its_clipped_main_loss(build_learner, collected):
    learner = build_learner()
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
def test_invalid_steps_enter_no_loss_bit_for_bit(build_learner, collected, head):
    plain, odd = build_learner({"aux": head()}, "sum"), build_learner({"aux": head()}, "sum")
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


def test_an_update_without_any_valid_step_is_harmless(build_learner, collected):
    learner = build_learner({"aux": Head()})
    trajectory = collected[0]
    metrics = learner.update(replace(trajectory, valid=torch.zeros_like(trajectory.valid)))
    assert all(number.isfinite().all() for number in numbers(learner.state_dict()["agent"]))
    assert metrics["policy_loss"] == metrics["aux/loss"] == 0.0


def test_without_a_main_loss_the_heads_alone_train_the_agent(build_learner, collected):
    algorithm, trajectory = NoneConfig().build(0.9), collected[0]
    learner = build_learner({"aux": Head()}, "sum", algorithm, max_gradient_norm=0.0)
    agent, head = copy.deepcopy(learner.agent), copy.deepcopy(learner.heads["aux"])
    metrics = learner.update(trajectory)
    own = head(agent, agent(trajectory.observation), trajectory, None).loss
    own[trajectory.valid].mean().backward()
    for mine, theirs in zip(gradients(learner.agent.torso), gradients(agent.torso), strict=True):
        assert_close(mine, theirs)
    for part in ("policy", "value"):
        assert same(*(numbers(each.parts[part].state_dict()) for each in (learner.agent, agent)))
    assert metrics["policy_loss"] == metrics["value_loss"] == 0.0
    assert metrics["entropy"] > 0.0


def test_what_is_logged_is_scalars_without_gradient(build_learner, collected):
    for value in build_learner({"aux": Head()}).update(collected[0]).values():
        assert value.shape == ()
        assert not value.requires_grad


def test_the_learning_rate_falls_linearly_by_agent_steps(build_learner, collected):
    # 10 steps an update: 0.01 at step 0, half of it at step 10, none from step 20 on.
    learner = build_learner(total_steps=20)
    rates = []
    for trajectory in collected[:4]:
        rates.append(learner.learning_rate)
        before = numbers(learner.state_dict()["agent"])
        learner.update(trajectory)
        assert same(before, numbers(learner.state_dict()["agent"])) == (rates[-1] == 0.0)
    assert rates == [0.01, 0.005, 0.0, 0.0]


# What is not finite.


@pytest.mark.parametrize("factor", [NAN, INF])
def test_an_auxiliary_that_is_not_finite_is_dropped_and_counted(build_learner, collected, factor):
    broken = Broken()
    broken.factor = factor
    first = numbers(broken.state_dict())
    alone, gated = build_learner(), build_learner({"aux": broken})
    update_all(alone, collected)
    for metrics in update_all(gated, collected):
        assert metrics["aux/dropped"] == 1.0
        assert metrics["skipped"] == 0.0
    assert same(agent_numbers(alone), agent_numbers(gated))
    assert same(first, numbers(broken.state_dict()))


def test_a_gradient_that_is_not_finite_is_dropped_though_the_loss_is(build_learner, collected):
    steep = Steep()
    first = numbers(steep.state_dict())
    alone, gated = build_learner(), build_learner({"aux": steep})
    update_all(alone, collected)
    for metrics in update_all(gated, collected):
        assert metrics["aux/loss"].isfinite()
        assert metrics["aux/dropped"] == 1.0
    assert same(agent_numbers(alone), agent_numbers(gated))
    assert same(first, numbers(steep.state_dict()))


def test_a_dropped_auxiliary_comes_back_and_another_head_never_notices(build_learner, collected):
    broken, other = Broken(), Head()
    learner = build_learner({"broken": broken, "other": other})
    metrics = learner.update(collected[0])
    assert (metrics["broken/dropped"], metrics["other/dropped"]) == (1.0, 0.0)
    pair = build_learner({"other": Head()})
    pair.update(collected[0])
    assert same(numbers(other.state_dict()), numbers(pair.heads["other"].state_dict()))
    assert same(agent_numbers(learner), agent_numbers(pair))
    broken.factor, before = 1.0, numbers(broken.state_dict())
    assert learner.update(collected[1])["broken/dropped"] == 0.0
    assert not same(before, numbers(broken.state_dict()))


@pytest.mark.parametrize("gate", ["sum", "cosine", "projection"])
@pytest.mark.parametrize("strange", [NAN, INF])
def test_a_main_loss_that_is_not_finite_skips_everything_and_is_counted(
    build_learner, collected, gate, strange
):
    learner = build_learner({"aux": Head()}, gate)
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


def test_a_skipped_update_counts_its_steps(build_learner, collected):
    learner = build_learner()
    learner.update(replace(collected[0], reward=torch.full_like(collected[0].reward, NAN)))
    assert (learner.steps, learner.updates) == (T * 2, 1)


# Saving and restoring.


@pytest.mark.parametrize(
    ("gate", "options", "every"),
    [
        ("cosine", {}, 2),
        ("projection", {"decay": 0.9}, 1),
        ("sum", {}, 1),
        ("attittud", {"rank": 2, "refresh": 2}, 1),
    ],
)
def test_a_restored_learner_goes_on_bit_for_bit(
    build_agent, catch, collected, tmp_path, gate, options, every
):
    def fresh(seed=0):
        config = replace(CONFIG, gating=GatingConfig(every=every), total_steps=100)
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


def test_a_restored_learner_knows_that_a_gradient_was_not_finite(build_learner, collected):
    # After such an update losses are differentiated one by one, so that a head alone is dropped.
    uninterrupted = build_learner({"aux": Steep()}, gate="sum")
    metrics = update_all(uninterrupted, collected[:2])
    assert [float(each["skipped"]) for each in metrics] == [1.0, 1.0]
    first, second = (build_learner({"aux": Steep()}, gate="sum") for _ in range(2))
    first.update(collected[0])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    metrics = second.update(collected[1])
    assert (metrics["skipped"], metrics["aux/dropped"]) == (1.0, 1.0)
    assert same(numbers(second.state_dict()), numbers(uninterrupted.state_dict()))


class Drawing(Head):
    """Has random numbers of its own."""

    def __init__(self):
        super().__init__()
        self.stream = Stream(generator(0, "head", torch.device("cpu")))

    def draw(self):
        return self.stream.uniform((4,), torch.device("cpu")).tolist()


def test_a_restored_process_has_random_numbers_unlike_the_firsts(build_agent, catch):
    def restored(rank, state):
        head, processes = Drawing(), Processes(rank, 3)
        learner = Learner(
            build_agent(catch.spec), A2C, {"aux": head}, make("sum"), CONFIG, processes
        )
        if state is not None:
            learner.load_state_dict(copy.deepcopy(state))
        shuffling = learner.state_dict()["shuffling"]
        return learner, head.draw(), shuffling.tolist()

    saved = restored(0, None)[0].state_dict()
    _, first, shuffled = restored(0, saved)
    _, second, shuffled_second = restored(1, saved)
    _, third, _ = restored(2, saved)
    assert first != second
    assert second != third
    assert first != third
    assert shuffled != shuffled_second
    # Resumed from the same checkpoint again, every one repeats itself.
    assert restored(1, saved)[1:] == (second, shuffled_second)
    assert restored(0, saved)[1] == first


def test_a_restored_process_has_combinations_of_losses_unlike_the_firsts(build_agent, catch):
    # Those of all processes are added up: with equal factors they would be of pairs of steps.
    def restored(rank, state):
        gate = make("attittud", rank=2)
        learner = Learner(
            build_agent(catch.spec), A2C, {"aux": Head()}, gate, CONFIG, Processes(rank, 3)
        )
        learner.load_state_dict(copy.deepcopy(state))
        return learner.state_dict()["combinations"].tolist()

    alone = Learner(build_agent(catch.spec), A2C, {"aux": Head()}, make("attittud", rank=2), CONFIG)
    saved = alone.state_dict()
    states = [restored(rank, saved) for rank in (0, 1, 2, 1)]
    assert states[0] == saved["combinations"].tolist()
    assert len({tuple(state) for state in states}) == 3
    assert states[1] == states[3]


def test_the_count_of_skipped_updates_is_saved(build_learner, collected):
    learner, other = build_learner(), build_learner()
    learner.update(replace(collected[0], reward=torch.full_like(collected[0].reward, NAN)))
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert other.skipped == other.skipped_in_a_row == 1.0


# On the GPU.


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("gate", "algorithm", "memory", "judging"),
    [
        ("sum", A2C, 0, GatingConfig()),
        ("cosine", A2C, 0, GatingConfig(main="policy", metric="optimizer")),
        ("projection", A2C, 0, GatingConfig()),
        ("attittud", A2C, 0, GatingConfig()),
        ("significant", A2C, 0, GatingConfig()),
        ("cosine", PPOConfig(epochs=2, minibatches=2).build(0.9), 5, GatingConfig()),
    ],
)
def test_on_a_gpu_an_update_is_the_same_and_never_waits(
    build_learner, build_catch, build_agent, gate, algorithm, memory, judging, never_waits
):
    def learner(device):
        return build_learner({"aux": Head()}, gate, algorithm, memory, device, judging=judging)

    env = build_catch(num_envs=4)
    played = collect(env, build_agent(env.spec, memory=memory), 6, records_value=True)
    host, device = learner("cpu"), learner("cuda")
    on_device = [
        replace(t, **{name: x.cuda() for name, x in vars(t).items() if x is not None})
        for t in played
    ]
    device.update(on_device[0])  # allocates moments
    host.update(played[0])
    with never_waits():
        metrics = update_all(device, on_device[1:])
    for mine, theirs in zip(metrics, update_all(host, played[1:]), strict=True):
        for key, value in theirs.items():
            assert_close(mine[key].cpu(), value, rtol=1e-3, atol=1e-4, equal_nan=True)
    for mine, theirs in zip(device.agent.parameters(), host.agent.parameters(), strict=True):
        assert_close(mine.cpu(), theirs, rtol=1e-3, atol=1e-4)

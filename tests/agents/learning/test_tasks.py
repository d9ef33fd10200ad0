"""Several tasks in one network: whose gradient goes where."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.algorithms import PPOConfig
from agents.gates import make
from agents.learning.learner import Learner
from agents.learning.tasks import Task
from agents.networks.actor_critic import ActorCritic
from agents.rollout.collector import Collector
from agents.runtime.graphs import NoCapture
from agents.runtime.random import generator
from envs.catch import CatchConfig
from envs.joined import TaskVecEnv
from tests.agents.updating import A2C, CONFIG, Head, main_losses, numbers, same

CPU = torch.device("cpu")
SIZES = (3, 2)


def task_env(seed=0):
    usual = CatchConfig(rows=3).build("Catch", SIZES[0], seed, CPU)
    other = CatchConfig(rows=3, mirrored=True).build("Catch", SIZES[1], seed + 1, CPU)
    return TaskVecEnv("Catch+Catch(mirrored=True)", [usual, other])


@pytest.fixture
def build(build_agent, opinionated):
    """Builds environments, learner and collector of two tasks, always the same."""

    def build(gate="sum", algorithm=A2C, heads=None, memory=0, shares=False, seed=0, **config):
        torch.manual_seed(seed)
        env = task_env(seed)
        first = opinionated(build_agent(env.spec, memory=memory, last_action=bool(memory)))
        other = ActorCritic(first.torso, env.tasks[1].spec.num_actions, core=first.core)
        other = opinionated(other)
        if shares:
            other.policy = first.policy
        heads = heads or {}
        tasks = [
            Task(first, algorithm, {"aux": heads["aux"]} if "aux" in heads else {}, "", (0, 3)),
            Task(
                other,
                copy.deepcopy(algorithm),
                {"other:aux": heads["other:aux"]} if "other:aux" in heads else {},
                "other",
                (3, 2),
            ),
        ]
        learner = Learner(
            first, algorithm, tasks[0].heads, make(gate), replace(CONFIG, **config), tasks=tasks
        )
        collector = Collector(
            env,
            first,
            generator(seed, "acting", CPU),
            4,
            records_value=algorithm.needs_value,
            others=[other],
        )
        return learner, collector

    return build


def heads():
    return {"aux": Head(), "other:aux": Head()}


def alone(task, trajectory):
    """Gradients of a task's own main loss, by the names of its agent."""
    twin, part = copy.deepcopy(task.agent), task.part(trajectory)
    twin.zero_grad()
    main_losses(twin.unroll(part), part)[part.valid].mean().backward()
    return {name: p.grad for name, p in twin.named_parameters()}


def flat(gradients, part):
    return torch.cat([g.flatten() for name, g in gradients.items() if name.startswith(part)])


def weighed(learner):
    """The gradients that an update left, before they were clipped."""
    return [
        {name: p.grad.clone() for name, p in task.agent.named_parameters()}
        for task in learner.tasks
    ]


@pytest.mark.parametrize("memory", [0, 3])
def test_the_shared_network_gets_the_sum_and_each_task_its_own(build, memory):
    learner, collector = build(memory=memory, max_gradient_norm=0.0)
    trajectory = collector.collect()
    own = [alone(task, trajectory) for task in learner.tasks]
    learner.update(trajectory)
    found = weighed(learner)
    for name in own[0]:
        if name.startswith(("torso", "core")):
            assert_close(found[0][name], own[0][name] + own[1][name])
        else:
            assert_close(found[0][name], own[0][name])
            assert_close(found[1][name], own[1][name])


def test_cosine_lets_a_task_through_as_far_as_it_agrees_with_the_main_one(build):
    learner, collector = build("cosine", max_gradient_norm=0.0)
    opened = 0
    for _ in range(8):
        trajectory = collector.collect()
        first, other = (alone(task, trajectory) for task in learner.tasks)
        pair = flat(first, "torso"), flat(other, "torso")
        weight = torch.cosine_similarity(*pair, dim=0).clamp(min=0.0)
        opened += int(weight > 0)
        metrics = learner.update(trajectory)
        assert_close(metrics["other/weight"], weight, atol=1e-5, rtol=1e-4)
        found = weighed(learner)
        assert_close(flat(found[0], "torso"), pair[0] + weight * pair[1], atol=1e-6, rtol=1e-4)
        # Its policy is its own, and learns whatever the gate says.
        assert_close(found[1]["policy.weight"], other["policy.weight"])
    assert 0 < opened < 8


def test_a_shared_policy_passes_the_gate_too(build):
    learner, collector = build("cosine", shares=True, max_gradient_norm=0.0)
    trajectory = collector.collect()
    first, other = (alone(task, trajectory) for task in learner.tasks)
    parts = ("torso", "policy")
    pair = flat(first, parts), flat(other, parts)
    weight = torch.cosine_similarity(*pair, dim=0).clamp(min=0.0)
    learner.update(trajectory)
    assert_close(flat(weighed(learner)[0], parts), pair[0] + weight * pair[1])


def test_each_task_has_its_own_scale_of_values(build):
    learner, collector = build(normalize_value=True)
    trajectory = collector.collect()
    reward = trajectory.reward.clone()
    reward[:, 3:] *= 100
    metrics = learner.update(replace(trajectory, reward=reward))
    first, other = (task.agent.value_scale.scale for task in learner.tasks)
    assert other > 20 * first > 0
    assert_close(metrics["other/value_scale"], other)
    assert_close(metrics["value_scale"], first)


def test_every_minibatch_has_environments_of_every_task(build, monkeypatch):
    algorithm = PPOConfig(epochs=2, minibatches=2).build(0.9)
    learner, collector = build(algorithm=algorithm)
    seen = []
    for task in learner.tasks:
        loss = task.algorithm.loss

        def spied(output, trajectory, *others, loss=loss, task=task):
            seen.append((task.name, trajectory.action.shape[1]))
            return loss(output, trajectory, *others)

        monkeypatch.setattr(task.algorithm, "loss", spied)
    learner.update(collector.collect())
    assert seen == 2 * [("", 2), ("other", 1), ("", 1), ("other", 1)]


def test_heads_belong_to_their_task(build):
    own = heads()
    learner, collector = build(heads=own)
    assert learner.names == ("other", "aux", "other:aux")
    metrics = learner.update(collector.collect())
    assert {"aux/loss", "other:aux/loss", "other/cosine", "other:aux/cosine"} <= metrics.keys()
    assert own["aux"].followed == own["other:aux"].followed == 1


def test_one_task_by_name_learns_what_a_learner_without_tasks_does(build_learner, collected):
    plain = build_learner({"aux": Head()})
    twin = copy.deepcopy(plain.agent)
    head = Head()
    task = Task(twin, A2C, {"aux": head})
    named = Learner(twin, A2C, {"aux": head}, make("cosine"), CONFIG, tasks=[task])
    for trajectory in collected:
        plain.update(trajectory)
        named.update(trajectory)
    assert same(numbers(plain.agent.state_dict()), numbers(twin.state_dict()))


@pytest.mark.parametrize("memory", [0, 5])  # the head reads five features
def test_tasks_go_on_from_a_checkpoint_bit_for_bit(build, memory):
    learner, collector = build("cosine", memory=memory, heads=heads())
    played = [collector.collect() for _ in range(4)]
    for trajectory in played[:2]:
        learner.update(trajectory)
    other, _ = build("cosine", memory=memory, heads=heads())
    with torch.no_grad():
        for task in other.tasks:
            task.agent.policy.weight.zero_()
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    for trajectory in played[2:]:
        learner.update(trajectory)
        other.update(trajectory)
    for mine, theirs in zip(learner.tasks, other.tasks, strict=True):
        pair = numbers(mine.agent.state_dict()), numbers(theirs.agent.state_dict())
        assert same(*pair)


def test_captured_updates_of_tasks_are_the_same(build):
    eager, collector = build("cosine")
    captured, _ = build("cosine")
    captured.capture(NoCapture())
    for _ in range(5):
        trajectory = collector.collect()
        eager.update(trajectory)
        captured.update(trajectory)
    for mine, theirs in zip(eager.tasks, captured.tasks, strict=True):
        assert same(numbers(mine.agent.state_dict()), numbers(theirs.agent.state_dict()))


def test_a_task_whose_loss_is_not_finite_is_dropped_alone(build):
    learner, collector = build("cosine")
    trajectory = collector.collect()
    reward = trajectory.reward.clone()
    reward[:, 3:] = torch.nan
    before = [copy.deepcopy(task.agent.state_dict()) for task in learner.tasks]
    metrics = learner.update(replace(trajectory, reward=reward))
    assert metrics["other/dropped"] == 1
    assert metrics["skipped"] == 0
    first, other = (task.agent.state_dict() for task in learner.tasks)
    assert not torch.equal(first["policy.weight"], before[0]["policy.weight"])
    assert torch.equal(other["policy.weight"], before[1]["policy.weight"])


def test_each_task_is_played_by_its_own_policy_and_counted_apart(build):
    learner, collector = build()
    with torch.no_grad():  # one always goes left, the other always right, which is left for it
        for task, action in zip(learner.tasks, (0, 2), strict=True):
            task.agent.policy.weight.zero_()
            task.agent.policy.bias.zero_()
            task.agent.policy.bias[action] = 100.0
    trajectory = collector.collect()
    assert (trajectory.action[:, :3] == 0).all()
    assert (trajectory.action[:, 3:] == 2).all()
    returns = [task.episodes.summary() for task in collector.tasks]
    assert [summary.finished for summary in returns] == [3, 2]
    ended = trajectory.reward.sum(0)
    expected = ended[:3].mean(), ended[3:].mean()
    assert_close(torch.tensor([s.mean_return for s in returns]), torch.stack(expected))


def test_epochs_end_when_the_policy_of_any_task_has_moved_too_far(build):
    ppo = PPOConfig(epochs=4, minibatches=1, max_kl=0.01).build(discount=0.9)
    learner, collector = build(algorithm=ppo, learning_rate=0.0)
    learner.update(collector.collect())
    assert learner.updates == 4
    metrics = {"approximate_kl": torch.tensor(0.001), "other/approximate_kl": torch.tensor(0.02)}
    assert learner._moved([metrics, metrics]) == pytest.approx(0.02)

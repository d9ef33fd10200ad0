"""Several updates from one trajectory: epochs over minibatches, as PPO asks for."""

from dataclasses import dataclass, replace
from itertools import chain

import pytest
import torch
from jaxtyping import Int
from torch import Tensor
from torch.testing import assert_close

from agents.algorithms import A2CConfig, PPOConfig, log_probability, normalized
from agents.algorithms.returns import gae
from agents.heads import Schedule, Targets
from agents.heads.distill import Distill
from agents.runtime.checkpoint import load_checkpoint, save_checkpoint
from agents.teachers import NetworkTeacher, PolicyCard
from tests.agents.updating import NAN, Head, T, collect, gradients, numbers, same, update_all

B = 4


@pytest.fixture
def play(build_catch, build_agent):
    """Plays trajectories of four environments, with values, by the agent that will learn."""

    def play(count=1, memory=0):
        env = build_catch(B)
        return collect(env, build_agent(env.spec, memory=memory), count, records_value=True)

    return play


def ppo(**options):
    return PPOConfig(**options).build(discount=0.9)


@dataclass(frozen=True)
class Marks(Targets):
    """Which environment is which."""

    mark: Int[Tensor, "N B"]


class Witness(Head):
    """Notes which environments it is shown; their cells are their names."""

    def __init__(self):
        super().__init__()
        self.seen, self.prepared = [], 0

    def prepare(self, agent, trajectory):
        self.prepared += 1
        return Marks(trajectory.state)

    def forward(self, agent, output, trajectory, targets):
        assert torch.equal(targets.mark, trajectory.state)
        self.seen.append(trajectory.state[0].tolist())
        count = torch.tensor(float(len(self.seen)))
        return replace(super().forward(agent, output, trajectory, targets), metrics={"n": count})


def marked(trajectory):
    return replace(trajectory, state=torch.arange(B).expand(T + 1, B))


# Who is in which minibatch.


@pytest.mark.parametrize("minibatches", [2, 4])
def test_every_environment_is_in_exactly_one_minibatch_of_every_epoch(
    build_learner, play, minibatches
):
    witness = Witness()
    learner = build_learner({"aux": witness}, algorithm=ppo(epochs=3, minibatches=minibatches))
    learner.update(marked(play()[0]))
    assert len(witness.seen) == 3 * minibatches
    for epoch in range(3):
        batches = witness.seen[epoch * minibatches : (epoch + 1) * minibatches]
        assert {len(batch) for batch in batches} == {B // minibatches}
        assert sorted(chain(*batches)) == list(range(B))


def test_every_epoch_is_shuffled_anew(build_learner, play):
    witness = Witness()
    learner = build_learner({"aux": witness}, algorithm=ppo(epochs=8, minibatches=4))
    learner.update(marked(play()[0]))
    orders = {tuple(chain(*witness.seen[4 * epoch : 4 * epoch + 4])) for epoch in range(8)}
    assert len(orders) > 4  # of 24


def test_one_minibatch_is_the_trajectory_as_it_is(build_learner, play):
    witness = Witness()
    learner = build_learner({"aux": witness}, algorithm=ppo(epochs=2, minibatches=1))
    learner.update(marked(play()[0]))
    assert witness.seen == [[0, 1, 2, 3]] * 2


def test_targets_are_prepared_once_heads_follow_every_update_and_steps_count_once(
    build_learner, play
):
    witness = Witness()
    learner = build_learner({"aux": witness}, algorithm=ppo(epochs=3, minibatches=2))
    learner.update(marked(play()[0]))
    assert (witness.prepared, witness.followed, learner.updates) == (1, 6, 6)
    assert learner.steps == T * B


# What is logged.


def test_what_is_logged_is_the_mean_over_all_updates(build_learner, play):
    learner = build_learner({"aux": Witness()}, algorithm=ppo(epochs=2, minibatches=2))
    metrics = learner.update(marked(play()[0]))
    # The witness counts 1, 2, 3, 4.
    assert metrics["aux/n"] == 2.5
    assert all(value.shape == () for value in metrics.values())


def test_the_count_of_skipped_updates_is_the_latest(build_learner, play):
    learner = build_learner(algorithm=ppo(epochs=2, minibatches=2))
    trajectory = play()[0]
    metrics = learner.update(replace(trajectory, reward=torch.full_like(trajectory.reward, NAN)))
    assert metrics["skipped"] == learner.skipped == learner.skipped_in_a_row == 4.0


# What is learnt.


def test_on_its_own_actions_the_first_update_is_that_of_a2c(build_learner, play):
    # Ratio 1 and an old value that is the new one: nothing is cut.  With lambda = 1 the
    # generalised advantages are those of n-step returns.
    trajectory = play()[0]
    clipped = build_learner(
        algorithm=ppo(epochs=1, minibatches=1, trace=1.0), max_gradient_norm=0.0
    )
    plain = A2CConfig(normalize_advantage=True).build(0.9)
    actor_critic = build_learner(algorithm=plain, max_gradient_norm=0.0)
    metrics = clipped.update(trajectory)
    actor_critic.update(trajectory)
    assert metrics["clipped"] == 0.0
    expected = gradients(actor_critic.agent)
    for mine, theirs in zip(gradients(clipped.agent), expected, strict=True):
        assert theirs.any()
        assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_policy_descends_along_the_gradient_of_normalized_generalised_advantages(
    build_learner, build_agent, catch, play
):
    trajectory = play()[0]
    algorithm = ppo(epochs=1, minibatches=1, value_coefficient=0.0, entropy_coefficient=0.0)
    learner = build_learner(algorithm=algorithm, max_gradient_norm=0.0)
    learner.update(trajectory)
    agent = build_agent(catch.spec)
    ends = trajectory.terminated, trajectory.truncated
    advantage = gae(trajectory.reward, trajectory.value, *ends, discount=0.9, trace=0.95)
    weight = normalized(advantage, trajectory.valid)
    chosen = log_probability(agent.unroll(trajectory).logits[:-1], trajectory.action)
    (-weight * chosen)[trajectory.valid].mean().backward()
    for part in ("torso", "policy"):
        expected = gradients(agent.parts[part])
        for mine, theirs in zip(gradients(learner.agent.parts[part]), expected, strict=True):
            assert theirs.any()
            assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("memory", [0, 5])
def test_invalid_steps_enter_no_minibatch_bit_for_bit(build_learner, play, memory):
    def learner():
        algorithm = ppo(epochs=2, minibatches=2)
        return build_learner({"aux": Head()}, algorithm=algorithm, memory=memory)

    plain, odd = learner(), learner()
    for trajectory in play(3, memory=memory):
        invalid = ~trajectory.valid
        assert invalid.any()
        # All of Catch's episodes terminate: nothing bootstraps from the last observation, which
        # is that of the invalid step; and a memory is emptied after it.
        observation, value = trajectory.observation.clone(), trajectory.value.clone()
        observation[:-1][invalid] = 100.0
        value[:-1][invalid] = 1e6
        changed = replace(
            trajectory,
            observation=observation,
            value=value,
            action=torch.where(invalid, 2 - trajectory.action, trajectory.action),
            reward=torch.where(invalid, 1e6, trajectory.reward),
            log_probability=torch.where(invalid, -50.0, trajectory.log_probability),
        )
        metrics, expected = odd.update(changed), plain.update(trajectory)
        assert same(numbers(metrics), numbers(expected))
    assert same(numbers(plain.state_dict()), numbers(odd.state_dict()))


# When the epochs end.


@pytest.mark.parametrize(
    ("minibatches", "max_kl", "updates"),
    [
        (1, None, 4),
        (1, 100.0, 4),
        # The first epoch is that of the policy that acted; the second is too far from it.
        (1, 1e-4, 2),
        # The second minibatch of the first epoch is too far already, yet the epoch is finished.
        (2, 1e-4, 2),
    ],
)
def test_no_epoch_follows_one_whose_policy_is_too_far_from_the_one_that_acted(
    build_learner, play, minibatches, max_kl, updates
):
    algorithm = ppo(epochs=4, minibatches=minibatches, max_kl=max_kl)
    learner = build_learner(algorithm=algorithm, learning_rate=0.1)
    trajectory = play()[0]
    metrics = learner.update(trajectory)
    assert learner.updates == updates
    if max_kl == 1e-4:
        # Of two updates, of which the first was that of the policy that acted.
        assert metrics["approximate_kl"] > max_kl / 2
    assert learner.steps == T * B


# Saving and restoring.


@pytest.mark.parametrize("distills", [False, True])
@pytest.mark.parametrize("memory", [0, 4])
def test_a_learner_restored_between_trajectories_goes_on_bit_for_bit(
    build_learner, build_agent, catch, play, tmp_path, memory, distills
):
    def fresh(seed=0):
        heads = {}
        if distills:
            card = PolicyCard("Catch", "", 3, (3, 5), "torch.float32", "raw", "mlp", {}, 0)
            teacher = NetworkTeacher(build_agent(catch.spec, seed=3, memory=memory and 3), card)
            heads["distill"] = Distill(teacher, 0.01, Schedule(1.0, 0.5, 60))
        algorithm = ppo(epochs=2, minibatches=2)
        return build_learner(heads, algorithm=algorithm, memory=memory, seed=seed)

    trajectories = play(4, memory=memory)
    uninterrupted, first, second = fresh(), fresh(), fresh(seed=1)
    expected = update_all(uninterrupted, trajectories)
    update_all(first, trajectories[:2])
    save_checkpoint(tmp_path, first.steps, {"learner": first.state_dict()})
    second.load_state_dict(load_checkpoint(tmp_path).state["learner"])
    metrics = update_all(second, trajectories[2:])
    assert same(numbers(second.state_dict()), numbers(uninterrupted.state_dict()))
    for mine, theirs in zip(metrics, expected[2:], strict=True):
        assert mine.keys() == theirs.keys()
        assert same(numbers(mine), numbers(theirs))

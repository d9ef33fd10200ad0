"""Phasic policy gradient: who learns from what, when the phase is due, what passes its gate."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.algorithms import PPGConfig, PPOConfig
from agents.gates import make
from agents.learning.learner import Learner
from tests.agents.updating import CONFIG, collect, numbers, same

EVERY = 3


@pytest.fixture
def build_ppg(build_agent, catch):
    """Builds a learner whose auxiliary phase comes after every third trajectory."""

    def build_ppg(gate="sum", memory=0, **options):
        agent = build_agent(catch.spec, memory=memory)
        settings = {"every": EVERY, "minibatches": 2, "auxiliary_minibatches": 2, **options}
        algorithm = PPGConfig(**settings).build(discount=0.9)
        return Learner(agent, algorithm, {}, make(gate), CONFIG)

    return build_ppg


def critic_numbers(learner):
    return numbers(learner.state_dict()["algorithm"])


def test_the_policy_phase_leaves_the_agents_value_layer_alone_and_trains_the_critic(
    build_ppg, collected
):
    learner = build_ppg()
    value, policy = copy.deepcopy(learner.agent.value), copy.deepcopy(learner.agent.policy)
    critic = critic_numbers(learner)
    learner.update(collected[0])
    assert torch.equal(learner.agent.value.weight, value.weight)
    assert not torch.equal(learner.agent.policy.weight, policy.weight)
    assert not same(critic_numbers(learner)[: len(critic)], critic)


def test_the_phase_comes_when_enough_trajectories_are_kept_and_trains_the_value_layer(
    build_ppg, collected
):
    learner = build_ppg()
    value = learner.agent.value.weight.clone()
    had_phase = ["phase/loss" in learner.update(trajectory) for trajectory in collected]
    assert had_phase == [False, False, True] * 2
    assert not torch.equal(learner.agent.value.weight, value)


def test_advantages_come_from_the_critic(build_ppg, collected):
    learner = build_ppg()
    algorithm = learner._algorithm
    with torch.no_grad():
        targets = algorithm.prepare(collected[0])
        algorithm.critic.value.bias.add_(1.0)
        moved = algorithm.prepare(collected[0])
    assert_close(moved.value, targets.value + 1.0)
    assert not torch.allclose(moved.advantage, targets.advantage)


def test_the_joint_loss_is_the_papers(build_ppg, collected):
    learner = build_ppg(kl_coefficient=0.5)
    algorithm, trajectory = learner._algorithm, collected[0]
    with torch.no_grad():
        targets = algorithm.prepare(trajectory)
        phases = [
            phase
            for _ in range(EVERY)
            for phase in algorithm.phase_batches(
                trajectory, targets, torch.Generator().manual_seed(0)
            )
        ]
        phase = phases[0]
        learner.agent.policy.bias.add_(torch.tensor([0.5, -0.5, 0.0]))
        output = learner.agent.unroll(phase.trajectory)
        loss = algorithm.phase_loss(output, phase.trajectory, phase.targets, 0.0)
        old = phase.targets.logits.softmax(-1)
        new = output.logits[:-1].softmax(-1)
        divergence = (old * (old / new).log()).sum(-1)
        distance = 0.5 * (output.value[:-1] - phase.targets.value_target).square()
        critic = algorithm.critic(learner.agent, phase.trajectory.observation[:-1])
        apart = 0.5 * (critic - phase.targets.value_target).square()
    assert divergence.min() > 0.01
    assert_close(loss.auxiliary, distance + 0.5 * divergence + apart)
    # Six epochs over three trajectories in two minibatches each.
    assert len(phases) == 6 * EVERY * 2


@pytest.mark.parametrize(("normalizes", "factor"), [(True, 1.0), (False, 4.0)])
def test_the_phase_compares_with_a_loss_in_the_unit_of_values(
    normalizes, factor, build_ppg, collected
):
    learner = build_ppg(normalize_advantage=normalizes, entropy_coefficient=0.0)
    algorithm, trajectory = learner._algorithm, collected[0]
    with torch.no_grad():
        targets = algorithm.prepare(trajectory)
        output = learner.agent.unroll(trajectory)
        targets = replace(targets, logits=output.logits[:-1])
        plain = algorithm.phase_loss(output, trajectory, targets, 0.0).main
        scale = learner.agent.value_scale
        scale.on = True
        scale.observe(torch.tensor(0.0), torch.tensor(16.0))
        assert_close(scale.unit, torch.tensor(4.0))
        scaled = algorithm.phase_loss(output, trajectory, targets, 0.0).main
    assert_close(plain, factor * scaled)


def test_the_phase_passes_the_gate(build_ppg, collected):
    def phase_of(gate):
        learner = build_ppg(gate)
        return learner, [learner.update(trajectory) for trajectory in collected[:EVERY]][-1]

    _, summed = phase_of("sum")
    _, gated = phase_of("cosine")
    assert summed["phase/passed"] == 1.0
    assert 0.0 <= gated["phase/passed"] < 1.0
    assert gated["phase/cosine"].isfinite()


def test_a_run_goes_on_exactly_with_the_trajectories_it_had_kept(build_ppg, collected):
    whole, first, second = build_ppg("cosine"), build_ppg("cosine"), build_ppg("cosine")
    for trajectory in collected[:4]:
        whole.update(trajectory)
        first.update(trajectory)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for trajectory in collected[4:]:
        assert same(
            list(whole.update(trajectory).values()), list(second.update(trajectory).values())
        )
    assert same(numbers(whole.state_dict()), numbers(second.state_dict()))


def test_a_recurrent_core_is_refused(build_ppg):
    with pytest.raises(ValueError, match="no recurrent value network"):
        build_ppg(memory=5)


def test_a_gate_that_acts_on_the_network_is_refused(build_ppg):
    with pytest.raises(ValueError, match="cannot use the gate RotoGrad"):
        build_ppg("rotograd")


def test_algorithms_without_modules_own_no_parameters(build_learner, build_catch, build_agent):
    env = build_catch()
    learner = build_learner(algorithm=PPOConfig(minibatches=2).build(0.9))
    played = collect(env, build_agent(env.spec), 1, records_value=True)[0]
    assert list(learner._algorithm.parameters()) == []
    assert not any(name.startswith("phase/") for name in learner.update(played))
    assert "algorithm" not in learner.state_dict()

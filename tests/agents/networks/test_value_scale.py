"""Values in units of their spread: what is kept when the unit changes, what rewards' scale does."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.algorithms import A2CConfig, PPGConfig, PPOConfig
from agents.gates import make
from agents.heads.multi_horizon import MultiHorizon, MultiHorizonConfig
from agents.learning.learner import Learner
from agents.networks.value_scale import LEAST, ValueScale
from tests.agents.updating import CONFIG, collect

ALGORITHMS = {
    "a2c": A2CConfig(),
    "ppo": PPOConfig(epochs=2, minibatches=2),
    "ppg": PPGConfig(every=2, minibatches=2, auxiliary_minibatches=2),
}


@pytest.fixture
def scale():
    scale = ValueScale()
    scale.on = True
    return scale


def observe(scale, *targets):
    values = torch.tensor(targets)
    scale.observe(values.mean(), values.square().mean())


def test_the_first_observation_counts_whole(scale):
    observe(scale, 1.0, 3.0, 8.0)
    assert_close(scale.unit, torch.tensor([1.0, 3.0, 8.0]).std(correction=0))
    assert scale.current == 0.0
    scale.adopt([])
    assert_close(scale.mean, torch.tensor(4.0))
    assert_close(scale.current, scale.unit)


def test_adopting_a_new_unit_changes_no_value(scale):
    layer, features = nn.Linear(5, 1), torch.randn(7, 5)
    observe(scale, 1.0, 3.0, 8.0)
    scale.adopt([layer])
    before = scale(layer(features))
    observe(scale, -200.0, 300.0)
    scale.adopt([layer])
    assert_close(scale(layer(features)), before)
    assert scale.current > 20.0


def test_targets_without_spread_have_a_unit_relative_to_their_size(scale):
    observe(scale, 50.0, 50.0)
    assert_close(scale.unit, torch.tensor(LEAST * 50.0))


def test_nothing_is_divided_by_zero_before_there_is_a_reward(scale):
    layer = nn.Linear(5, 1)
    observe(scale, 0.0, 0.0)
    scale.adopt([layer])
    assert scale.unit == 1.0
    assert not scale(layer(torch.randn(3, 5))).any()
    assert layer.weight.isfinite().all()


def test_switched_off_values_are_the_layers_output():
    scale, output = ValueScale(), torch.randn(3)
    observe(scale, 5.0, 9.0)
    scale.adopt([])
    assert torch.equal(scale(output), output)
    assert scale.unit == 1.0
    assert scale.weight == 0.0


def test_a_checkpoint_from_before_there_was_a_scale_is_read(build_agent, catch):
    agent = build_agent(catch.spec)
    state = {k: v for k, v in agent.state_dict().items() if not k.startswith("value_scale.")}
    agent.load_state_dict(state)
    assert agent.value_scale.scale == 0.0


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("factor", [2.0**-7, 2.0**7])
def test_the_size_of_rewards_does_not_change_what_is_learnt(build_agent, build_catch, name, factor):
    """Factors are powers of two, so that products are exact; the rest is rounding."""
    env = build_catch(num_envs=4)
    played = collect(env, build_agent(env.spec), 5, records_value=True)

    def learnt(times):
        agent = build_agent(env.spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            heads = {"values": MultiHorizon(MultiHorizonConfig(), agent.num_features)}
        gate = make("cosine")
        config = replace(CONFIG, normalize_value=True)
        learner = Learner(agent, ALGORITHMS[name].build(0.9), heads, gate, config)
        for trajectory in played:
            with torch.no_grad():
                value = agent.unroll(trajectory).value
            learner.update(replace(trajectory, reward=times * trajectory.reward, value=value))
        return agent

    plain, scaled = learnt(1.0), learnt(factor)
    observation = played[0].observation
    assert_close(scaled(observation).logits, plain(observation).logits, rtol=1e-3, atol=1e-5)
    assert_close(scaled(observation).value, factor * plain(observation).value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, 1e30])
def test_targets_that_are_not_finite_or_whose_squares_are_not_change_nothing(scale, wrong):
    observe(scale, wrong)
    assert scale.unit == 1.0
    observe(scale, 1.0, 3.0, 8.0)
    scale.adopt([])
    before = {name: value.clone() for name, value in scale.state_dict().items()}
    observe(scale, wrong, 2.0)
    scale.adopt([])
    for name, value in scale.state_dict().items():
        assert torch.equal(value, before[name])

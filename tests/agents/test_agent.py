import pytest
import torch
from torch.testing import assert_close

from agents.agent import ActorCritic, sample
from agents.torsos.nature import NatureConfig

N, B, A, F = 4, 2, 3, 5
"""Three actions: Catch's."""


@pytest.fixture
def observation():
    return torch.rand(N, B, 3, 5)


def test_the_output_holds_policy_and_value_of_every_observation(small_agent, observation):
    output = small_agent(observation)
    assert output.features.shape == (N, B, F)
    assert output.logits.shape == (N, B, A)
    assert output.value.shape == (N, B)
    assert output.spatial is None
    # One by one, as if there were neither time nor batch.
    for t in range(N):
        for b in range(B):
            features = small_agent.torso(observation[t, b][None]).features
            assert_close(output.features[t, b], features[0])
            assert_close(output.logits[t, b], small_agent.policy(features)[0])
            assert_close(output.value[t, b], small_agent.value(features)[0, 0])


def test_the_policy_alone_is_the_policy_of_the_whole_bit_for_bit(small_agent, observation):
    assert torch.equal(small_agent.logits(observation), small_agent(observation).logits)


def test_a_map_keeps_time_and_batch_apart():
    agent = ActorCritic(NatureConfig(width=F).build((2, 36, 36)), num_actions=A)
    output = agent(torch.randint(256, (N, B, 2, 36, 36), dtype=torch.uint8))
    assert output.spatial.shape == (N, B, 64, 1, 1)


def test_the_first_policy_is_nearly_uniform_and_the_first_value_is_not_tiny(small_agent):
    # Rows of the policy have the length 0.01, features at most 1 each: |logit| <= 0.01 sqrt(5).
    output = small_agent(torch.rand(50, B, 3, 5))
    assert output.logits.abs().max() <= 0.01 * F**0.5
    assert_close(small_agent.value.weight.norm(), torch.tensor(1.0))
    assert not small_agent.policy.bias.any()
    assert not small_agent.value.bias.any()


def test_the_parts_are_all_parameters_each_once(small_agent):
    parts = [p for part in small_agent.parts.values() for p in part.parameters()]
    assert [id(p) for p in parts] == [id(p) for p in small_agent.parameters()]


def test_actions_are_drawn_as_often_as_they_are_probable():
    # Of 40 000 draws at p = 0.1, the frequency strays by sqrt(0.09 / 40 000) = 0.0015.
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    logits = probabilities.log().expand(40_000, 4) + 7.0
    choice = sample(logits, torch.Generator().manual_seed(0))
    frequency = choice.action.bincount(minlength=4) / 40_000
    assert_close(frequency, probabilities, atol=0.01, rtol=0)


def test_an_impossible_action_is_never_drawn():
    logits = torch.tensor([0.0, -torch.inf, 0.0]).expand(1000, 3)
    assert not (sample(logits, torch.Generator().manual_seed(0)).action == 1).any()


def test_environments_draw_apart():
    choice = sample(torch.zeros(1000, 4), torch.Generator().manual_seed(0))
    assert len(choice.action.unique()) == 4


def test_the_same_generator_draws_the_same_and_goes_on_differently():
    logits = torch.randn(100, 4)
    generator = torch.Generator().manual_seed(3)
    first, second = sample(logits, generator), sample(logits, generator)
    again = sample(logits, torch.Generator().manual_seed(3))
    assert torch.equal(first.action, again.action)
    assert not torch.equal(first.action, second.action)


def test_acting_reports_the_log_probability_of_what_it_chose(small_agent, opinionated, observation):
    opinionated(small_agent)
    choice = small_agent.act(observation[0], torch.Generator().manual_seed(0))
    expected = small_agent.logits(observation)[0].log_softmax(-1)
    for b in range(B):
        assert_close(choice.log_probability[b], expected[b, choice.action[b]])
    assert not choice.log_probability.requires_grad


def test_acting_uses_its_own_generator_alone(small_agent, observation):
    before = torch.get_rng_state()
    small_agent.act(observation[0], torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


def test_bf16_is_the_torsos_alone_and_stays_near_fp32(build_agent, catch, observation):
    narrow, wide = build_agent(catch.spec, precision="bf16"), build_agent(catch.spec)
    output, expected = narrow(observation), wide(observation)
    for field in ("features", "logits", "value"):
        assert getattr(output, field).dtype == torch.float32
    # 8 bits of mantissa, two layers.
    assert_close(output.features, expected.features, atol=0.05, rtol=0)
    assert not torch.equal(output.features, expected.features)
    # What lies behind the features is exact.
    assert torch.equal(output.logits, narrow.policy(output.features))
    assert all(p.dtype == torch.float32 for p in narrow.parameters())

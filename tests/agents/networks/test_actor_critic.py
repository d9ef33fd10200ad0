from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.networks.actor_critic import ActorCritic, sample
from agents.networks.torsos import NatureConfig

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


def test_see_applies_the_torso_or_another_one_of_its_kind(build_agent, catch, observation):
    agent, other = build_agent(catch.spec), build_agent(catch.spec, seed=1)
    flat = observation.flatten(0, 1)
    assert torch.equal(agent.see(flat).features, agent.torso(flat).features)
    assert torch.equal(agent.see(flat, other.torso).features, other.torso(flat).features)
    narrow = build_agent(catch.spec, precision="bf16")
    assert narrow.see(flat, other.torso).features.dtype == torch.bfloat16


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


# With a recurrent core.

MEMORY = 6
"""Its units, and the features that policy and value see."""


@pytest.fixture
def recurrent(build_agent, catch, opinionated):
    return opinionated(build_agent(catch.spec, memory=MEMORY))


def test_without_memory_there_is_nothing_to_carry(small_agent, observation):
    assert small_agent.core is None
    assert small_agent(observation).core_state is None
    assert "core" not in small_agent.parts


def test_policy_and_value_see_what_the_core_puts_out(recurrent, observation):
    state, reset = torch.randn(B, MEMORY), torch.rand(N, B) < 0.5
    output = recurrent(observation, state, reset)
    torso = recurrent.torso(observation.flatten(0, 1)).features.view(N, B, F)
    features, after = recurrent.core(torso, state, reset)
    assert_close(output.torso, torso)
    assert_close(output.features, features)
    assert_close(output.logits, recurrent.policy(features))
    assert_close(output.value, recurrent.value(features).squeeze(-1))
    assert_close(output.core_state, after)
    assert recurrent.num_features == MEMORY
    assert list(recurrent.parts) == ["torso", "core", "policy", "value"]
    assert [id(p) for part in recurrent.parts.values() for p in part.parameters()] == [
        id(p) for p in recurrent.parameters()
    ]


def test_an_agent_that_is_told_nothing_begins_with_an_empty_memory_and_never_forgets(
    recurrent, observation
):
    zeros, nowhere = torch.zeros(B, MEMORY), torch.zeros(N, B, dtype=torch.bool)
    expected = recurrent(observation, zeros, nowhere)
    assert torch.equal(recurrent(observation).logits, expected.logits)
    assert torch.equal(recurrent.logits(observation), expected.logits)


def test_acting_step_by_step_is_reading_the_whole(recurrent, observation):
    reset = torch.tensor([[True, False], [False, False], [False, True], [False, False]])
    state = torch.randn(B, MEMORY)
    whole = recurrent(observation, state, reset)
    chance = torch.Generator().manual_seed(0)
    for t in range(N):
        choice = recurrent.act(observation[t], chance, state, reset[t])
        chosen = whole.logits[t].log_softmax(-1).gather(-1, choice.action[:, None])[:, 0]
        assert_close(choice.log_probability, chosen.detach())
        assert_close(choice.value, whole.value[t].detach())
        state = choice.core_state
    assert_close(state, whole.core_state.detach())
    assert not state.requires_grad


def test_unrolling_a_trajectory_takes_up_its_memory_and_its_resets(
    recurrent, build_trajectory, catch
):
    shape = catch.spec.observation_shape
    trajectory = build_trajectory(actions=A, shape=shape, terminated=[(0, 0)])
    state, episode_start = torch.randn(B, MEMORY), torch.tensor([False, True])
    trajectory = replace(trajectory, core_state=state, episode_start=episode_start)
    # Step 1 of environment 0 is invalid, so observation 2 opens an episode.
    reset = torch.tensor([[False, True], [False, False], [True, False], [False, False]])
    expected = recurrent(trajectory.observation, state, reset)
    assert torch.equal(recurrent.unroll(trajectory).logits, expected.logits)


def test_the_core_stays_in_float32_where_the_torso_is_in_bf16(build_agent, catch, observation):
    narrow = build_agent(catch.spec, precision="bf16", memory=MEMORY)
    output = narrow(observation)
    nowhere = torch.zeros(N, B, dtype=torch.bool)
    features, state = narrow.core(output.torso, torch.zeros(B, MEMORY), nowhere)
    assert torch.equal(output.features, features)
    assert torch.equal(output.core_state, state)
    assert state.dtype == torch.float32

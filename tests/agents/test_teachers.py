from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from agents.networks.actor_critic import ActorCritic, NotFiniteError
from agents.networks.torsos import MlpConfig
from agents.runtime.checkpoint import load_tensors, save_checkpoint, save_tensors
from agents.teachers import POLICY_FILE, export_policy, find_policy, load_policy, load_teacher
from tests.agents.cards import CPU, card_of, refusal


@pytest.fixture
def agent(small_agent, opinionated):
    return opinionated(small_agent)


@pytest.fixture
def path(tmp_path, agent, catch):
    path = tmp_path / POLICY_FILE
    export_policy(path, agent, card_of(catch.spec))
    return path


@pytest.fixture
def trajectory(build_trajectory, catch):
    return build_trajectory(actions=3, shape=catch.spec.observation_shape)


def test_what_was_exported_is_loaded_bit_for_bit(path, agent, catch, trajectory):
    loaded, card = load_policy(path, CPU)
    assert card == card_of(catch.spec)
    for part in ("torso", "policy"):
        for mine, theirs in zip(
            loaded.parts[part].parameters(), agent.parts[part].parameters(), strict=True
        ):
            assert torch.equal(mine, theirs)
    teacher = load_teacher(path, catch.spec, CPU)
    assert torch.equal(teacher(trajectory), agent.logits(trajectory.observation[:-1]))


def test_a_teacher_is_frozen_and_gives_no_gradient(path, catch, trajectory):
    teacher = load_teacher(path, catch.spec, CPU)
    assert not teacher(trajectory).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.agent.training


def test_the_value_head_is_not_exported(path):
    names = set(load_file(path))
    assert names == {
        "torso.layers.0.weight",
        "torso.layers.0.bias",
        "torso.layers.2.weight",
        "torso.layers.2.bias",
        "policy.weight",
        "policy.bias",
    }


def test_the_options_of_the_torso_are_kept(tmp_path, catch):
    agent = ActorCritic(MlpConfig(widths=(3, 2, 4)).build(catch.spec.observation_shape), 3)
    path = tmp_path / POLICY_FILE
    export_policy(path, agent, card_of(catch.spec, torso_options={"widths": (3, 2, 4)}))
    loaded, _ = load_policy(path, CPU)
    assert loaded.torso.num_features == 4
    assert torch.equal(loaded.policy.weight, agent.policy.weight)


def test_a_float16_export_is_half_as_large_and_nearly_the_same(
    path, tmp_path, agent, catch, trajectory
):
    small = tmp_path / "half.safetensors"
    export_policy(small, agent, card_of(catch.spec), dtype=torch.float16)
    assert all(weight.dtype == torch.float16 for weight in load_file(small).values())
    teacher = load_teacher(small, catch.spec, CPU)
    assert all(p.dtype == torch.float32 for p in teacher.parameters())
    # 11 bits of mantissa, logits of about 1.
    logits = agent.logits(trajectory.observation[:-1]).detach()
    assert_close(teacher(trajectory), logits, atol=0.01, rtol=0)


def test_a_folder_stands_for_the_policy_in_it(path, catch):
    assert find_policy(path.parent) == find_policy(path) == path
    assert load_teacher(path.parent, catch.spec, CPU).card.steps == 123


def test_another_action_set_is_refused_though_the_number_is_the_same(path, catch):
    spec = replace(catch.spec, name="Fetch", action_set="Fetch:up-stay-down")
    message = refusal(lambda: load_teacher(path, spec, CPU))
    assert "action set Catch:left-stay-right" in message
    assert "Fetch (raw) has Fetch:up-stay-down" in message.replace(catch.spec.protocol, "raw")


def test_another_number_of_actions_is_refused(path, catch):
    refusal(lambda: load_teacher(path, replace(catch.spec, num_actions=4), CPU))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"observation_shape": (10, 5)}, r"torch.float32 (10, 5)"),
        ({"observation_dtype": torch.uint8}, r"torch.uint8 (3, 5)"),
    ],
)
def test_other_observations_are_refused(path, catch, changes, seen):
    message = refusal(lambda: load_teacher(path, replace(catch.spec, **changes), CPU))
    assert "sees torch.float32 (3, 5)" in message
    assert f"shows {seen}" in message


def test_a_teacher_of_another_protocol_is_accepted(path, catch):
    load_teacher(path, replace(catch.spec, name="Elsewhere", protocol="other"), CPU)


def test_a_missing_policy_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.safetensors"):
        assert refusal(lambda path=path: load_policy(path, CPU)) == f"there is no policy at {path}"


def test_a_flipped_byte_is_noticed_wherever_it_is(path):
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert str(path) in refusal(lambda: load_policy(path, CPU))


@pytest.mark.parametrize("kept", [0, 7, 300, -1])
def test_a_cut_file_is_noticed(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged or foreign" in refusal(lambda: load_policy(path, CPU))


def foreign_text(path, agent, card):
    path.write_text("not a policy at all\n" * 20)


def foreign_checkpoint(path, agent, card):
    save_checkpoint(path.parent, 1, {"agent": agent.state_dict()}).rename(path)


def other_format(path, agent, card):
    export_policy(path, agent, replace(card, format="auxgate policy 2"))


def unknown_torso(path, agent, card):
    export_policy(path, agent, replace(card, torso="transformer"))


def unknown_option(path, agent, card):
    export_policy(path, agent, replace(card, torso_options={"depth": 3}))


def senseless_option(path, agent, card):
    export_policy(path, agent, replace(card, torso_options={"widths": (0,)}))


def other_sizes(path, agent, card):
    export_policy(path, agent, replace(card, torso_options={"widths": (7, 6)}))


def missing_weights(path, agent, card):
    tensors, content = load_tensors(path)
    del tensors["policy.bias"]
    save_tensors(path, tensors, content)


def unknown_weights(path, agent, card):
    tensors, content = load_tensors(path)
    save_tensors(path, tensors | {"core.weight": torch.ones(1)}, content)


@pytest.mark.parametrize(
    "write",
    [
        foreign_text,
        foreign_checkpoint,
        other_format,
        unknown_torso,
        unknown_option,
        senseless_option,
        other_sizes,
        missing_weights,
        unknown_weights,
    ],
)
def test_what_is_no_policy_of_ours_is_refused_in_one_line(path, agent, catch, write):
    write(path, agent, card_of(catch.spec))
    assert f"the policy at {path} is damaged or foreign" in refusal(lambda: load_policy(path, CPU))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.full((3,), NAN), "NaN or infinite"),
        (torch.tensor([0.0, INF, 0.0]), "NaN or infinite"),
        (torch.full((3,), 1e300, dtype=torch.float64), "NaN or infinite"),
        (torch.zeros(3, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, dtype=torch.bool), "torch.bool"),
        (torch.zeros(3, dtype=torch.complex64), "torch.complex64"),
    ],
)
def test_weights_that_mean_nothing_are_refused(path, weights, said):
    tensors, content = load_tensors(path)
    save_tensors(path, tensors | {"policy.bias": weights}, content)
    assert f"the weights policy.bias are {said}" in refusal(lambda: load_policy(path, CPU))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("env", None),
        ("steps", "x"),
        ("steps", -1),
        ("steps", 1.5),
        ("num_actions", True),
        ("observation_shape", "wide"),
        ("observation_shape", [3, None]),
        ("observation_shape", [10**12, 10**6]),
        ("env_options", []),
        ("torso_options", {"widths": [10**9, 10**9]}),
        ("torso_options", 7),
        ("core", {}),
        ("plugins", "mine"),
        ("plugins", [None]),
        ("format", None),
        ("surprise", 1),
    ],
)
def test_a_card_that_nobody_wrote_is_refused(path, entry, value):
    tensors, content = load_tensors(path)
    save_tensors(path, tensors, content | {entry: value})
    assert f"the policy at {path} is damaged or foreign" in refusal(lambda: load_policy(path, CPU))


def test_weights_that_are_not_finite_are_not_exported(path, agent, catch):
    before = path.read_bytes()
    with torch.no_grad():
        agent.policy.bias[1] = 1e5
    with pytest.raises(NotFiniteError, match=r"policy\.bias are NaN or infinite"):
        export_policy(path, agent, card_of(catch.spec), torch.float16)  # its largest is 65504
    with torch.no_grad():
        agent.policy.bias[1] = NAN
    with pytest.raises(NotFiniteError, match=r"policy\.bias are NaN or infinite"):
        export_policy(path, agent, card_of(catch.spec))
    assert path.read_bytes() == before


def test_a_teacher_is_known_by_its_policy_and_not_by_the_value_it_lacks(path, agent, catch):
    # The value of a loaded policy is drawn anew each time.
    first, second = (load_teacher(path, catch.spec, CPU) for _ in range(2))
    assert not torch.equal(first.agent.value.weight, second.agent.value.weight)
    assert first.digest == second.digest
    with torch.no_grad():
        agent.policy.bias[0] += 1e-6
    export_policy(path, agent, card_of(catch.spec))
    assert load_teacher(path, catch.spec, CPU).digest != first.digest


def test_a_teacher_of_other_worlds_is_refused(tmp_path, agent, catch):
    path = tmp_path / "elsewhere"
    export_policy(path, agent, card_of(catch.spec, world_set="4 worlds from number 0 of seed 0"))
    spec = replace(catch.spec, world_set="4 worlds from number 4 of seed 0")
    with pytest.raises(ValueError, match=r"learnt in 4 worlds from number 0 of .* but Catch has 4"):
        load_teacher(path, spec, CPU)
    load_teacher(path, replace(spec, world_set="4 worlds from number 0 of seed 0"), CPU)


def test_the_worlds_of_an_older_teacher_are_known_by_what_their_limit_was_called(
    tmp_path, agent, catch
):
    path = tmp_path / POLICY_FILE
    export_policy(path, agent, card_of(catch.spec, world_set="4 worlds+time_limit=9"))
    load_teacher(path, replace(catch.spec, world_set="4 worlds+max_episode_steps=9"), CPU)


def test_a_policy_that_reads_symbols_is_loaded_as_one(tmp_path, catch):
    torso = MlpConfig(widths=(7, 5)).build((3, 5), num_symbols=4)
    symbols = {"observation_dtype": "torch.uint8", "num_symbols": 4}
    options = {"env_options": {"terminal_rewards": (1.0, -1.0), "rows": 3}}
    path = tmp_path / "symbolic"
    agent = ActorCritic(torso, catch.spec.num_actions)
    export_policy(path, agent, card_of(catch.spec, **symbols, **options))
    loaded, card = load_policy(path, CPU)
    observation = torch.randint(4, (2, 6, 3, 5), dtype=torch.uint8)
    assert_close(loaded.logits(observation), agent.logits(observation))
    # JSON has no tuples; options must stay as they were, or no environment is built of them.
    assert card.env_options == options["env_options"]

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.heads.components import replay as replays
from agents.heads.components.replay import Replay, draw, make_replay, trajectory_bytes
from agents.runtime.checkpoint import load_checkpoint, save_checkpoint
from configs.presets import preset
from envs.base import EnvSpec, free_bytes

T, B = 3, 2
CPU = torch.device("cpu")
SPEC = EnvSpec("Made", B, (4, 6, 7), torch.uint8, 4, "Made")


@pytest.fixture
def numbered(build_trajectory):
    """A trajectory that says in its rewards which one it is and whose: 100 k + 10 b + t."""

    def numbered(number, **options):
        trajectory = build_trajectory(terminated=[(1, 1)], **options)
        length, batch = trajectory.action.shape
        reward = 100.0 * number + 10.0 * torch.arange(batch) + torch.arange(length)[:, None]
        observation = torch.arange(length + 1)[:, None] + torch.zeros(batch)
        return replace(
            trajectory,
            reward=reward,
            observation=(observation + 100 * number).fmod(256).to(torch.uint8),
            core_state=torch.full((batch, 5), float(number)),
            episode_start=torch.arange(batch) == number % batch,
        )

    return numbered


@pytest.fixture
def filled(numbered):
    """Four trajectories in a ring of three: 3, 1, 2."""
    replay = Replay(3, CPU)
    for number in range(4):
        replay.add(numbered(number))
    return replay


def test_the_oldest_makes_room_for_the_newest(filled):
    assert len(filled) == 3
    assert filled.reward[:, 0, 0].tolist() == [300.0, 100.0, 200.0]


def test_empty_places_have_no_valid_step(numbered):
    replay = Replay(3, CPU)
    assert len(replay) == 0
    trajectory = numbered(0)
    replay.add(trajectory)
    assert len(replay) == 1
    assert torch.equal(replay.valid[0], trajectory.valid)
    assert not replay.valid[1:].any()


def test_columns_are_whole_trajectories_of_single_environments(filled, numbered):
    place, environment = torch.tensor([0, 2, 1]), torch.tensor([1, 0, 0])
    columns = filled.columns(place, environment)
    sources = [(numbered(3), 1), (numbered(2), 0), (numbered(1), 0)]
    for index, (source, owner) in enumerate(sources):
        expected = source.select(torch.tensor([owner]))
        one = columns.select(torch.tensor([index]))
        for name, value in vars(expected).items():
            if value is not None:
                assert torch.equal(getattr(one, name), value), name


def test_observations_keep_their_type_and_what_they_remember_is_a_copy(numbered):
    replay, trajectory = Replay(2, CPU), numbered(1)
    replay.add(trajectory)
    assert replay.observation.dtype == torch.uint8
    trajectory.reward.fill_(7.0)
    assert replay.reward[0, 0, 0] == 100.0


def test_cells_and_values_of_the_past_are_not_kept(numbered):
    replay = Replay(2, CPU)
    seen = replace(
        numbered(0),
        state=torch.zeros(T + 1, B, dtype=torch.int64),
        value=torch.zeros(T + 1, B),
    )
    replay.add(seen)
    columns = replay.columns(torch.tensor([0]), torch.tensor([0]))
    assert columns.state is None
    assert columns.value is None


def test_trajectories_of_another_shape_are_dropped(filled, numbered):
    filled.add(numbered(7, batch=4))
    assert len(filled) == 1
    assert filled.reward.shape == (3, T, 4)
    assert filled.valid.any((1, 2)).tolist() == [True, False, False]


def test_a_saved_replay_goes_on_where_it_was(filled, numbered, tmp_path):
    save_checkpoint(tmp_path, 1, {"replay": filled.state_dict()})
    resumed = Replay(3, CPU)
    resumed.load_state_dict(load_checkpoint(tmp_path).state["replay"])
    for replay in (filled, resumed):
        replay.add(numbered(9))
    # 3 was in place 0, 1 in place 1 and was the oldest.
    assert resumed.reward[:, 0, 0].tolist() == [300.0, 900.0, 200.0]
    assert torch.equal(resumed.observation, filled.observation)
    assert torch.equal(resumed.valid, filled.valid)


def test_a_checkpoint_names_the_start_of_an_episode_as_earlier_versions_did(filled):
    saved = filled.get_extra_state()["storage"]
    assert "begins" in saved
    assert "episode_start" not in saved
    resumed = Replay(3, CPU)
    resumed.set_extra_state(filled.get_extra_state())
    place, environment = torch.tensor([0, 1]), torch.tensor([1, 0])
    restored = resumed.columns(place, environment).episode_start
    assert restored.tolist() == filled.columns(place, environment).episode_start.tolist()


def test_a_restored_replay_shares_no_memory_with_its_source(filled, numbered):
    resumed = Replay(3, CPU)
    resumed.load_state_dict(filled.state_dict())
    resumed.add(numbered(9))
    assert filled.reward[1, 0, 0] == 100.0


def test_every_true_entry_is_drawn_equally_often_and_no_other():
    mask = torch.tensor([[False, True, True], [False, False, True]])
    # 30 lots in equal distances: three entries, ten lots each.
    drawn = draw(mask, torch.arange(30) / 30)
    assert drawn.bincount(minlength=6).tolist() == [0, 10, 10, 0, 0, 10]


@settings(deadline=None, max_examples=50)
@given(
    mask=st.lists(st.booleans(), min_size=1, max_size=20),
    lot=st.floats(0, 1, exclude_max=True, width=32),
)
def test_what_is_drawn_is_true_if_anything_is(mask, lot):
    entry = draw(torch.tensor(mask), torch.tensor([lot]))
    assert 0 <= entry < len(mask)
    assert mask[int(entry)] or not any(mask)


def test_the_last_lot_draws_the_last_entry():
    lot = torch.tensor([1.0 - 2.0**-24])  # the largest float32 below 1
    assert draw(torch.tensor([True, True, True, False]), lot).tolist() == [2]


def test_the_memory_of_a_trajectory_is_that_of_its_tensors(build_trajectory):
    trajectory = build_trajectory(shape=(4, 6, 7))
    observation = torch.zeros(trajectory.observation.shape, dtype=torch.uint8)
    replay = make_replay(2 * T * B, SPEC, T, CPU)
    expected = replay.nbytes
    replay.add(replace(trajectory, observation=observation))
    assert replay.nbytes == expected == 2 * trajectory_bytes(SPEC, T)


@pytest.mark.parametrize(("steps", "size"), [(1, 1), (6, 1), (7, 2), (12, 2), (60, 10)])
def test_steps_are_rounded_up_to_whole_trajectories(steps, size):
    # T B = 6 steps each.
    assert make_replay(steps, SPEC, T, CPU).size == size


def test_unless_told_otherwise_it_remembers_sixteen_trajectories_or_4096_steps():
    # 6 steps each: 683 are 4,098.
    assert make_replay(None, SPEC, T, CPU).size == 683
    many = replace(SPEC, num_envs=4_096)
    assert make_replay(None, many, T, CPU).size == 16
    # 100 times 1,024 observations of 84 x 84 and more are 690 MiB.
    large = replace(SPEC, observation_shape=(84, 84), num_envs=1_024)
    assert make_replay(None, large, 100, CPU).size == 2


@pytest.mark.parametrize("family", ["atari", "catch", "gridworld", "gym"])
@pytest.mark.parametrize("algo", ["a2c", "ppo"])
def test_every_preset_remembers_more_than_the_present_trajectory(family, algo):
    numbers = preset(family, algo)
    shape = (4, 84, 84) if family == "atari" else (5, 5)
    spec = replace(SPEC, num_envs=numbers.num_envs, observation_shape=shape)
    replay = make_replay(None, spec, numbers.unroll_length, CPU)
    assert replay.size >= 4
    assert replay.nbytes <= 2**27


def test_a_replay_larger_than_memory_is_refused(monkeypatch):
    # 2^20 trajectories of 2 (4 x 168 + 3 x 19) = 1,458 bytes: 1.42 GiB.
    steps = 6 * 2**20
    monkeypatch.setattr(replays, "free_bytes", lambda device: 2**30)
    with pytest.raises(ValueError, match=r"^replay_steps 6291456 needs 1.4 GiB, but 1.0 GiB are"):
        make_replay(steps, SPEC, T, CPU)
    monkeypatch.setattr(replays, "free_bytes", lambda device: 2**31)
    assert make_replay(steps, SPEC, T, CPU).size == 2**20
    monkeypatch.setattr(replays, "free_bytes", lambda device: None)
    assert make_replay(steps, SPEC, T, CPU).size == 2**20


def test_free_memory_is_a_sensible_number():
    free = free_bytes(CPU)
    assert free is None or 2**20 < free < 2**50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_free_memory_of_a_gpu_is_less_than_it_has():
    device = torch.device("cuda", 0)
    assert 0 < free_bytes(device) <= torch.cuda.get_device_properties(device).total_memory

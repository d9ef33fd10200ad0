"""What the three families of envpool's games add to the contract, against envpool itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.choice import choose
from configs.errors import UsageError
from envs import EnvFamilies, find
from envs.envpool import pool
from envs.envpool.config import EnvpoolConfig
from envs.envpool.minigrid import KINDS, MinigridConfig
from envs.envpool.pool import EnvpoolEmulators
from envs.envpool.procgen import GAMES, ProcgenConfig
from envs.names import separated_seeds
from tests.envs.qt import NEEDS_QT

pytestmark = pytest.mark.atari
CPU = torch.device("cpu")
B = 2


@pytest.fixture
def play():
    """Plays an environment of a config by the same action for all, and closes it."""
    built = []

    def play(config, name, actions, num_envs=B):
        env = config.build(name, num_envs, 0, CPU)
        built.append(env)
        return env.reset(), [env.step(torch.full((num_envs,), action)) for action in actions]

    yield play
    for env in built:
        env.close()


@pytest.fixture
def by_hand():
    """A pool of envpool itself, as the same seed of a run has it."""

    def by_hand(task, **options):
        import envpool

        seeds = separated_seeds(0, B)
        return envpool.make(task, env_type="gymnasium", num_envs=B, seed=seeds, **options)

    return by_hand


def test_minigrids_cells_and_directions_become_planes_with_rows_first(play, by_hand):
    actions = (1, 2, 0, 2, 1)
    first, steps = play(MinigridConfig(), "minigrid/FourRooms", actions)
    peer = by_hand("MiniGrid-FourRooms-v0")
    raw = [peer.reset()[0], *(peer.step(np.full(B, action))[0] for action in actions)]
    seen = [first, *(step.observation for step in steps)]
    for planes, cells in zip(seen, raw, strict=True):
        objects, colours, states, directions = planes.split(KINDS, dim=1)
        for part, channel in ((objects, 0), (colours, 1), (states, 2)):
            named = part.argmax(1).numpy()  # [B, row, column]
            assert np.array_equal(named, cells["image"][..., channel].transpose(0, 2, 1))
            assert (part.sum(1) == 1).all()
        expected = torch.from_numpy(cells["direction"]).reshape(B, 1, 1).expand(B, 7, 7)
        assert torch.equal(directions.argmax(1), expected.long())
        assert (directions.sum(1) == 1).all()


def test_an_early_end_of_our_own_leaves_rewards_and_the_next_world_as_a_reset_has_them(
    play, by_hand
):
    # envpool knows nothing of the limit of 3; a reset of its pool opens the next worlds.
    config = MinigridConfig(max_episode_steps=3)
    _, steps = play(config, "minigrid/FourRooms", [0] * 6)
    peer = by_hand("MiniGrid-FourRooms-v0")
    peer.reset()
    for _ in range(4):  # the fourth step is played, and dropped
        peer.step(np.zeros(B, dtype=np.int64))
    opened, _ = peer.reset()
    assert [step.truncated.all().item() for step in steps] == [False, False, True, *[False] * 3]
    assert [step.valid.all().item() for step in steps] == [*[True] * 3, False, True, True]
    objects = steps[3].observation[:, : KINDS[0]].argmax(1).numpy()
    assert np.array_equal(objects, opened["image"][..., 0].transpose(0, 2, 1))


def test_a_success_on_the_last_step_allowed_terminates(play, monkeypatch):
    # Empty-5x5: right, down, two cells each.  envpool's own limit is put on the sixth step.
    monkeypatch.setattr(
        "envs.envpool.minigrid._MinigridEmulators.__init__",
        lambda self, task, *rest: EnvpoolEmulators.__init__(
            self, task, *rest, options={"max_episode_steps": 5}
        ),
    )
    _, steps = play(MinigridConfig(), "minigrid/Empty-5x5", (2, 2, 1, 2, 2, 0))
    assert steps[4].terminated.all()
    assert not steps[4].truncated.any()
    assert steps[4].ended.all()
    assert (steps[4].reward > 0).all()
    assert not steps[5].valid.any()


def test_a_pole_that_falls_on_the_last_step_allowed_terminates(play):
    actions = [1] * 12
    _, free = play(EnvpoolConfig(), "envpool/CartPole-v1", actions, num_envs=1)
    fell = next(t for t, step in enumerate(free, start=1) if step.terminated.any())
    for limit, ends in ((fell, "terminated"), (fell - 1, "truncated")):
        config = EnvpoolConfig(max_episode_steps=limit)
        _, steps = play(config, "envpool/CartPole-v1", actions, num_envs=1)
        last = steps[limit - 1]
        assert (last.terminated.item(), last.truncated.item()) == (
            ends == "terminated",
            ends == "truncated",
        )


@NEEDS_QT
def test_procgen_plays_the_levels_it_is_told_and_evaluation_plays_others(by_hand):
    config = ProcgenConfig(levels=5, start_level=10, difficulty="hard")
    held_out = config.held_out()
    for part, (first, end) in ((config, (10, 15)), (held_out, (15, 2**31 - 1))):
        options = {"num_levels": part.levels, "start_level": part.start_level}
        peer = by_hand("LeaperHard-v0", **options)
        opened = peer.reset()
        played = [opened[1]["level_seed"], *(peer.reset()[1]["level_seed"] for _ in range(9))]
        assert all(((first <= level) & (level < end)).all() for level in played)
        env = part.build("procgen/leaper", B, 0, CPU)
        assert np.array_equal(env.reset().numpy(), opened[0])
        env.close()
    assert config.protocol == "raw+difficulty=hard+levels=5+start_level=10"
    assert held_out.protocol == "raw+held-out+difficulty=hard"
    assert ProcgenConfig().held_out() == ProcgenConfig()


@NEEDS_QT
def test_procgens_time_is_a_truncation_with_the_true_last_frame(play):
    # An agent that stands still in a maze; the limit of 500 steps is the game's own.
    config = ProcgenConfig(levels=1)
    _, steps = play(config, "procgen/maze", [4] * 501)
    assert steps[499].truncated.all()
    assert torch.equal(steps[499].observation, steps[498].observation)
    assert not steps[500].valid.any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levels": -1}, "levels must be 0 or more"),
        ({"start_level": 3}, "start_level 3 does nothing while levels is 0"),
        ({"levels": 2**31}, "start_level and levels must be 2147483647 or less together"),
        ({"max_episode_steps": -1}, "max_episode_steps must be 0 or more"),
    ],
)
def test_levels_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        ProcgenConfig(**options)


@NEEDS_QT
def test_a_difficulty_that_a_game_lacks_is_refused_with_those_it_has():
    config = ProcgenConfig(difficulty="memory")
    with pytest.raises(ValueError, match="procgen/coinrun is easy, hard or exploration, not mem"):
        config.build("procgen/coinrun", B, 0, CPU)


def test_without_qt_one_sentence_says_what_to_install(monkeypatch):
    def missing(task):
        raise ImportError("libQt5Gui.so.5: cannot open shared object file")

    monkeypatch.setattr("envs.envpool.procgen.spec_of", missing)
    with pytest.raises(ValueError, match=r"procgen/maze needs .*apt-get install libqt5core5a"):
        ProcgenConfig().build("procgen/maze", B, 0, CPU)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("envpool/Pendulum-v1", r"actions Box.*only a finite set \(Discrete\) is supported"),
        ("envpool/FrozenLake-v1", r"observes Discrete\(16\); only arrays"),
        ("envpool/AnimalShogi-v1", "is for 2 players"),
    ],
)
def test_what_an_agent_cannot_play_is_refused_in_a_sentence(name, why):
    with pytest.raises(ValueError, match=why):
        EnvpoolConfig().build(name, B, 0, CPU)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Procgen/CoinRun", ("procgen/coinrun", "procgen")),
        ("minigrid/doorkey-6x6", ("minigrid/DoorKey-6x6", "minigrid")),
        ("MiniGrid-DoorKey-6x6-v0", ("minigrid/DoorKey-6x6", "minigrid")),
        ("MiniGrid-ObstructedMaze-Full-v1", ("minigrid/ObstructedMaze-Full-v1", "minigrid")),
        ("envpool/cartpole-v1", ("envpool/CartPole-v1", "envpool")),
        ("CartPole-v1", ("CartPole-v1", "gym")),
    ],
)
def test_every_name_leads_to_one_family(typed, found):
    assert find(typed) == found


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("procgen/conrun", "did you mean procgen/coinrun"),
        ("MiniGrid-DoorKey-7x7-v0", "did you mean minigrid/DoorKey-8x8"),
        ("CoinrunHard-v0", "choose procgen/coinrun and --env.difficulty hard"),
        ("BabyAI-GoTo-v0", "do not read missions"),
    ],
)
def test_a_wrong_name_is_refused_with_the_cure(typed, says):
    with pytest.raises(UsageError, match=says):
        choose(["--env", typed])


def test_all_of_envpools_games_of_a_family_are_known():
    assert {task.split("Easy")[0].lower() for task in pool.tasks("procgen") if "Easy" in task} == {
        *GAMES
    }
    assert len(MinigridConfig.names()) == 81


def test_without_envpool_games_are_still_known_and_refused_with_the_cure(monkeypatch):
    for module in ("pool", "minigrid", "config"):
        monkeypatch.setattr(f"envs.envpool.{module}.is_installed", lambda: False)
    for family in ("procgen", "minigrid", "envpool"):
        config = replace(getattr(EnvFamilies(), family))
        name = config.names()[0]
        with pytest.raises(ValueError, match=rf"^{name} needs envpool: pip install"):
            config.build(name, B, 0, CPU)

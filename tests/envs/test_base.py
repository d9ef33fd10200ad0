import pytest
import torch

from envs import base
from envs.atari.config import AtariConfig
from envs.base import EnvSpec, check_action, check_action_range, check_room
from envs.catch import CatchConfig
from envs.envpool.config import EnvpoolConfig
from envs.envpool.minigrid import MinigridConfig
from envs.envpool.procgen import ProcgenConfig
from envs.gridworld.config import GridConfig
from envs.gym import GymConfig
from gridworld import OptionError

CPU = torch.device("cpu")

SPEC = EnvSpec(
    name="Toy",
    num_envs=3,
    observation_shape=(5,),
    observation_dtype=torch.float32,
    num_actions=4,
    action_set="Toy:four",
)


def test_int64_actions_of_the_right_length_pass():
    check_action(torch.tensor([0, 3, 2]), SPEC)
    check_action_range(torch.tensor([0, 3, 2]), SPEC)


@pytest.mark.parametrize(
    "action",
    [
        torch.zeros(3),
        torch.zeros(3, dtype=torch.int32),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(3, 1, dtype=torch.int64),
    ],
    ids=["float", "int32", "too few", "a column"],
)
def test_other_actions_are_refused_with_what_would_be_right(action):
    with pytest.raises(ValueError, match=r"Toy takes int64 actions of shape \(3,\), not"):
        check_action(action, SPEC)


@pytest.mark.parametrize(("wrong", "found"), [(-1, "-1 to 3"), (4, "2 to 4")])
def test_actions_outside_the_range_are_refused_with_what_was_found(wrong, found):
    with pytest.raises(ValueError, match=f"the actions 0 to 3; got {found}"):
        check_action_range(torch.tensor([2, 3, wrong]), SPEC)


def test_more_environments_than_fit_into_memory_are_refused(monkeypatch):
    monkeypatch.setattr(base, "free_bytes", lambda device: 2**30)
    check_room(2**20, 2**10, CPU)
    with pytest.raises(OptionError, match=r"num_envs.* 1048577 needs 1.0 GiB or more, but 1.0 GiB"):
        check_room(2**20 + 1, 2**10, CPU)
    with pytest.raises(OptionError, match="make their observations smaller"):
        check_room(1, 2**30 + 1, CPU)
    monkeypatch.setattr(base, "free_bytes", lambda device: None)
    check_room(2**60, 2**10, CPU)  # where the system says nothing, nothing is refused


GIGANTIC = {
    "Catch": CatchConfig(rows=1000, columns=1000),
    "CartPole-v1": GymConfig(),
    "Gridworld": GridConfig(num_worlds=1),
    "procgen/coinrun": ProcgenConfig(),
    "minigrid/Empty-8x8": MinigridConfig(),
    "envpool/CartPole-v1": EnvpoolConfig(),
    "Breakout": AtariConfig(),
}


@pytest.mark.parametrize("name", GIGANTIC)
def test_every_family_refuses_environments_that_do_not_fit_before_it_makes_one(name):
    family = name.partition("/")[0]
    if family in ("procgen", "minigrid", "envpool", "Breakout"):
        pytest.importorskip("envpool")
    with pytest.raises(OptionError, match=r"num_envs.* 1000000000000 needs .* use fewer"):
        GIGANTIC[name].build(name, 10**12, 1, CPU)


def test_worlds_that_do_not_fit_into_memory_are_refused():
    worlds = GridConfig(num_worlds=2**31, height=150, width=150)
    with pytest.raises(OptionError, match=r"num_worlds.* needs .* use fewer"):
        worlds.build("Gridworld", 1, 1, CPU)

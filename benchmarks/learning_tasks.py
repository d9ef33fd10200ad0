"""What `learning.py` compares on: environments, budgets, and the numbers of each side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

CLEANRL = ("cleanrl-ppo", "cleanrl-pqn")
OURS: Mapping[str, int] = {"auxgate": 1, "auxgate-3x": 3}
"""For how many times the steps of the others: auxgate needs about a third of their core-seconds per
step on Atari, so three times the steps compare it at equal core-seconds."""
SIDES = ("auxgate", "sb3-ppo", "sb3-a2c", *CLEANRL, "auxgate-3x")


def times(side: str) -> int:
    """For how many times the steps of a task a side trains."""
    return OURS.get(side, 1)


ONE_THREAD = ("--env.num-threads", "1")
"""Of envpool, in each of our two pools; CleanRL's single pool has one as well."""


@dataclass(frozen=True)
class Task:
    """An environment, its budget, and the numbers with which each side learns it."""

    env_id: str
    """For the peers: of Gymnasium, or the name of a game."""
    steps: int
    """Agent steps, all environments counted."""
    ours: Sequence[str]
    """Flags of `train.py` but for steps and seed."""
    peers: Mapping[str, Mapping[str, Any]]
    """By side, options of its constructor or script; `num_envs` and `normalize` by these names."""
    suite: Literal["gymnasium", "minigrid", "atari", "procgen"] = "gymnasium"
    """How the peers see it: MiniGrid as one flat vector, games as their usual stacks show them."""

    @property
    def is_game(self) -> bool:
        """Whether emulators play it, and a run takes hours."""
        return self.suite in ("atari", "procgen")


def _minigrid(name: str, steps: int) -> Task:
    # rl-baselines3-zoo, ppo.yml, MiniGrid-*; CleanRL publishes no numbers for it.
    zoo = {
        "num_envs": 8, "normalize": True, "n_steps": 128, "batch_size": 64, "n_epochs": 10,
        "ent_coef": 0.0, "learning_rate": 2.5e-4,
    }  # fmt: skip
    peers: dict[str, dict[str, Any]] = {"sb3-ppo": zoo, "cleanrl-ppo": {"num_envs": 8}}
    return Task(f"MiniGrid-{name}-v0", steps, ("--env", f"minigrid/{name}"), peers, "minigrid")


def _atari(game: str) -> Task:
    # rl-baselines3-zoo, ppo.yml, atari; CleanRL's scripts have its own numbers.
    zoo = {
        "num_envs": 8, "n_steps": 128, "n_epochs": 4, "batch_size": 256, "vf_coef": 0.5,
        "ent_coef": 0.01, "learning_rate": "lin_2.5e-4", "clip_range": "lin_0.1",
    }  # fmt: skip
    scripts: dict[str, dict[str, Any]] = {side: {"env_id": f"{game}-v5"} for side in CLEANRL}
    return Task(game, 400_000, ("--env", game, *ONE_THREAD), {"sb3-ppo": zoo, **scripts}, "atari")


def _procgen(game: str) -> Task:
    # CleanRL's script plays all easy levels, as we do by default; rl-baselines3-zoo has no numbers.
    ours = ("--env", f"procgen/{game}", *ONE_THREAD)
    return Task(game, 400_000, ours, {"cleanrl-ppo": {"env_id": game}}, "procgen")


TASKS: Mapping[str, Task] = {
    "CartPole-v1": Task(
        "CartPole-v1",
        100_000,
        ("--env", "CartPole-v1"),
        {
            # rl-baselines3-zoo, ppo.yml and a2c.yml.
            "sb3-ppo": {
                "num_envs": 8,
                "n_steps": 32,
                "batch_size": 256,
                "gae_lambda": 0.8,
                "gamma": 0.98,
                "n_epochs": 20,
                "ent_coef": 0.0,
                "learning_rate": "lin_1e-3",
                "clip_range": "lin_0.2",
            },
            "sb3-a2c": {"num_envs": 8, "ent_coef": 0.0},
            # The script's defaults, with which CleanRL reports its results.
            "cleanrl-ppo": {},
        },
    ),
    "Acrobot-v1": Task(
        "Acrobot-v1",
        100_000,
        ("--env", "Acrobot-v1"),
        {
            "sb3-ppo": {
                "num_envs": 16,
                "normalize": True,
                "n_steps": 256,
                "gae_lambda": 0.94,
                "gamma": 0.99,
                "n_epochs": 4,
                "ent_coef": 0.0,
            },
            "sb3-a2c": {"num_envs": 16, "normalize": True, "ent_coef": 0.0},
            "cleanrl-ppo": {},
        },
    ),
    "Gridworld": Task(
        "auxgate/Gridworld-v0",
        200_000,
        ("--env", "Gridworld", "--algo", "ppo"),
        {
            # Nobody has tuned them for it: both sides' defaults, with 16 environments.
            "sb3-ppo": {"num_envs": 16, "n_steps": 128, "batch_size": 256},
            "sb3-a2c": {"num_envs": 16},
            "cleanrl-ppo": {"num_envs": 16},
        },
    ),
    "MiniGrid-Empty-8x8": _minigrid("Empty-8x8", 100_000),
    "MiniGrid-DoorKey-6x6": _minigrid("DoorKey-6x6", 200_000),
    "MiniGrid-Unlock": _minigrid("Unlock", 200_000),
    "Breakout": _atari("Breakout"),
    "Pong": _atari("Pong"),
    "Procgen-bigfish": _procgen("bigfish"),
}

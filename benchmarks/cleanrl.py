"""Runs CleanRL's scripts on current packages; as a program, its `ppo_atari_envpool.py`.

Nothing of CleanRL is stored here: `--cleanrl` is a clone that the user makes,

    git clone https://github.com/vwxyzjn/cleanrl ../cleanrl
    git -C ../cleanrl checkout fe8d8a03c41a7ef5b523e2e354bd01c363e786bb

A script is read from there, adapted in memory and executed, because it asks for an old gym
and an old envpool or procgen.  Each replacement below is of a short snippet that must occur
exactly once, so a script that has changed is refused, not misread.  The algorithm is left as
it is, and so are its settings and, on envpool's Atari, the autoreset steps in its losses.

    python benchmarks/cleanrl.py --cleanrl ../cleanrl --output runs/cleanrl-s1 -- --seed 1

`--output` is a folder: `episodes.csv` gets a line per finished game, with its true score,
`updates.csv` one per update.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

EPISODES, UPDATES = "episodes.csv", "updates.csv"


@dataclass(frozen=True)
class Script:
    """A script of CleanRL, and what is adapted in it.

    Names in capitals are those that `execute` gives to a script.  Scripts that report episodes
    call `ON_START()` at their first reset, and `ON_EPISODE(step, score, length)` for each
    finished game.
    """

    path: Path
    """In a clone of CleanRL."""
    replacements: tuple[tuple[str, str], ...]
    """Snippets and what takes their place; `\\g<0>` is the snippet itself."""

    def port(self, source: str) -> str:
        """Makes every replacement in the text of the script.

        Raises:
            ValueError: it is another version of the script.
        """
        for snippet, replacement in self.replacements:
            if (found := source.count(snippet)) != 1:
                raise ValueError(
                    f"--cleanrl: {self.path} holds {snippet.strip()!r} {found} times instead of "
                    "once: check out the commit that benchmarks/cleanrl.py --help names."
                )
            source = source.replace(snippet, replacement.replace("\\g<0>", snippet))
        return source

    def load(self, clone: Path) -> str:
        """Reads the script from a clone of CleanRL and ports it.

        Raises:
            ValueError: it is not there, or another version.
        """
        try:
            return self.port((clone / self.path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(
                f"--cleanrl {clone} has no {self.path}: clone CleanRL as benchmarks/cleanrl.py "
                "--help says, and give the clone's folder."
            ) from error

    def execute(self, source: str, flags: Sequence[str] = (), **names: Any) -> dict[str, Any]:
        """Runs a ported script in this process; returns its global names.

        Args:
            source: what `load` returned.
            flags: of the script's command line.
            names: global names that it finds; `__name__` unless it is `__main__`.
        """
        sys.argv = [str(self.path), *flags]
        found = {"__name__": "__main__", "__file__": str(self.path), **names}
        exec(compile(source, str(self.path), "exec"), found)
        return found


_FOLDER = Path("cleanrl")
_GYMNASIUM = ("\nimport gym\n", "\nimport gymnasium as gym\n")
_START = ("start_time = time.time()", "ON_START(); \\g<0>")

_ENVPOOL = (
    _GYMNASIUM,
    ('env_type="gym"', 'env_type="gymnasium", num_threads=ENV_THREADS'),
    # What follows is there already, and cannot be set.
    ("envs.num_envs = args.num_envs", "assert envs.num_envs == args.num_envs"),
    ("envs.single_action_space = envs.action_space", ""),
    ("envs.single_observation_space = envs.observation_space", ""),
    # The wrappers of gymnasium do not forward attributes that they do not know.
    (
        "super().__init__(env)",
        "super().__init__(env); self.single_action_space = env.single_action_space; "
        "self.single_observation_space = env.single_observation_space",
    ),
    ("observations = super().reset(", "observations, _ = super().reset("),
    (
        "observations, rewards, dones, infos = super().step(action)",
        "observations, rewards, over, cut, infos = super().step(action); dones = over | cut",
    ),
    _START,
    ("avg_returns.append(", 'ON_EPISODE(global_step, info["r"][idx], info["l"][idx]); \\g<0>'),
    ('print("SPS:"', "ON_UPDATE(global_step); \\g<0>"),
)
PPO_ENVPOOL = Script(_FOLDER / "ppo_atari_envpool.py", _ENVPOOL)
PQN_ENVPOOL = Script(_FOLDER / "pqn_atari_envpool.py", _ENVPOOL)

PPO_ATARI = Script(
    _FOLDER / "ppo_atari.py",
    # These two have other names today.
    (
        ("gym.wrappers.GrayScaleO", "gym.wrappers.GrayscaleO"),
        ("gym.wrappers.FrameStack(", "gym.wrappers.FrameStackObservation("),
    ),
)

PPO_CLASSIC = Script(
    _FOLDER / "ppo.py",
    (
        # The script was written for the autoreset of Gymnasium 0.29.
        (
            "for i in range(args.num_envs)],",
            "\\g<0> autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,",
        ),
        ("env = gym.make(env_id)\n", "env = MAKE()\n"),
        # Not read here, and of another shape today.
        ('if "final_info" in infos:', "if False:"),
    ),
)

PPO_PROCGEN = Script(
    _FOLDER / "ppo_procgen.py",
    (
        _GYMNASIUM,
        ("from procgen import ProcgenEnv\n", ""),
        ("envs = ProcgenEnv(", "envs = PROCGEN(seed=args.seed, gamma=args.gamma, "),
        # PROCGEN does what these wrappers did (`images.Procgen`).
        ('envs = gym.wrappers.TransformObservation(envs, lambda obs: obs["rgb"])', ""),
        ("envs.single_action_space = envs.action_space", ""),
        ('envs.single_observation_space = envs.observation_space["rgb"]', ""),
        ("envs.is_vector_env = True", ""),
        ("envs = gym.wrappers.RecordEpisodeStatistics(envs)", ""),
        ("envs = gym.wrappers.NormalizeReward(envs, gamma=args.gamma)", ""),
        (
            "envs = gym.wrappers.TransformReward(envs, lambda reward: np.clip(reward, -10, 10))",
            "",
        ),
        _START,
        (
            "for item in info:",
            'for item in info: ON_EPISODE(global_step, item["episode"]["r"], item["episode"]["l"])'
            "\n            \\g<0>",
        ),
    ),
)


@dataclass(frozen=True)
class Log:
    """Writes what happens, with the time, as it happens."""

    episodes: TextIO
    updates: TextIO
    began: float

    def on_episode(self, step: int, score: float, length: int) -> None:
        """Adds a finished game.

        Args:
            step: agent steps so far, all environments counted.
            score: the game's own, unclipped.
            length: agent steps of the game, autoreset steps counted.
        """
        print(f"{step},{self._seconds()},{score:g},{length}", file=self.episodes, flush=True)

    def on_update(self, step: int) -> None:
        """Adds an update, which is all epochs over one batch."""
        print(f"{step},{self._seconds()}", file=self.updates, flush=True)

    def _seconds(self) -> str:
        return f"{time.perf_counter() - self.began:.3f}"


def main(arguments: Sequence[str]) -> int:
    """Trains once; returns the exit code."""
    parser = argparse.ArgumentParser(
        "cleanrl.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cleanrl", type=Path, required=True, help="a clone of CleanRL")
    parser.add_argument("--output", type=Path, required=True, help="a folder to write into")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--env-threads", type=int, default=0, help="of envpool; 0: it chooses")
    parser.add_argument("flags", nargs="*", help="of CleanRL's script, after --")
    given = parser.parse_args(arguments)
    try:
        source = PPO_ENVPOOL.load(given.cleanrl)
    except ValueError as error:
        print(f"cleanrl.py: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    with (
        (given.output / EPISODES).open("w", encoding="utf-8") as episodes,
        (given.output / UPDATES).open("w", encoding="utf-8") as updates,
    ):
        print("step,seconds,return,length", file=episodes, flush=True)
        print("step,seconds", file=updates, flush=True)
        # The script writes event files below the folder that it runs in.
        os.chdir(given.output)
        log = Log(episodes, updates, time.perf_counter())
        hooks = {"ON_EPISODE": log.on_episode, "ON_UPDATE": log.on_update, "ON_START": lambda: None}
        PPO_ENVPOOL.execute(source, given.flags, ENV_THREADS=given.env_threads, **hooks)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs CleanRL's `ppo_atari_envpool.py` on envpool >= 1.2, as the peer of this repository's PPO.

Nothing of CleanRL is stored here: `--cleanrl` is a clone that the user makes,

    git clone https://github.com/vwxyzjn/cleanrl ../cleanrl
    git -C ../cleanrl checkout fe8d8a03c41a7ef5b523e2e354bd01c363e786bb

The script is read from there, adapted in memory and executed, for it asks for an old gym
and an old envpool.  Each replacement below is of a short snippet that must occur exactly
once, so a script that has changed is refused, not misread.  The algorithm is left as it
is, and so are its settings and the autoreset steps in its losses.

    python benchmarks/cleanrl.py --cleanrl ../cleanrl --output runs/cleanrl-s1 -- --seed 1

`--output` is a folder: `episodes.csv` gets a line per finished game, with its true score,
`updates.csv` one per update.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

SCRIPT = Path("cleanrl") / "ppo_atari_envpool.py"
EPISODES, UPDATES = "episodes.csv", "updates.csv"

REPLACEMENTS = (
    ("\nimport gym\n", "\nimport gymnasium as gym\n"),
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
    ("avg_returns.append(", 'ON_EPISODE(global_step, info["r"][idx], info["l"][idx]); \\g<0>'),
    ('print("SPS:"', "ON_UPDATE(global_step); \\g<0>"),
)
"""Snippets of the script and what takes their place; `\\g<0>` is the snippet itself."""


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


def port(source: str) -> str:
    """Makes every replacement in the text of the script.

    Raises:
        ValueError: it is another version of the script.
    """
    for snippet, replacement in REPLACEMENTS:
        if (found := source.count(snippet)) != 1:
            raise ValueError(
                f"--cleanrl: {SCRIPT} holds {snippet.strip()!r} {found} times instead of once: "
                "check out the commit that --help names."
            )
        source = source.replace(snippet, replacement.replace("\\g<0>", snippet))
    return source


def load(clone: Path) -> str:
    """Reads the script from a clone of CleanRL and ports it.

    Raises:
        ValueError: it is not there, or another version.
    """
    try:
        return port((clone / SCRIPT).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"--cleanrl {clone} has no {SCRIPT}: clone CleanRL as --help says, and give the "
            "clone's folder."
        ) from error


def execute(source: str, flags: Sequence[str], log: Log, env_threads: int) -> None:
    """Runs a ported script in this process, as if it had been called with `flags`."""
    hooks: dict[str, Callable[..., None]] = {
        "ON_EPISODE": log.on_episode,
        "ON_UPDATE": log.on_update,
    }
    sys.argv = [str(SCRIPT), *flags]
    code = compile(source, str(SCRIPT), "exec")
    exec(
        code, {"__name__": "__main__", "__file__": str(SCRIPT), "ENV_THREADS": env_threads} | hooks
    )


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
        source = load(given.cleanrl)
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
        execute(source, given.flags, Log(episodes, updates, time.perf_counter()), given.env_threads)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

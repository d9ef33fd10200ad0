"""One run of a learner on a task, as a separate process: ours, Stable-Baselines3's or CleanRL's.

    python benchmarks/learners.py sb3-ppo CartPole-v1 --seed 1 --output runs/cartpole.csv

Every learner trains on the same environment for the same number of agent steps.  The output has
200 lines: agent steps, processor time, and the mean return of the last 100 episodes.  `learning.py`
calls this script, and draws its results.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium
import torch

import envs

LINES, WINDOW = 200, 100
COLUMNS = "step,core_seconds,return"
# Annealed to zero, as rl-baselines3-zoo writes it.
LINEAR = "lin_"


@dataclass(frozen=True)
class Task:
    """An environment, its budget, and the numbers with which each side learns it."""

    env_id: str
    """Of Gymnasium, for the peers."""
    steps: int
    """Agent steps, all environments counted."""
    ours: Sequence[str]
    """Flags of `train.py` but for steps and seed."""
    peers: Mapping[str, Mapping[str, Any]]
    """By side, options of its constructor or script; `num_envs` and `normalize` by these names."""
    flat: bool = False
    """Whether the peers see one flat vector (MiniGrid's `FlatObsWrapper`)."""


def _minigrid(name: str, steps: int) -> Task:
    # rl-baselines3-zoo, ppo.yml, MiniGrid-*; CleanRL publishes no numbers for it.
    zoo = {
        "num_envs": 8, "normalize": True, "n_steps": 128, "batch_size": 64, "n_epochs": 10,
        "ent_coef": 0.0, "learning_rate": 2.5e-4,
    }  # fmt: skip
    peers: dict[str, dict[str, Any]] = {"sb3-ppo": zoo, "cleanrl-ppo": {"num_envs": 8}}
    return Task(f"MiniGrid-{name}-v0", steps, ("--env", f"minigrid/{name}"), peers, flat=True)


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
}

SIDES = ("auxgate", "sb3-ppo", "sb3-a2c", "cleanrl-ppo")


@dataclass
class Recorder:
    """Writes a learning curve while episodes end; all environments of a run share it."""

    file: TextIO
    steps: int
    num_envs: int
    began: float | None = None
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    written: int = 0

    def start(self) -> None:
        """Starts the clock with the first reset of the first environment."""
        if self.began is None:
            self.began = time.process_time()

    def ended(self, own_steps: int, value: float) -> None:
        """Takes a finished episode.

        Args:
            own_steps: steps that its environment has made; all make equally many.
            value: its return, before any normalisation.
        """
        self.returns.append(value)
        step = own_steps * self.num_envs
        if step * LINES // self.steps > self.written and step <= self.steps:
            assert self.began is not None
            self.written = step * LINES // self.steps
            mean = sum(self.returns) / len(self.returns)
            seconds = time.process_time() - self.began
            print(f"{step},{seconds:.2f},{mean:.4f}", file=self.file, flush=True)


class Recorded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells a recorder of every episode."""

    def __init__(self, env: gymnasium.Env[Any, Any], recorder: Recorder) -> None:
        super().__init__(env)
        self._recorder, self._steps, self._return = recorder, 0, 0.0

    def reset(self, **options: Any) -> Any:
        """Starts an episode."""
        self._recorder.start()
        self._return = 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        """Steps, and adds up the reward."""
        result = self.env.step(action)
        self._steps += 1
        self._return += float(result[1])
        if result[2] or result[3]:
            self._recorder.ended(self._steps, self._return)
        return result


def environment(task: Task, recorder: Recorder) -> gymnasium.Env[Any, Any]:
    """One environment of a task, as the peers see it."""
    if not task.flat:
        return Recorded(gymnasium.make(task.env_id), recorder)
    # Importing the package registers its environments.
    from minigrid.wrappers import FlatObsWrapper

    flat: gymnasium.Env[Any, Any] = FlatObsWrapper(Recorded(gymnasium.make(task.env_id), recorder))
    return flat


def stable_baselines(side: str, task: Task, seed: int, file: TextIO) -> Any:
    """Trains PPO or A2C of Stable-Baselines3; returns the model."""
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

    options = {**task.peers[side]}
    recorder = Recorder(file, task.steps, options.pop("num_envs"))
    normalize = options.pop("normalize", False)
    many = [lambda: environment(task, recorder)] * recorder.num_envs
    env: VecEnv = DummyVecEnv(many)
    env.seed(seed)
    if normalize:
        env = VecNormalize(env, gamma=options.get("gamma", 0.99))
    algorithm = getattr(stable_baselines3, side.removeprefix("sb3-").upper())
    numbers = {name: _schedule(value) for name, value in options.items()}
    return algorithm("MlpPolicy", env, seed=seed, device="cpu", **numbers).learn(task.steps)


def _schedule(value: Any) -> Any:
    if isinstance(value, str):
        initial = float(value.removeprefix(LINEAR))
        return lambda remaining: remaining * initial
    return value


REPLACEMENTS = (
    # The script was written for the autoreset of Gymnasium 0.29.
    (
        "for i in range(args.num_envs)],",
        "for i in range(args.num_envs)], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,",
    ),
    ("env = gym.make(env_id)\n", "env = MAKE()\n"),
    # Not read here, and of another shape today.
    ('if "final_info" in infos:', "if False:"),
)
"""Snippets of CleanRL's `ppo.py` and what takes their place."""


def cleanrl(task: Task, seed: int, file: TextIO, clone: Path) -> None:
    """Trains CleanRL's `ppo.py`, read from a clone and adapted in memory.

    Raises:
        ValueError: the clone has no such script, or another version.
    """
    path = clone / "cleanrl" / "ppo.py"
    if not path.is_file():
        raise ValueError(f"--cleanrl {clone} has no cleanrl/ppo.py: give a clone of CleanRL.")
    source = path.read_text(encoding="utf-8")
    for snippet, replacement in REPLACEMENTS:
        if source.count(snippet) != 1:
            raise ValueError(f"--cleanrl {clone}: ppo.py is another version ({snippet!r}).")
        source = source.replace(snippet, replacement)
    options = {"num_envs": 4, **task.peers["cleanrl-ppo"]}
    recorder = Recorder(file, task.steps, options["num_envs"])
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    sys.argv = ["ppo.py", f"--seed={seed}", f"--total-timesteps={task.steps}", "--no-cuda", *flags]
    make: Callable[[], gymnasium.Env[Any, Any]] = lambda: environment(task, recorder)  # noqa: E731
    # dataclasses look their module up by name.
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(path), "MAKE": make}
    # It writes event files below the folder that it runs in.
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        exec(compile(source, str(path), "exec"), names)


def ours(task: Task, seed: int, file: TextIO) -> None:
    """Trains as `train.py` does."""
    from experiments.results import read_table
    from experiments.training.trainer import Callback, Trainer, prepare

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        flags = [*task.ours, "--steps", str(task.steps), "--seed", str(seed), "--threads", "1"]
        flags += ["--log-steps", str(task.steps // LINES), "--run-dir", str(folder)]
        run = prepare([*flags, "--device", "cpu"])
        seconds: dict[int, float] = {}
        began = time.process_time()

        def clock(trainer: Trainer) -> None:
            seconds[trainer.learner.steps] = time.process_time() - began

        Trainer(run, callbacks=[Callback(1, clock)]).train()
        run.session.close()
        _, rows = read_table(folder / "metrics.csv")
        for row in rows:
            if row["return"]:
                step = int(row["step"])
                print(f"{step},{seconds[step]:.2f},{float(row['return']):.4f}", file=file)


def main(arguments: Sequence[str]) -> int:
    """Trains once and writes the curve; returns the exit code."""
    parser = argparse.ArgumentParser(
        "learners.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="a CSV file")
    parser.add_argument("--cleanrl", type=Path, default=Path(), help="a clone of CleanRL")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    envs.registered()
    task = TASKS[given.task]
    if given.side != "auxgate" and given.side not in task.peers:
        print(f"learners.py: {given.side} has no settings for {given.task}.", file=sys.stderr)
        return 2
    given.output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = given.output.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as file:
        print(COLUMNS, file=file)
        try:
            if given.side == "auxgate":
                ours(task, given.seed, file)
            elif given.side == "cleanrl-ppo":
                cleanrl(task, given.seed, file, given.cleanrl.resolve())
            else:
                stable_baselines(given.side, task, given.seed, file)
        except ValueError as error:
            print(f"learners.py: {error}", file=sys.stderr)
            return 2
    os.replace(unfinished, given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

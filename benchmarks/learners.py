"""One run of a learner on a task, as a separate process: ours, Stable-Baselines3's or CleanRL's.

    python benchmarks/learners.py sb3-ppo CartPole-v1 --seed 1 --output runs/cartpole.csv

Every learner trains on the same environment for the same number of agent steps.  The output has
about 200 lines: agent steps, processor time, and the mean return of the last 100 episodes.
`learning_tasks.py` has the tasks and each side's numbers; `learning.py` calls this script, and
draws its results.

An episode of Atari is a whole game, not a life, and its return is the game's own score, neither
clipped nor normalised.  Processor time is that of all threads of the process.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium
import torch

import envs
from benchmarks import cleanrl as scripts
from benchmarks import images
from benchmarks.learning_tasks import CLEANRL, OURS, SIDES, TASKS, Task, times

LINES, WINDOW = 200, 100
COLUMNS = "step,core_seconds,return"
# Annealed to zero, as rl-baselines3-zoo writes it.
LINEAR = "lin_"


@dataclass
class Recorder:
    """Writes a learning curve while episodes end; all environments of a run share it."""

    file: TextIO
    steps: int
    num_envs: int = 1
    """Of the run, if each environment tells its own steps."""
    began: float | None = None
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    written: int = 0
    """The step of the last line."""

    def start(self) -> None:
        """Starts the clock, at the first reset of the first environment."""
        if self.began is None:
            self.began = time.process_time()

    def ended(self, own_steps: int, value: float) -> None:
        """Takes a finished episode.

        Args:
            own_steps: steps that its environment has made; all make equally many.
            value: its return, before any clipping or normalisation.
        """
        self.returns.append(float(value))
        step = own_steps * self.num_envs
        if step * LINES // self.steps > self.written * LINES // self.steps and step <= self.steps:
            self._write(step)

    def finish(self, step: int) -> None:
        """Adds the end of the run, after its last update, if an episode has ended.

        Args:
            step: steps of all environments.
        """
        if self.returns and step > self.written:
            self._write(step)

    def _write(self, step: int) -> None:
        assert self.began is not None
        self.written = step
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
    if task.suite != "minigrid":
        return Recorded(gymnasium.make(task.env_id), recorder)
    # Importing the package registers its environments.
    from minigrid.wrappers import FlatObsWrapper

    flat: gymnasium.Env[Any, Any] = FlatObsWrapper(Recorded(gymnasium.make(task.env_id), recorder))
    return flat


def stable_baselines(side: str, task: Task, seed: int, file: TextIO) -> Any:
    """Trains PPO or A2C of Stable-Baselines3; returns the model."""
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    options = {**task.peers[side]}
    num_envs = options.pop("num_envs")
    normalize = options.pop("normalize", False)
    callback = None
    if task.suite == "atari":
        recorder = Recorder(file, task.steps)
        policy, env = "CnnPolicy", images.atari(task.env_id, num_envs, seed)
        callback = images.callback(recorder.ended)
        # Nothing is played before the training resets them.
        recorder.start()
    else:
        recorder = Recorder(file, task.steps, num_envs)
        policy, env = "MlpPolicy", DummyVecEnv([lambda: environment(task, recorder)] * num_envs)
        env.seed(seed)
    if normalize:
        env = VecNormalize(env, gamma=options.get("gamma", 0.99))
    algorithm = getattr(stable_baselines3, side.removeprefix("sb3-").upper())
    numbers = {name: _schedule(value) for name, value in options.items()}
    model = algorithm(policy, env, seed=seed, device="cpu", **numbers)
    model.learn(task.steps, callback)
    recorder.finish(model.num_timesteps)
    return model


def _schedule(value: Any) -> Any:
    if isinstance(value, str):
        initial = float(value.removeprefix(LINEAR))
        return lambda remaining: remaining * initial
    return value


SCRIPTS: Mapping[tuple[str, str], scripts.Script] = {
    ("cleanrl-ppo", "gymnasium"): scripts.PPO_CLASSIC,
    ("cleanrl-ppo", "minigrid"): scripts.PPO_CLASSIC,
    ("cleanrl-ppo", "atari"): scripts.PPO_ENVPOOL,
    ("cleanrl-pqn", "atari"): scripts.PQN_ENVPOOL,
    ("cleanrl-ppo", "procgen"): scripts.PPO_PROCGEN,
}
"""By side and suite."""


def cleanrl(side: str, task: Task, seed: int, file: TextIO, clone: Path) -> None:
    """Trains by a script of CleanRL's, read from a clone and adapted in memory.

    Raises:
        ValueError: the clone has no such script, or another version.
    """
    script = SCRIPTS[side, task.suite]
    source = script.load(clone)
    options = {**task.peers[side]}
    # Games tell the steps of all; the other environments their own, and there are 4 in the script.
    recorder = Recorder(file, task.steps, 1 if task.is_game else options.get("num_envs", 4))
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    # It writes event files below the folder that it runs in.
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        names = script.execute(
            source,
            [f"--seed={seed}", f"--total-timesteps={task.steps}", "--no-cuda", *flags],
            MAKE=lambda: environment(task, recorder),
            PROCGEN=images.Procgen,
            ENV_THREADS=1,
            ON_START=recorder.start,
            ON_EPISODE=lambda step, score, length: recorder.ended(step, score),
            ON_UPDATE=lambda step: None,
        )
    recorder.finish(names["global_step"])


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
    parser.add_argument("--steps", type=int, default=0, help="agent steps; 0: the task's own")
    parser.add_argument("--output", type=Path, required=True, help="a CSV file")
    parser.add_argument("--cleanrl", type=Path, default=Path(), help="a clone of CleanRL")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    envs.registered()
    task = TASKS[given.task]
    task = replace(task, steps=(given.steps or task.steps) * times(given.side))
    if given.side not in OURS and given.side not in task.peers:
        print(f"learners.py: {given.side} has no settings for {given.task}.", file=sys.stderr)
        return 2
    given.output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = given.output.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as file:
        print(COLUMNS, file=file)
        try:
            if given.side in OURS:
                ours(task, given.seed, file)
            elif given.side in CLEANRL:
                cleanrl(given.side, task, given.seed, file, given.cleanrl.resolve())
            else:
                stable_baselines(given.side, task, given.seed, file)
        except ValueError as error:
            print(f"learners.py: {error}", file=sys.stderr)
            return 2
    if len(unfinished.read_text(encoding="utf-8").splitlines()) == 1:
        print(f"learners.py: no episode ended in {task.steps} steps: give more.", file=sys.stderr)
        return 2
    os.replace(unfinished, given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

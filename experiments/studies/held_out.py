"""Trains as `train.py` does, and scores the policy in the gridworld's held-out worlds on the way.

    python -m experiments.studies.held_out -- --env Gridworld --core gru --run-dir runs/gru-s1

Flags of `train.py` follow after `--`.  The run's folder has config, versions and policy as usual,
and `held_out.csv` instead of a log: the score of the policy, every so many steps, in worlds that
it is not trained in.  Every score plays the same episodes.  `generalisation` draws them.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from agents.rollout.evaluation import Scores, play
from agents.runtime.random import generator
from configs.cli import parse
from configs.errors import UsageError
from configs.training import TrainConfig
from envs import HELD_OUT, VecEnv
from experiments.evaluation.scoreboard import interval_of
from experiments.results import options_of, split_flags
from experiments.training.endings import holding
from experiments.training.trainer import Run, Trainer, start

TABLE = "held_out.csv"
COLUMNS = "step,cpu_seconds,return,low,high,optimum,length"


@dataclass(frozen=True)
class Options:
    """When and how to score; flags of `train.py` follow after `--`."""

    every: int = 500_000
    """Agent steps between scores."""
    episodes: int = 2_000
    """Whole episodes for each score."""
    num_envs: int = 500
    """Environments stepped together in the held-out worlds."""
    seed: int = 1_000_001
    """Seed of the held-out environments and of the actions in them."""

    def __post_init__(self) -> None:
        for name in ("every", "episodes", "num_envs"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least 1, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Score:
    """The score of a policy at one step of its training."""

    step: int
    cpu_seconds: float
    """Processor time of training, without scoring."""
    scores: Scores

    def line(self) -> str:
        """One line of the table."""
        low, high = interval_of(self.scores)
        length = sum(self.scores.lengths) / len(self.scores.lengths)
        return (
            f"{self.step},{self.cpu_seconds:.1f},{self.scores.mean:.4f},{low:.4f},{high:.4f},"
            f"{self.scores.optimum:.4f},{length:.2f}"
        )


@contextmanager
def held_out(config: TrainConfig, options: Options, device: torch.device) -> Iterator[VecEnv]:
    """Builds the worlds that a run is not trained in; they are the same every time.

    Args:
        config: of the run.
        options: how many environments, and their seed.
        device: where they live.

    Raises:
        UsageError: the environment has no held-out worlds, or their optimum is unknown.
    """
    choice = config.choice
    if choice.family != "gridworld":  # no other optimum is known
        raise UsageError(
            f"--env {choice.env} has no held-out worlds of known optimum: use --env Gridworld."
        )
    own = HELD_OUT[choice.family](config.env)
    env: VecEnv = own.build(choice.env, options.num_envs, options.seed, device)
    try:
        if env.optimum is None:
            raise UsageError(
                "--env.termination-probability 0 leaves no optimum to compare with: make it larger."
            )
        yield env
    finally:
        env.close()


def scores(run: Run, options: Options) -> Iterator[Score]:
    """Trains to the end; yields a score at the start, at every interval, and at the end."""
    trainer = Trainer(run)
    learner, updates = trainer.learner, trainer.updates()
    spent, due = 0.0, 0
    while True:
        if trainer.finished or learner.steps >= due:
            with (
                held_out(run.config, options, run.session.env.device) as env,
                learner.agent.frozen(),
            ):
                actions = generator(options.seed, "evaluation", env.device)
                played = play(env, learner.agent, options.episodes, actions)
            yield Score(learner.steps, spent, played)
            due += options.every
        if trainer.finished:
            return
        began = time.process_time()
        next(updates)
        spent += time.process_time() - began


def main(arguments: Sequence[str]) -> int:
    """Trains and scores; returns the exit code."""
    own, flags = split_flags(arguments)
    options = options_of(Options, own, "held_out.py", __doc__)
    try:
        config = parse(flags)
        with held_out(config, options, torch.device("cpu")):
            pass  # before there is a folder
        run = start(config)
    except UsageError as error:
        print(f"held_out.py: {error}", file=sys.stderr)
        return 2
    with (
        closing(run.session),
        holding(run.lock, run.config, run.session),
        (run.folder / TABLE).open("w", encoding="utf-8") as table,
    ):
        print(COLUMNS, file=table)
        for score in scores(run, options):
            print(score.line(), file=table, flush=True)
            mean, optimum = score.scores.mean, score.scores.optimum
            print(f"step {score.step:,}: {mean:.2f} of {optimum:.2f}", flush=True)
        run.session.save(run.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

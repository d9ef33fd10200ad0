"""Evaluations while training: a frozen copy of the policy plays on other environments.

They are as `evaluate.py` does it: whole episodes with sampled actions, in held-out worlds where
the family has them.  Environments and actions have the same seed at every evaluation and in every
run, so differences come from the policy.  The seed is not that of `evaluate.py`, whose scores of
the best policy would otherwise be those that it was chosen by.

Training does not notice: an evaluation counts no steps, and leaves every random generator as it
was.  It follows a checkpoint of the same step, so a run that is killed meanwhile loses nothing;
resumed, it evaluates first.
"""

import copy
import csv
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from agents.learning.tasks import Task
from agents.logs.report import EVALUATIONS_FILE
from agents.networks.actor_critic import ActorCritic
from agents.rollout.evaluation import play
from agents.rollout.pipeline import Pipeline
from agents.runtime.checkpoint import DamagedFileError, load_tensors
from agents.runtime.random import generator
from agents.teachers import BEST_FILE, PolicyCard, export_policy, policy_weights
from configs.errors import UsageError
from configs.programs import NUM_ENVS
from configs.training import TrainConfig
from experiments.evaluation.players import Player
from experiments.evaluation.scoreboard import Result
from experiments.training.hardware import Hardware, StopRequest
from experiments.training.session import Session, of_task

SEED = 2_000_003
"""Of environments and actions: of no training by default, and not of `evaluate.py`."""


class Log(Protocol):
    """What an evaluation needs of the trainer's sink."""

    def note(self, text: str) -> None:
        """Takes a sentence for the user."""

    def evaluated(self, step: int, numbers: dict[str, float]) -> None:
        """Takes the numbers of one evaluation."""


def check_evaluation(config: TrainConfig, session: Session) -> None:
    """Builds one environment of the evaluations, to refuse at once what cannot be built.

    Raises:
        UsageError: it cannot be built.
    """
    if not config.run.eval_every or not session.processes.leads:
        return
    try:
        with untouched(session.env.device):
            for task, card in zip(session.learner.tasks, session.cards, strict=True):
                player = Player("", task.agent, card)
                player.build(1, SEED, _hardware(session), render=False).close()
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--eval-every: the environments of the evaluations cannot be built: {error}"
        ) from error


def _hardware(session: Session) -> Hardware:
    return Hardware(session.env.device, session.learner.agent.precision, 1, "")


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Leaves the global random generators of Python, NumPy and torch as they were.

    Some environments draw from them.  Within, they have a seed of their own.

    Args:
        device: whose generator is kept, as well as the host's.
    """
    python, legacy = random.getstate(), np.random.get_state()
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            random.seed(SEED)
            np.random.seed(SEED)
            torch.default_generator.manual_seed(SEED)
            # As in a collector: a second thread would wait for a core at every operation.
            torch.set_num_threads(1)
            yield
    finally:
        torch.set_num_threads(threads)
        np.random.set_state(legacy)
        random.setstate(python)


class Evaluator:
    """Evaluates the policies of a run when it is due, and keeps the best of each task."""

    def __init__(self, config: TrainConfig, session: Session, folder: Path) -> None:
        """Finds out what the run, if it is resumed, has evaluated so far.

        Args:
            config: of the run.
            session: whose policies are evaluated; only the leading process does.
            folder: of the run.
        """
        self._options, self._session = config.run, session
        self._every = config.run.eval_every if session.processes.leads else 0
        self._began, self._seconds = time.monotonic(), 0.0
        self._last = 0
        pairs = zip(session.learner.tasks, session.cards, strict=True)
        self._rated = [Rated(task, card, folder, config) for task, card in pairs]
        if self._every and session.learner.steps:
            self._last = last_step(folder / EVALUATIONS_FILE, session.learner.steps)
            for rated in self._rated:
                rated.read_best(session.learner.steps)

    def due(self) -> bool:
        """Whether a multiple of the interval, or the end, has been passed since the last one."""
        if not self._every:
            return False
        step = self._session.learner.steps
        ended = step >= self._options.steps and step != self._last
        return ended or step // self._every != self._last // self._every

    def evaluate(self, log: Log, stop: StopRequest) -> float:
        """Plays the episodes, logs their numbers and exports each policy that is its best so far.

        Args:
            log: takes the numbers and sentences.
            stop: ends the evaluation without a result; the run makes up for it when it is resumed.

        Returns:
            The seconds that it took.

        Raises:
            OSError: a file cannot be written.
        """
        start, step = time.monotonic(), self._session.learner.steps
        if isinstance(self._session.collector, Pipeline):
            # What is being played may use the global generators, and the cores.
            self._session.collector.settle()
        try:
            hardware = _hardware(self._session)
            results = [rated.play(hardware, step, stop) for rated in self._rated]
        except StoppedError:
            log.note(f"The evaluation at step {step:,} was stopped, and nothing of it is kept.")
            return time.monotonic() - start
        best = [rated.keep(result) for rated, result in zip(self._rated, results, strict=True)]
        seconds = time.monotonic() - start
        self._seconds += seconds
        self._last = step
        share = self._seconds / max(time.monotonic() - self._began, self._seconds, 1e-9)
        numbers = {"seconds": seconds, "share": share}
        for each in self._rated:
            numbers |= each.numbers
        log.evaluated(step, numbers)
        spent = f"{seconds:.1f} s (evaluations: {100 * share:.0f} % of the time)"
        for rated, result, is_best in zip(self._rated, results, best, strict=True):
            if rated.remark:
                log.note(rated.remark)
                rated.remark = ""
            log.note(rated.sentence(result, spent, best=is_best))
        return time.monotonic() - start


class Rated:
    """The policy of one task with its evaluations."""

    def __init__(self, task: Task, card: PolicyCard, folder: Path, config: TrainConfig) -> None:
        """Knows of no evaluation yet.

        Args:
            task: whose policy is evaluated.
            card: of the policy.
            folder: of the run.
            config: of the run.
        """
        self.numbers: dict[str, float] = {}
        """Of the last evaluation, for the log."""
        self.remark = ""
        """On the best policy that a resumed run has found; the next evaluation says it."""
        self._task, self._card, self._folder = task, card, folder
        self._options = config.run
        self._path = folder / of_task(BEST_FILE, task.name)
        self._player: ActorCritic | None = None
        self._best: float | None = None

    def read_best(self, steps: int) -> None:
        """Finds the best policy of a run that goes on from a step."""
        try:
            self._best, step = read_best(self._path)
        except FileNotFoundError:
            return
        except DamagedFileError as error:
            self.remark = f"{error}; the next evaluation replaces it."
            return
        if step > steps:
            self.remark = (
                f"{self._path.name} is of step {step:,}, which the run had reached before it went "
                "on from an earlier one; it stays until an evaluation is better."
            )

    def play(self, hardware: Hardware, steps: int, stop: StopRequest) -> Result:
        """Plays whole episodes with a frozen copy of the policy.

        Args:
            hardware: what to compute on.
            steps: of training.
            stop: ends the evaluation.

        Raises:
            StoppedError: it was stopped.
        """
        options, agent = self._options, self._copy()
        card = replace(self._card, steps=steps)
        with untouched(hardware.device):
            num_envs = min(NUM_ENVS, options.eval_episodes)
            env = Player(str(self._folder), agent, card).build(
                num_envs, SEED, hardware, render=False
            )
            try:
                actions = generator(SEED, "evaluation", env.device)
                with agent.frozen():
                    scores = play(
                        env,
                        agent,
                        options.eval_episodes,
                        actions,
                        options.eval_step_limit,
                        tell=lambda done, steps: _give_up_if(stop.requested),
                    )
            finally:
                env.close()
        return Result(
            run=str(self._folder),
            env=env.spec.name,
            protocol=env.spec.protocol,
            trained_steps=card.steps,
            seed=SEED,
            precision=hardware.precision,
            scores=scores,
        )

    def _copy(self) -> ActorCritic:
        """The policy as it would be exported: not compiled, a rotation multiplied into it."""
        agent = self._task.agent
        if self._player is None:
            self._player = copy.deepcopy(agent).requires_grad_(False)
            self._player.rotation = None
        self._player.load_state_dict(policy_weights(agent), strict=False)
        return self._player

    def keep(self, result: Result) -> bool:
        """Exports the policy if it is the best so far, and notes the numbers.

        A mean that is not finite (an environment's rewards may not be) is never the best: nothing
        would be better than NaN.

        Args:
            result: of `play`.

        Returns:
            Whether it is the best so far.

        Raises:
            OSError: the file cannot be written.
        """
        mean = result.scores.mean
        best = isfinite(mean) and (self._best is None or mean > self._best)
        if best:
            self._best = mean
            scores = result.to_json() | {"unfinished": result.scores.unfinished}
            for name in ("returns", "lengths"):
                del scores[name]
            card = replace(self._card, steps=result.trained_steps, evaluation=scores)
            export_policy(self._path, self._task.agent, card)
        prefix = f"{self._task.name}/" if self._task.name else ""
        self.numbers = {f"{prefix}{name}": x for name, x in self._measured(result).items()}
        return best

    def _measured(self, result: Result) -> dict[str, float]:
        scores, (low, high) = result.scores, result.interval
        normalised = result.human_normalised
        return {
            "mean": scores.mean,
            "interval_low": low,
            "interval_high": high,
            "episodes": float(len(scores.returns)),
            "unfinished": float(scores.unfinished),
            "median": scores.median,
            "length": float(np.mean(scores.lengths)),
            "optimum": nan if scores.optimum is None else scores.optimum,
            "human_normalised": nan if normalised is None else normalised,
            "best": nan if self._best is None else self._best,
        }

    def sentence(self, result: Result, spent: str, *, best: bool) -> str:
        """What the user is told of an evaluation.

        Args:
            result: of `play`.
            spent: the time of all evaluations at this step.
            best: as `keep` has found.
        """
        scores, (low, high) = result.scores, result.interval
        of = f" of {self._task.name}" if self._task.name else ""
        text = (
            f"Evaluation{of} at step {result.trained_steps:,}: mean return {scores.mean:,.2f} "
            f"(95 % interval {low:,.2f} to {high:,.2f}), {len(scores.returns)} episodes"
        )
        if result.human_normalised is not None:
            text += f", human-normalised {100 * result.human_normalised:.0f} %"
        if result.of_optimum is not None:
            text += f", {100 * result.of_optimum:.0f} % of the optimum {scores.optimum:,.2f}"
        text += f", {spent}"
        if best:
            text += "; the best so far"
        if scores.unfinished:
            text += (
                f". {scores.unfinished} of them had not ended after "
                f"{self._options.eval_step_limit:,} steps (--eval-step-limit) and count with "
                "their returns so far"
            )
        return f"{text}."


def read_best(path: Path) -> tuple[float, int]:
    """Mean return and step of the evaluation of a best policy.

    Args:
        path: of the policy's file.

    Raises:
        FileNotFoundError: there is none yet.
        DamagedFileError: the best policy's file cannot be read, or its mean is not finite.
    """
    _, card = load_tensors(path)
    try:
        mean, step = float(card["evaluation"]["mean"]), int(card["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} has no evaluation") from error
    if not isfinite(mean):
        raise DamagedFileError(f"the mean return of {path} is {mean}")
    return mean, step


def best_so_far(folder: Path) -> str:
    """A sentence on the best evaluation of a run, for its end."""
    try:
        mean, step = read_best(folder / BEST_FILE)
    except FileNotFoundError:
        return "No evaluation with a finite score was made yet."
    except DamagedFileError as error:
        return f"The best evaluation is unknown: {error}."
    return f"Best evaluation {mean:,.2f} at step {step:,}, policy in {folder / BEST_FILE}."


def last_step(path: Path, most: int) -> int:
    """The step of the last evaluation in `evaluations.csv`, up to step `most`; 0 if none."""
    if not path.is_file():
        return 0
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        steps: list[Any] = [row.get("step") or "" for row in csv.DictReader(file)]
    return max((int(step) for step in steps if step.isdecimal() and int(step) <= most), default=0)


class StoppedError(Exception):
    """The user wants the run to end before its evaluation has."""


def _give_up_if(requested: bool) -> None:
    if requested:
        raise StoppedError

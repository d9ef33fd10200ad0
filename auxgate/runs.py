"""Training from Python: what `train.py` does, with keywords for flags and exceptions for exits."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auxgate.__main__ import lacking

# First, so that a missing package is one sentence and not the name of some module.
if missing := lacking():
    raise ImportError(missing)

import numpy as np
from jaxtyping import Float

from agents.logs.report import METRICS_FILE
from agents.networks.actor_critic import ActorCritic
from agents.rollout.evaluation import Scores
from agents.runtime.distributed import leave
from agents.teachers import POLICY_FILE, load_policy
from configs.cli import parse_evaluate
from configs.errors import UsageError
from configs.training import TrainConfig
from experiments.evaluation import command as evaluation
from experiments.training import trainer
from experiments.training.command import farewell
from experiments.training.endings import ruin
from experiments.training.hardware import choose_hardware

__all__ = ["DivergedError", "Run", "UsageError", "train"]

Value = str | int | float | bool | Path | Sequence[str | int | float] | None
"""Of an option: several for a flag that takes several, None for its default."""


class DivergedError(RuntimeError):
    """The loss was not finite for too many updates in a row; names the run's folder."""


@dataclass(frozen=True)
class Run:
    """A run on the disk: all there is to know of it is in its folder."""

    folder: Path
    config: TrainConfig
    steps: int
    """Agent steps made so far."""

    @property
    def finished(self) -> bool:
        """Whether all steps were made; if not, Ctrl-C was: go on with `train(resume=folder)`."""
        return self.steps >= self.config.run.steps

    def metrics(self) -> dict[str, Float[np.ndarray, " lines"]]:
        """The columns of `metrics.csv` by name (see docs/metrics.md); nan where nothing was."""
        with (self.folder / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            columns, *rows = csv.reader(file)
        return {
            name: np.array([float(row[index] or "nan") for row in rows])
            for index, name in enumerate(columns)
        }

    def policy(self, device: str = "auto") -> ActorCritic:
        """Loads the trained policy, ready to `act`."""
        hardware = choose_hardware(device, "auto", 0, playing=True)
        return load_policy(self.folder / POLICY_FILE, hardware.device, hardware.precision)[0]

    def evaluate(self, episodes: int = 100, **options: Value) -> Scores:
        """Plays whole episodes and writes `evaluation.json`, as `evaluate.py` does.

        Of several tasks the main one is played.

        Args:
            episodes: how many.
            options: further flags of `evaluate.py` (`num_envs=8`, `seed=3`, `output="s.csv"`).

        Raises:
            UsageError: an option is unknown or wrong, or the policy cannot be played.
        """
        if "video" in options:
            raise UsageError("video has no effect here: film a policy by evaluate.py --video.")
        words = [str(self.folder), *flags({"episodes": episodes, **options})]
        return evaluation.evaluate(parse_evaluate(words))[0].scores


def train(
    env: str | None = None,
    aux: str | Sequence[str] = (),
    gate: str | None = None,
    steps: int | None = None,
    *,
    options: Mapping[str, Value] | None = None,
    **more: Value,
) -> Run:
    """Trains as `train.py` does with the same flags, and returns the run.

    Ctrl-C (or the notebook's stop) ends training after the update, saves and returns a run that
    is not `finished`; `train(resume=run.folder)` goes on.

    Args:
        env: environment by its name (`Catch`, `Breakout`, `CartPole-v1`); by default Breakout.
        aux: auxiliary heads by name, one or several.
        gate: through which their gradients pass; by default cosine where there are heads.
        steps: agent steps, of all environments together; by default the environment's.
        options: all other flags by name, without the leading `--`:
            `{"aux.distill.temperature": 0.1, "seed": 2}`.
        more: the same as keywords, with `__` for the dot: `aux__distill__temperature=0.1`.

    Raises:
        UsageError: what `train.py` refuses, with the sentence that it prints.
        DivergedError: the loss stayed non-finite; the weights before are in the run's folder.
        OSError: the run's folder cannot be written any more.
    """
    heads = {"aux": [aux] if isinstance(aux, str) else list(aux)} if aux else {}
    named: dict[str, Value] = {"env": env, **heads, "gate": gate, "steps": steps}
    words = flags({**named, **(options or {}), **more})
    try:
        run = trainer.prepare(words)
        try:
            code = trainer.Trainer(run).train()
            farewell(run, code)
        finally:
            run.session.close()
    finally:
        leave()
    if code == trainer.DIVERGED:
        raise DivergedError(ruin(run.session.learner, run.folder, run.config.run.max_skipped))
    return Run(run.folder, run.config, run.session.learner.steps)


def flags(options: Mapping[str, Value]) -> list[str]:
    """The words of a command line that say the same: `{"a__b_c": 1}` is `--a.b-c 1`."""
    words: list[str] = []
    for name, value in options.items():
        path, _, last = name.replace("__", ".").rpartition(".")
        prefix = f"{path.replace('_', '-')}." if path else ""
        last = last.replace("_", "-")
        match value:
            case None:
                continue
            case bool():
                words.append(f"--{prefix}{last}" if value else f"--{prefix}no-{last}")
            case str() | int() | float() | Path():
                words += [f"--{prefix}{last}", str(value)]
            case _:
                words += [f"--{prefix}{last}", *map(str, value)]
    return words

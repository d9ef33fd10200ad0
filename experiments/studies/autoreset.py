"""Trains with the autoreset steps in the losses, to see what masking them is worth.

An environment that ended ignores the action of the next step and answers with the first
observation of a new episode.  That step is nobody's doing: `train.py` keeps it out of every
loss, CleanRL and others learn from it, with reward 0 and the action that was discarded.
`--unmasked` makes `train.py` do the same, and changes nothing else; without it this is
`train.py`.  Pairs of runs with the same seed differ in this alone.

    python -m experiments.studies.autoreset --unmasked -- --env Breakout --run-dir runs/unmasked
    python -m experiments.studies.autoreset -- --env Breakout --run-dir runs/masked

The run's `versions.json` says `"variant": "unmasked"`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import tyro
from jaxtyping import Bool
from torch import Tensor

import train
from agents.rollout.collector import Collector
from agents.trajectory import Trajectory
from experiments.results import split_flags
from experiments.training import build
from experiments.training import run_folder as rundir

VARIANT = "unmasked"


@dataclass(frozen=True)
class Options:
    """Whether it is `train.py` or not; flags of `train.py` follow after `--`."""

    unmasked: bool = False
    """Let the autoreset steps into every loss."""


@dataclass(frozen=True)
class Unmasked(Trajectory):
    """A trajectory all of whose steps count; a recurrent core is reset as ever."""

    opens: Bool[Tensor, "T+1 B"] | None = None
    """What `reset` was before: it follows from the steps that are not valid."""

    @property
    def reset(self) -> Bool[Tensor, "T+1 B"]:
        """Which observations open an episode."""
        assert self.opens is not None
        return self.opens


def unmask(trajectory: Trajectory) -> Unmasked:
    """The same trajectory, but with no step marked as invalid."""
    parts = {field.name: getattr(trajectory, field.name) for field in fields(trajectory)}
    parts["valid"] = torch.ones_like(trajectory.valid)
    return Unmasked(**parts, opens=trajectory.reset)


class UnmaskedCollector(Collector):
    """Collects as ever, and hands on trajectories all of whose steps count."""

    def collect(self) -> Trajectory:
        """Plays T agent steps in every environment."""
        return unmask(super().collect())


def switch() -> None:
    """Makes the runs of this process learn from autoreset steps, and say so."""
    describe = rundir.versions

    def described() -> dict[str, Any]:
        return describe() | {"variant": VARIANT}

    build.Collector = UnmaskedCollector  # type: ignore[attr-defined]
    rundir.versions = described


def main(arguments: Sequence[str]) -> int:
    """Trains; returns the exit code."""
    own, flags = split_flags(arguments)
    if tyro.cli(Options, args=own, description=__doc__).unmasked:
        switch()
    return train.main(flags)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

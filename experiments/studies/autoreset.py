"""Trains with the autoreset steps in the losses, to measure what masking them is worth.

After an episode ends, the environment ignores the next action and returns the first observation
of a new episode.  `train.py` masks that step in every loss; CleanRL and others learn from it, with
reward 0 and the ignored action.  With `--unmasked`, this program learns from it too and changes
nothing else; without it, the program is `train.py`.  Pairs of runs with the same seed differ only
in the mask.

    python -m experiments.studies.autoreset --unmasked -- --env Breakout --run-dir runs/unmasked
    python -m experiments.studies.autoreset -- --env Breakout --run-dir runs/masked

The `versions.json` of an unmasked run has `"variant": "unmasked"`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.rollout.collector import Collector
from agents.trajectory import Trajectory
from experiments.results import options_of, split_flags
from experiments.training.build import USUAL, Parts
from experiments.training.command import main as train

VARIANT = "unmasked"
KEEPERS = {"value_replay", "ppg"}
"""Head and algorithm that learn again from trajectories that they have stored."""


@dataclass(frozen=True)
class Options:
    """What to change; flags of `train.py` follow after `--`."""

    unmasked: bool = False
    """Learn from autoreset steps in every loss."""


@dataclass(frozen=True)
class Unmasked(Trajectory):
    """A trajectory without a mask; a recurrent core is still reset at each new episode."""

    opens: Bool[Tensor, "T+1 B"] | None = None
    """`reset` of the masked trajectory, which derives it from the mask."""

    @property
    def reset(self) -> Bool[Tensor, "T+1 B"]:
        """Which observations are the first of an episode."""
        assert self.opens is not None
        return self.opens


def unmask(trajectory: Trajectory) -> Unmasked:
    """Returns the trajectory with every step valid."""
    parts = {field.name: getattr(trajectory, field.name) for field in fields(trajectory)}
    parts["valid"] = torch.ones_like(trajectory.valid)
    return Unmasked(**parts, opens=trajectory.reset)


class UnmaskedCollector(Collector):
    """Collects as `Collector` does, and makes every step valid."""

    def collect(self) -> Trajectory:
        """Plays T agent steps in every environment."""
        return unmask(super().collect())


UNMASKED = Parts(collector=UnmaskedCollector, variant=VARIANT)


def main(arguments: Sequence[str]) -> int:
    """Trains; returns the exit code."""
    own, flags = split_flags(arguments)
    options = options_of(Options, own, "autoreset.py", __doc__)
    words = {part for word in flags for part in word.split("=")}
    kept = sorted(words & KEEPERS) if options.unmasked else []
    if kept:
        print(
            f"autoreset.py: --unmasked does not go with {kept[0]}, which stores trajectories and "
            "finds autoreset steps by their mask: leave it out.",
            file=sys.stderr,
        )
        return 2
    return train(flags, UNMASKED if options.unmasked else USUAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""All chunks of a sweep together, one number per world."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from configs.sweep import SweepConfig
from configs.sweeping.arms import Arm, Teaching, arms, teachings
from configs.sweeping.chunks import Chunk


@dataclass(frozen=True)
class Results:
    """What the students of W worlds have reached, averaged over the seeds of each."""

    config: SweepConfig
    expected_return: Float[np.ndarray, "points K W"]
    """Of each arm, exact."""
    cosine: Float[np.ndarray, "intervals K W"]
    weight: Float[np.ndarray, "intervals K W"]
    teacher: Float[np.ndarray, "teachings W"]
    """What each teacher earns in the student's world."""
    optimum: Float[np.ndarray, " W"]
    random: Float[np.ndarray, " W"]
    cells: Float[np.ndarray, " W"]
    """On which one can come to act."""
    aliased: Float[np.ndarray, " W"]
    """Of these, cells that look like another of them."""

    @staticmethod
    def join(config: SweepConfig, chunks: Sequence[Chunk]) -> "Results":
        """Puts the chunks, in their order, side by side."""

        def joined(name: str) -> Float[np.ndarray, "*shape"]:
            rows = np.concatenate([getattr(chunk, name).double().numpy() for chunk in chunks], -1)
            by_world = rows.reshape(*rows.shape[:-1], -1, config.seeds)
            return np.asarray(by_world.mean(-1))

        names = [name for name in Results.__dataclass_fields__ if name != "config"]
        return Results(config, **{name: joined(name) for name in names})

    @property
    def num_worlds(self) -> int:
        """W."""
        return len(self.optimum)

    @property
    def steps(self) -> Float[np.ndarray, " points"]:
        """The agent steps of each student at the points of the curves (updates, where exact)."""
        return np.asarray(self.config.log_points, float) * self.config.steps_per_update

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Main-only first."""
        return arms(self.config)

    def curves(self, gate: str, teaching: Teaching | None) -> Float[np.ndarray, "points W"]:
        """The returns of one arm."""
        return np.asarray(self.expected_return[:, self.arms.index(Arm(gate, teaching))])

    def taught_by(self, teaching: Teaching) -> Float[np.ndarray, " W"]:
        """What one teacher earns in the students' worlds."""
        return np.asarray(self.teacher[teachings(self.config).index(teaching)])

    def final(self) -> Float[np.ndarray, "K W"]:
        """The returns at the end."""
        return np.asarray(self.expected_return[-1])

    def area(self) -> Float[np.ndarray, "K W"]:
        """The mean of each curve over the steps, by the trapezoidal rule."""
        return np.asarray(np.trapezoid(self.expected_return, self.steps, axis=0) / self.steps[-1])

"""Default numbers of each family of environments and algorithm, with their sources."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """What a run uses unless told otherwise."""

    algo: str
    torso: str
    steps: int
    num_envs: int
    unroll_length: int
    learning_rate: float
    discount: float = 0.99  # Mnih et al. 2016, sec. 5

    @property
    def run(self) -> dict[str, Any]:
        """The numbers alone, by the names that `RunOptions` gives them."""
        return {name: value for name, value in asdict(self).items() if name not in COMPONENTS}


COMPONENTS = ("algo", "torso")
"""The fields of a preset that choose components."""


PRESETS = {
    # Budget: 10 M agent steps = 40 M frames, as most published PyTorch results.
    "atari": Preset("a2c", "nature", 10_000_000, 32, 8, learning_rate=1.5e-3),
    "catch": Preset("a2c", "mlp", 200_000, 32, 8, learning_rate=3e-3),
    # Our choice: benchmarks/results/gridworld_agent/tuning.csv. A minute without a core.
    "gridworld": Preset("a2c", "mlp", 8_000_000, 256, 16, learning_rate=2e-3),
    # CartPole-v1 is solved in about a minute.
    "gym": Preset("a2c", "mlp", 300_000, 16, 16, learning_rate=5e-3, discount=0.98),
}
"""By family, for its default algorithm."""

PPO = {
    # OpenAI Baselines, ppo2/defaults.py, atari(): 8 environments, 128 steps, 2.5e-4 to 0.
    "atari": {"num_envs": 8, "unroll_length": 128, "learning_rate": 2.5e-4},
    "catch": {"num_envs": 32, "unroll_length": 16, "learning_rate": 3e-3},
    # Long enough to remember what was seen on the way; the same table.
    "gridworld": {
        "steps": 5_000_000,
        "num_envs": 128,
        "unroll_length": 64,
        "learning_rate": 2e-3,
    },
    "gym": {"num_envs": 16, "unroll_length": 32, "learning_rate": 2.5e-3},
}
"""What PPO, whose epochs need longer trajectories and smaller steps, has otherwise."""


def preset(family: str, algo: str | None = None) -> Preset:
    """The defaults of a family of `EnvFamilies`, for its own algorithm if none is named."""
    numbers = PRESETS[family]
    if algo is None or algo == numbers.algo:
        return numbers
    changes = PPO[family] if algo in ("ppo", "ppg") else {}
    return replace(numbers, algo=algo, **changes)  # type: ignore[arg-type]

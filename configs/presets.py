"""Default numbers of each family of environments, with their sources."""

from dataclasses import dataclass


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
    max_gradient_norm: float = 0.5  # OpenAI Baselines, a2c


PRESETS = {
    # Budget: 10 M agent steps = 40 M frames, as most published PyTorch results.
    "atari": Preset("a2c", "nature", 10_000_000, 32, 8, learning_rate=1.5e-3),
    "catch": Preset("a2c", "mlp", 200_000, 32, 8, learning_rate=3e-3),
    # CartPole-v1 is solved in about a minute.
    "gym": Preset("a2c", "mlp", 300_000, 16, 16, learning_rate=5e-3, discount=0.98),
}


def preset(family: str) -> Preset:
    """The defaults of a family of `EnvFamilies`."""
    return PRESETS[family]

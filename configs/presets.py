"""Default numbers of each family of environments and algorithm, with their sources."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import sqrt
from typing import Any

BY_OBSERVATION = ""
"""In the place of a torso: `usual_torso` chooses it for each environment."""


@dataclass(frozen=True)
class Preset:
    """What a run uses unless told otherwise."""

    algo: str
    torso: str
    """Of every environment; `BY_OBSERVATION` where the environments differ too much for one."""
    steps: int
    num_envs: int
    unroll_length: int
    learning_rate: float
    learning_rate_end: float = 0.0
    discount: float = 0.99  # Mnih et al. 2016, sec. 5
    normalize_value: bool = True
    adam_beta_1: float = 0.9
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the algorithm's options are, where they differ from its own defaults."""
    source: str = ""
    """Where the numbers come from, for `train.py --preset`."""

    @property
    def run(self) -> dict[str, Any]:
        """The numbers of the run, by the names that `RunOptions` gives them."""
        names = (item.name for item in fields(self) if item.name not in NOT_OF_A_RUN)
        return {name: getattr(self, name) for name in names}


NOT_OF_A_RUN = ("algo", "torso", "options", "source")
"""The fields of a preset that are no options of the run."""


STUDY = "benchmarks/results/value_scale/runs.csv"

CONTROL = Preset(
    "ppo",
    BY_OBSERVATION,
    steps=100_000,
    num_envs=16,
    unroll_length=32,
    learning_rate=2.5e-3,
    discount=0.98,
    options={"epochs": 8},
    source=f"CartPole-v1 and Acrobot-v1 in {STUDY}",
)
"""Of families whose best-known environments are those of classic control."""

PRESETS = {
    # Budget: 10 M agent steps = 40 M frames, as most published PyTorch results.
    "atari": Preset(
        *("a2c", "nature", 10_000_000, 32, 8),
        learning_rate=1.5e-3,
        normalize_value=False,  # clipped rewards have one scale already
        source="benchmarks/results/atari_preset/probes.csv; 40 M frames as most published results",
    ),
    "catch": Preset(
        *("a2c", "mlp", 200_000, 32, 8),
        learning_rate=3e-3,
        source="solved in three of three seeds (benchmarks/results/quick.csv)",
    ),
    "gridworld": Preset(
        "a2c",
        "mlp",
        8_000_000,
        num_envs=64,
        unroll_length=16,
        learning_rate=2e-3,
        options={"value_coefficient": 0.05},
        source=STUDY,
    ),
    "gym": CONTROL,
    # They normalise rewards; here values are in units of their spread.
    "procgen": Preset(
        *("ppo", "impala", 25_000_000, 64, 256),
        learning_rate=5e-4,
        learning_rate_end=5e-4,
        discount=0.999,
        options={"epochs": 3, "minibatches": 8, "clip": 0.2},
        source="Cobbe et al. 2020 (arXiv:1912.01588), appendix D; budget of easy games, sec. 2.3",
    ),
    "minigrid": Preset(
        *("ppo", "mlp", 500_000, 16, 128),
        learning_rate=1e-3,
        # Rewards come at the goal alone: without more entropy some seeds never meet one, and
        # without a floor some unlearn what they have solved.
        options={
            **{"epochs": 4, "minibatches": 8, "clip": 0.2},
            **{"entropy_coefficient": 0.03, "advantage_floor": 0.3},
        },
        source="DoorKey-6x6 in benchmarks/results/value_scale/minigrid.csv",
    ),
    "envpool": CONTROL,
}
"""By family, for its default algorithm."""

PPO: Mapping[str, Mapping[str, Any]] = {
    "atari": {
        "num_envs": 8,
        "unroll_length": 128,
        "learning_rate": 2.5e-4,
        "source": "OpenAI Baselines, ppo2/defaults.py, atari()",
    },
    "catch": {
        "num_envs": 32,
        "unroll_length": 16,
        "learning_rate": 3e-3,
        "source": "benchmarks/results/ppg/catch.csv",
    },
    "gridworld": {
        "steps": 5_000_000,
        "num_envs": 64,
        "unroll_length": 32,
        "learning_rate": 2e-3,
        "options": {"clip": 0.2, "value_coefficient": 0.2},
    },
}
"""What PPO, whose epochs need longer trajectories and smaller steps, has otherwise."""

PPG: Mapping[str, Mapping[str, Any]] = {
    family: {**changes, "options": {}, "source": "PPO's numbers"}
    for family, changes in {**PPO, "minigrid": {}, "gym": {}, "envpool": {}}.items()
} | {
    # Cobbe et al. 2021 (arXiv:2009.04416), appendix A.
    "procgen": {
        "options": {"minibatches": 8, "auxiliary_minibatches": 16},
        "source": "Cobbe et al. 2021 (arXiv:2009.04416), appendix A",
    },
}
"""What PPG has otherwise: PPO's numbers, but its own options, of which none was tuned."""

A2C_CONTROL: Mapping[str, Any] = {
    "steps": 300_000,
    "unroll_length": 16,
    "learning_rate": 5e-3,
    "source": f"{STUDY}; A2C is unsteady there",
}
"""What A2C has otherwise in classic control."""

CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "ppo": PPO,
    "ppg": PPG,
    "a2c": {"gym": A2C_CONTROL, "envpool": A2C_CONTROL},
    # Without a main loss the heads are trained as often as with A2C, to compare with it.
    "none": {family: {} for family in PRESETS},
}
"""By algorithm and family: what differs from the family's default algorithm."""

NEUTRAL: Mapping[str, Any] = {
    "num_envs": 32,
    "unroll_length": 16,
    "learning_rate": 1e-3,
    "learning_rate_end": 0.0,
    "options": {},
    "source": "neutral: nobody tuned it",
}
"""For an algorithm that is not tuned in a family; the learning rate is PyTorch's for Adam."""

UNKNOWN = Preset("a2c", "mlp", steps=1_000_000, **NEUTRAL)
"""For a family without a preset."""

ON_GPU: Mapping[tuple[str, str], Mapping[str, Any]] = {
    # Emulators feed a network of some size: so many keep it busy while it learns from the last
    # trajectory.
    ("atari", "a2c"): {"num_envs": 128, "pipeline": True},
    # Environments and network share the device, and one more environment costs next to nothing.
    ("gridworld", "a2c"): {"num_envs": 4_096},
}
"""What runs on a GPU have otherwise, by family and algorithm, besides their learning rate."""

_added: dict[tuple[str, str], Preset] = {}


def register(family: str, numbers: Preset) -> None:
    """Gives a family, or an algorithm in it, the default numbers of a plugin.

    Args:
        family: of environments.
        numbers: for the algorithm they name; the first that are registered for a family without a
            preset also say which algorithm and torso are its defaults.

    Raises:
        ValueError: the algorithm has numbers in this family already.
    """
    if _tuned(family, numbers.algo) is not None:
        raise ValueError(f"the preset of {numbers.algo} in {family} is taken.")
    _added[family, numbers.algo] = numbers


def preset(family: str, algo: str | None = None) -> Preset:
    """The defaults of a family of environments, for its own algorithm if none is named.

    Where there are no such numbers they are neutral, and `untuned` says so.
    """
    usual = _usual(family)
    algo = algo or usual.algo
    return _tuned(family, algo) or replace(usual, algo=algo, **NEUTRAL)


def on_gpu(family: str, algo: str) -> Mapping[str, Any]:
    """What a run on a GPU has otherwise, by the names of `RunOptions`; mostly nothing.

    The learning rate grows with the square root of the number of environments, as Adam's noise
    asks for (Malladi et al. 2022, https://arxiv.org/abs/2205.10287).  In one run of Breakout that
    was stopped early, it learnt less per step than the usual numbers, so runs have it only where
    somebody asks for it (benchmarks/results/gpu_preset.csv).

    Args:
        family: of environments.
        algo: the algorithm.
    """
    if (family, algo) not in ON_GPU:
        return {}
    usual, changes = preset(family, algo), ON_GPU[family, algo]
    rate = usual.learning_rate * sqrt(changes["num_envs"] / usual.num_envs)
    return {**changes, "learning_rate": rate}


def hint_on_gpu(family: str, algo: str, num_envs: int) -> str:
    """What a run on a GPU might try; empty if it has other numbers than the usual ones already.

    Args:
        family: of environments.
        algo: the algorithm.
        num_envs: of the run.
    """
    changes = on_gpu(family, algo)
    if not changes or num_envs != preset(family, algo).num_envs:
        return ""
    return f"This GPU could take more environments: --preset gpu stands for {as_flags(changes)}."


def as_flags(values: Mapping[str, Any]) -> str:
    """Writes options as on the command line."""
    words = []
    for name, value in values.items():
        option = name.replace("_", "-")
        switch = "--" if value is True else "--no-"
        words.append(f"{switch}{option}" if isinstance(value, bool) else f"--{option} {value}")
    return " ".join(words)


def listing(family: str | None = None) -> Iterator[tuple[str, str, str, str]]:
    """Family, algorithm, flags and source of every preset: what `train.py --preset` shows.

    Args:
        family: of environments; none for all.
    """
    added = dict.fromkeys(known for known, _ in _added if known not in PRESETS)
    for name in [*PRESETS, *added] if family is None else [family]:
        usual = _usual(name).algo
        others = [*CHANGES, *(algo for known, algo in _added if known == name)]
        for algo in dict.fromkeys([usual, *others]):
            numbers = _tuned(name, algo)
            if numbers is not None and algo != "none":
                yield name, algo, _flags(numbers), numbers.source


def _flags(numbers: Preset) -> str:
    values = {**numbers.run, **{f"algo.{numbers.algo}.{k}": v for k, v in numbers.options.items()}}
    torso = f"--torso {numbers.torso} " if numbers.torso != BY_OBSERVATION else ""
    return torso + as_flags(values)


def usual_torso(observation_shape: tuple[int, ...], num_symbols: int = 0) -> str:
    """The name of the torso that suits an observation, where nobody chooses one.

    For a picture (C, H, W) the shorter side decides: below 48 pixels (MiniGrid 7, MinAtar 10)
    small, below 72 (Procgen 64) impala, else (Atari 84) nature.  All else is for the mlp.

    Args:
        observation_shape: of one observation, without time and batch.
        num_symbols: how many kinds of symbols it is made of; 0: of amounts.
    """
    if num_symbols or len(observation_shape) != 3:
        return "mlp"
    bounds = {3: "mlp", 48: "small", 72: "impala"}
    shorter = min(observation_shape[1:])
    return next((name for bound, name in bounds.items() if shorter < bound), "nature")


def untuned(family: str, algo: str) -> str:
    """A sentence for the user where `preset` has no numbers for the two; else nothing."""
    if _tuned(family, algo) is not None:
        return ""
    numbers = preset(family, algo)
    steps = f"{numbers.steps:,} steps, " if _usual(family) is UNKNOWN else ""
    return (
        f"There is no preset for {algo} in {family}: where nothing else is given, the run has "
        f"neutral numbers that nobody tuned ({steps}--num-envs {numbers.num_envs}, "
        f"--unroll-length {numbers.unroll_length}, --learning-rate {numbers.learning_rate:g})."
    )


def _usual(family: str) -> Preset:
    """The numbers of a family's default algorithm."""
    added = (numbers for (known, _), numbers in _added.items() if known == family)
    return PRESETS.get(family) or next(added, UNKNOWN)


def _tuned(family: str, algo: str) -> Preset | None:
    """The numbers of an algorithm in a family, if there are any."""
    if (family, algo) in _added:
        return _added[family, algo]
    usual = PRESETS.get(family)
    if usual is None or algo == usual.algo:
        return usual
    changes = CHANGES.get(algo, {}).get(family)
    return None if changes is None else replace(usual, algo=algo, **{"options": {}, **changes})

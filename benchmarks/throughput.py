"""Steps per second, whole and in parts, side by side: `python benchmarks/throughput.py`.

Three parts: `env`, the environments alone under random actions; `act`, with the agent
choosing the actions; `all`, a run of `train.py` with everything it does, once per arm
(what is trained, and through which gate).  Every measurement is a separate process;
settings alternate, so that a machine that slows down slows all of them.  Reported are
medians over the rounds; the ratio of an arm to the first arm under the same setting;
the share that is left of the environments' own speed; the time that a run spends in
environments and acting; and the largest memory of a process.  Machines differ: the
ratios are what to compare.  Flags for `train.py` may follow `--`.

    python benchmarks/throughput.py --num-envs 8 64 --threads 1 2 --precision fp32 bf16
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import Measurement, hardware_of, measure, middle, train_run
from configs.parsing import read_or_exit
from experiments.results import header, publish, split_flags

ARMS = {
    "sum": ["--aux", "distill", "--gate", "sum"],
    "cosine": ["--aux", "distill", "--gate", "cosine"],
    "cosine, every 4th": ["--aux", "distill", "--gate", "cosine", "--gate.every", "4"],
    "projection": ["--aux", "distill", "--gate", "projection"],
    "projection, average": [
        *("--aux", "distill", "--gate", "projection", "--gate.projection.decay", "0.99")
    ],
    "main only": [],
}
COLUMNS = (
    "part,arm,num_envs,threads,precision,steps_per_second,ratio,of_environment,"
    "environment,acting,peak_mebibytes,runs"
)

Part = Literal["env", "act", "all"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Options:
    """What to measure: every combination."""

    env: str = "Breakout"
    """Passed on to train.py."""
    parts: tuple[Part, ...] = ("env", "act", "all")
    """The environments alone, with acting, everything."""
    num_envs: tuple[int, ...] = (32,)
    """Environments stepped together."""
    threads: tuple[int, ...] = (0,)
    """That PyTorch learns with; 0 lets train.py choose."""
    precision: tuple[Precision, ...] = ("auto",)
    """Arithmetic of the torso; auto lets train.py choose."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which of the arms, the reference first."""
    steps: int = 12_288
    """Agent steps of each run."""
    warm_up: int = 4_096
    """Agent steps at its beginning that do not count."""
    rounds: int = 3
    """Runs of each setting."""
    device: str = "auto"
    """Passed on to train.py."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in ARMS:
                raise ValueError(f"--arms {arm!r} is unknown: choose from {', '.join(ARMS)}.")
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, not {self.rounds}.")
        if self.steps <= self.warm_up:
            raise ValueError(f"--steps must be above the {self.warm_up} of --warm-up.")


@dataclass(frozen=True)
class Setting:
    """One line of the table; what makes no difference to a part is left empty."""

    part: Part
    num_envs: int
    threads: int | None = None
    precision: str = ""
    arm: str = ""

    def flags(self, options: Options, extra: Sequence[str]) -> list[str]:
        """The command line of `train.py`, but for the steps."""
        flags = ["--env", options.env, "--device", options.device]
        flags += ["--num-envs", str(self.num_envs)]
        flags += [] if self.threads is None else ["--threads", str(self.threads)]
        flags += ["--precision", self.precision] if self.precision else []
        return [*flags, *ARMS.get(self.arm, []), *extra]


def settings(options: Options, extra: Sequence[str]) -> list[Setting]:
    """Every combination once, with threads and precision as `train.py` will choose them.

    Raises:
        UsageError: `train.py` will refuse one of them.
    """
    found: dict[Setting, None] = {}
    for part, num_envs, threads, precision in product(
        options.parts, options.num_envs, options.threads, options.precision
    ):
        for arm in options.arms if part == "all" else [""]:
            asked = Setting(part, num_envs, threads, precision, arm)
            hardware = hardware_of(asked.flags(options, extra))
            match part:
                case "env":
                    found[Setting(part, num_envs)] = None
                case "act":
                    found[Setting(part, num_envs, precision=hardware.precision)] = None
                case "all":
                    computed = replace(asked, precision=hardware.precision)
                    found[replace(computed, threads=hardware.threads)] = None
    return list(found)


def run(options: Options, setting: Setting, extra: Sequence[str], folder: Path) -> Measurement:
    """Measures one setting once, in a new folder."""
    flags = setting.flags(options, extra)
    if setting.part == "all":
        return train_run(flags, folder, options.steps, options.warm_up)
    table = folder.with_suffix(".csv")
    command = ["-m", "benchmarks.parts", "--part", setting.part, "--output", str(table)]
    return measure([*command, "--steps", str(options.steps), "--", *flags], table, options.warm_up)


def report(options: Options, results: dict[Setting, list[Measurement]]) -> list[str]:
    """The table: medians, and what they are compared with."""
    medians = {setting: middle(runs) for setting, runs in results.items()}
    lines = [COLUMNS]
    for setting, runs in results.items():
        # Itself, where there are no arms.
        first_arm = replace(setting, arm=options.arms[0] if setting.arm else "")
        alone = medians.get(Setting("env", setting.num_envs), nan)
        cells = [
            setting.part,
            f'"{setting.arm}"' if setting.arm else "",
            str(setting.num_envs),
            "" if setting.threads is None else str(setting.threads),
            setting.precision,
            f"{medians[setting]:.0f}",
            f"{medians[setting] / medians[first_arm]:.3f}",
            number(medians[setting] / alone, 3),
            number(median(run.environment for run in runs), 2),
            number(median(run.acting for run in runs), 2),
            f"{max(run.peak_mebibytes for run in runs):.0f}",
            " ".join(f"{run.steps_per_second:.0f}" for run in runs),
        ]
        lines.append(",".join(cells))
    return lines


def number(value: float, decimals: int) -> str:
    """Empty for what was not measured."""
    return "" if isnan(value) else f"{value:.{decimals}f}"


def main(arguments: Sequence[str]) -> int:
    """Measures all settings in turn and prints the table; returns the exit code."""
    own, extra = split_flags(arguments)
    try:
        options = read_or_exit(Options, own, "throughput.py", __doc__)
        results: dict[Setting, list[Measurement]] = {each: [] for each in settings(options, extra)}
        with tempfile.TemporaryDirectory() as scratch:
            for turn in range(options.rounds):
                for index, (setting, runs) in enumerate(results.items()):
                    runs.append(run(options, setting, extra, Path(scratch) / f"{turn}-{index}"))
                    print(f"{setting}: {runs[-1].steps_per_second:.0f} steps/s", flush=True)
    except ValueError as error:
        print(f"throughput.py: {error}", file=sys.stderr)
        return 2
    publish(
        [*header("benchmarks/throughput.py", arguments), *report(options, results)], options.output
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

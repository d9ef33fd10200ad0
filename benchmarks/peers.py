"""Speed next to CleanRL's PPO on envpool: `python benchmarks/peers.py --cleanrl ../cleanrl`.

Needs a clone of CleanRL (`python benchmarks/cleanrl.py --help` says how to make it).  The
peer and the arms take turns, each in a separate process, at each number of PyTorch
threads; of each the fastest number is kept, by the median over the rounds.  Reported are
agent steps per second without the first updates, and the ratio to CleanRL at the same
size (environments x steps between two updates).

    CleanRL      ppo_atari_envpool.py, float32
    ppo, fp32    this repository's PPO with the same settings, float32
    ppo, auto    the same in the arithmetic that train.py chooses
    documented   train.py --env Breakout --aux distill --gate cosine, at its own size; its
                 ratio is to the fastest size of CleanRL
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cleanrl import PPO_ENVPOOL, UPDATES
from benchmarks.measure import Measurement, commit_of, hardware_of, measure, middle, train_run
from configs.presets import preset
from experiments.results import header, options_of, publish
from experiments.training.hardware import choose_device

PEER, DOCUMENTED = "CleanRL", "documented"
PRECISIONS = {PEER: "fp32", "ppo, fp32": "fp32", "ppo, auto": "auto", DOCUMENTED: "auto"}
"""The arms, the reference first, and what they compute in."""
COLUMNS = "arm,size,threads,precision,steps_per_second,ratio,peak_mebibytes,runs,other_threads"

MINIBATCHES = 4
EQUAL = (
    ("learning-rate", "learning-rate", "2.5e-4"),
    ("gamma", "discount", "0.99"),
    ("gae-lambda", "algo.ppo.trace", "0.95"),
    ("num-minibatches", "algo.ppo.minibatches", str(MINIBATCHES)),
    ("update-epochs", "algo.ppo.epochs", "4"),
    ("clip-coef", "algo.ppo.clip", "0.1"),
    ("ent-coef", "algo.ppo.entropy-coefficient", "0.01"),
    ("vf-coef", "algo.ppo.value-coefficient", "0.5"),
    ("max-grad-norm", "max-gradient-norm", "0.5"),
)
"""CleanRL's flags, ours of the same meaning, and what both get: CleanRL's own defaults."""


@dataclass(frozen=True)
class Options:
    """What to compare."""

    cleanrl: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """A clone of CleanRL."""
    env: str = "Breakout"
    """The game."""
    sizes: tuple[str, ...] = ("64x32", "8x128")
    """Environments x steps between two updates."""
    arms: tuple[str, ...] = tuple(PRECISIONS)
    """Which of CleanRL; ppo, fp32; ppo, auto; documented."""
    threads: tuple[int, ...] = (1, 2)
    """Of PyTorch: each arm is measured with each, and the fastest is kept."""
    rounds: int = 3
    """Runs of everything."""
    steps: int = 12_288
    """Agent steps of each run."""
    warm_up_updates: int = 2
    """Batches of each size at the beginning that do not count."""
    device: str = "auto"
    """auto, cpu or cuda, for both."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""


@dataclass(frozen=True)
class Size:
    """How much is collected between two updates."""

    num_envs: int
    unroll_length: int

    @property
    def steps(self) -> int:
        """Agent steps of one batch."""
        return self.num_envs * self.unroll_length

    def __str__(self) -> str:
        return f"{self.num_envs}x{self.unroll_length}"


def size_of(text: str) -> Size:
    """Reads `64x32`."""
    num_envs, cross, unroll_length = text.partition("x")
    if not (cross and num_envs.isdecimal() and unroll_length.isdecimal()):
        raise ValueError(f"--sizes {text!r} is not a size: give environments x steps, as 64x32.")
    return Size(int(num_envs), int(unroll_length))


@dataclass(frozen=True)
class Setting:
    """One arm at one size with a number of threads."""

    arm: str
    size: Size
    threads: int


def settings(options: Options) -> list[Setting]:
    """All that is to be measured, in the order of one round.

    Raises:
        ValueError: an option makes no sense.
    """
    for arm in options.arms:
        if arm not in PRECISIONS:
            raise ValueError(f"--arms {arm!r} is unknown: choose from {'; '.join(PRECISIONS)}.")
    if PEER not in options.arms:
        raise ValueError(f"--arms leaves out {PEER}, which all others are compared with: add it.")
    if options.rounds < 1 or min(options.threads) < 1:
        raise ValueError("--rounds and --threads must be at least 1.")
    if options.warm_up_updates < 1:
        raise ValueError("--warm-up-updates must be at least 1: the first update is a slow one.")
    numbers = preset("atari")
    sizes = {arm: [size_of(text) for text in options.sizes] for arm in options.arms}
    if DOCUMENTED in sizes:
        sizes[DOCUMENTED] = [Size(numbers.num_envs, numbers.unroll_length)]
    for size in {size for sizes_of_arm in sizes.values() for size in sizes_of_arm}:
        if size.num_envs % MINIBATCHES:
            raise ValueError(
                f"--sizes {size}: our minibatches are slices of the environments, so their number "
                f"must be a multiple of {MINIBATCHES}."
            )
        if options.steps < (needed := (options.warm_up_updates + 1) * size.steps):
            raise ValueError(
                f"--steps {options.steps} is too few for {size}: give {needed} or more."
            )
    return [
        Setting(arm, size, threads)
        for threads in options.threads
        for arm in options.arms
        for size in sizes[arm]
    ]


def run(options: Options, setting: Setting, seed: int, folder: Path) -> Measurement:
    """Measures one setting once, in a new folder."""
    size, warm_up = setting.size, options.warm_up_updates * setting.size.steps
    if setting.arm == PEER:
        command = ["-m", "benchmarks.cleanrl", "--cleanrl", str(Path(options.cleanrl).resolve())]
        command += ["--output", str(folder), "--threads", str(setting.threads), "--"]
        return measure([*command, *peer_flags(options, size, seed)], folder / UPDATES, warm_up)
    return train_run(
        [*our_flags(options, setting), "--seed", str(seed)], folder, options.steps, warm_up
    )


def peer_flags(options: Options, size: Size, seed: int) -> list[str]:
    """The command line of CleanRL's script."""
    flags = ["--env-id", f"{options.env}-v5", "--seed", str(seed)]
    flags += ["--total-timesteps", str(options.steps)]
    flags += ["--num-envs", str(size.num_envs), "--num-steps", str(size.unroll_length)]
    for name, _, value in EQUAL:
        flags += [f"--{name}", value]
    device, _ = choose_device(options.device)
    return [*flags, "--no-cuda" if device.type == "cpu" else "--cuda"]


def our_flags(options: Options, setting: Setting) -> list[str]:
    """The command line of `train.py`, but for steps and seed."""
    flags = ["--env", options.env, "--device", options.device]
    flags += ["--threads", str(setting.threads), "--precision", PRECISIONS[setting.arm]]
    if setting.arm == DOCUMENTED:
        return [*flags, "--aux", "distill", "--gate", "cosine"]
    flags += ["--algo", "ppo", "--num-envs", str(setting.size.num_envs)]
    flags += ["--unroll-length", str(setting.size.unroll_length)]
    for _, name, value in EQUAL:
        flags += [f"--{name}", value]
    return flags


def fastest(results: Mapping[Setting, Sequence[Measurement]]) -> list[Setting]:
    """Of each arm and size the number of threads with the largest median, in order."""
    best: dict[tuple[str, Size], Setting] = {}
    for setting, runs in results.items():
        key = setting.arm, setting.size
        if key not in best or middle(runs) > middle(results[best[key]]):
            best[key] = setting
    return list(best.values())


def report(options: Options, results: Mapping[Setting, Sequence[Measurement]]) -> list[str]:
    """The table."""
    kept = fastest(results)
    peers = {each.size: middle(results[each]) for each in kept if each.arm == PEER}
    lines = [COLUMNS]
    for setting in kept:
        runs = results[setting]
        others = [
            f"{other.threads}: {middle(results[other]):.0f}"
            for other in results
            if (other.arm, other.size) == (setting.arm, setting.size) and other != setting
        ]
        peer = max(peers.values()) if setting.arm == DOCUMENTED else peers[setting.size]
        cells = [
            f'"{setting.arm}"',
            str(setting.size),
            str(setting.threads),
            precision_of(options, setting),
            f"{middle(runs):.0f}",
            f"{middle(runs) / peer:.2f}",
            f"{max(each.peak_mebibytes for each in runs):.0f}",
            " ".join(f"{each.steps_per_second:.0f}" for each in runs),
            "; ".join(others),
        ]
        lines.append(",".join(cells))
    return lines


def precision_of(options: Options, setting: Setting) -> str:
    """What a setting computes in, on this machine."""
    if setting.arm == PEER:
        return PRECISIONS[PEER]
    return hardware_of(our_flags(options, setting)).precision


def main(arguments: Sequence[str]) -> int:
    """Measures everything in turn and prints the table; returns the exit code."""
    options = options_of(Options, arguments, "peers.py", __doc__)
    try:
        PPO_ENVPOOL.load(Path(options.cleanrl))
        results: dict[Setting, list[Measurement]] = {each: [] for each in settings(options)}
        for setting in results:
            precision_of(options, setting)  # What train.py will refuse, it refuses now.
        with tempfile.TemporaryDirectory() as scratch:
            for turn in range(options.rounds):
                for index, (setting, runs) in enumerate(results.items()):
                    folder = Path(scratch) / f"{turn}-{index}"
                    runs.append(run(options, setting, turn + 1, folder))
                    what = f"{setting.arm}, {setting.size}, threads {setting.threads}"
                    print(f"{what}: {runs[-1].steps_per_second:.0f} steps/s", flush=True)
    except ValueError as error:
        print(f"peers.py: {error}", file=sys.stderr)
        return 2
    remarks = [f"peer: CleanRL at {commit_of(Path(options.cleanrl))}"]
    publish(
        [*header("benchmarks/peers.py", arguments, remarks), *report(options, results)],
        options.output,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

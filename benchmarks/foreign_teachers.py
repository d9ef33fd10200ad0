"""Do converted teachers score what they score under their own library?

    python benchmarks/foreign_teachers.py --cleanrl ../cleanrl

Policies are saved by Stable-Baselines3 and CleanRL, and scored by each library's own code in its
own environments (`foreign_players.py`, in the virtual environment of `learning.py`).  The same file
is then read by auxgate, and scored twice: in the library's environments, where only the network
differs, and by the code of `evaluate.py` in auxgate's, where the protocol differs as well.

One line of the CSV compares a library's score with one of auxgate's.  Scores that are there are
kept in `--runs`, so the script may be interrupted and called again.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.learning import EMULATORS, PACKAGES, python_of
from benchmarks.measure import commit_of
from configs.cli import parse_evaluate
from experiments.evaluation.command import prepare, score
from experiments.evaluation.players import load_player
from experiments.results import ROOT, header, options_of, publish, run_quietly
from experiments.statistics import bootstrap, estimates, mean

SCRIPT = ROOT / "benchmarks" / "foreign_players.py"
BREAKOUT, CARTPOLE = ("Breakout", "Breakout/strong"), ("10000", "100000")
"""Shipped teachers, and agent steps for which CartPole is trained."""
SIDES: Mapping[str, tuple[str, str, Sequence[str], Sequence[str]]] = {
    "sb3-cartpole": ("policy.zip", "CartPole-v1", CARTPOLE, ("gym",)),
    "sb3-atari": ("policy.zip", "Breakout", BREAKOUT, ("envpool", "ale")),
    "cleanrl-atari": ("policy.pt", "Breakout", BREAKOUT, ("envpool", "ale")),
    "cleanrl-envpool": ("policy.pt", "Breakout", BREAKOUT, ("envpool", "ale")),
}
"""The file that a side saves, auxgate's name of the environment, policies, auxgate's backends."""
THEIRS = "theirs"
COLUMNS = (
    *("side", "policy", "their_environment", "our_environment", "precision", "episodes"),
    *("their_mean", "their_low", "their_high", "our_mean", "our_low", "our_high", "overlap"),
    *("difference", "difference_low", "difference_high", "largest_difference"),
)
REMARKS = (
    "one thread of PyTorch; actions sampled; episodes until game over, raw points",
    "95 % bootstrap intervals over episodes; difference: ours minus theirs; overlap: of intervals",
    "our_environment theirs: the converted network in the library's own environments, in fp32",
    "our_environment envpool, ale, gym: evaluate.py, by the protocol baselines of that backend",
    "largest_difference: of the probability of any action, theirs and ours, at 1,600 states",
    "all of Atari: no sticky actions, an action lasts 4 frames, 4 frames stacked, a lost life ends"
    " no episode",
    "sb3-atari: make_atari_env and VecFrameStack on ale-py; cleanrl-atari: make_env of ppo_atari.py"
    " on ale-py",
    "a new game in both: 1 to 30 no-ops of a frame, then FIRE and RIGHT of 4 frames each; a new"
    " life: a no-op, FIRE and RIGHT of 4 frames each",
    "cleanrl-envpool: ppo_atari_envpool.py; a new game and a new life: 0 to 29 no-ops, then FIRE, a"
    " frame each, as in our envpool",
    "our ale: a new game FIRE and up to 29 no-ops, a frame each; a new life FIRE of 4 frames",
)


@dataclass(frozen=True)
class Options:
    """What to score."""

    sides: tuple[str, ...] = tuple(SIDES)
    """sb3-cartpole, sb3-atari, cleanrl-atari, cleanrl-envpool."""
    episodes: int = 40
    """Of each score."""
    seed: int = 1
    """Of training, environments and actions."""
    cleanrl: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """A clone of CleanRL, for its sides."""
    peers: Annotated[str, tyro.conf.arg(metavar="DIR")] = ".peers"
    """The peers' virtual environment, made where it is missing."""
    runs: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/foreign_teachers"
    """Policies and scores, to go on from."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV to write."""

    @property
    def choice(self) -> str:
        """What other scores than those that are there would have."""
        return f"{self.episodes}-s{self.seed}"

    def check(self) -> None:
        """Refuses what cannot be scored.

        Raises:
            ValueError: says which option is wrong.
        """
        for side in self.sides:
            if side not in SIDES:
                raise ValueError(f"--sides {side}: choose from {', '.join(SIDES)}.")
            if side.startswith("cleanrl") and not self.cleanrl:
                raise ValueError("--cleanrl is missing: give a clone of CleanRL, or other --sides.")
        if self.episodes < 2:
            raise ValueError("--episodes must be at least 2.")


def scored(folder: Path, options: Options, side: str, policy: str, python: str) -> dict[str, Any]:
    """What a library's own process wrote, which runs unless it has."""
    path = folder / "scores.json"
    if not path.is_file():
        command = [python, str(SCRIPT), side, policy, "--output", str(folder)]
        command += ["--episodes", str(options.episodes), "--seed", str(options.seed)]
        if side.startswith("cleanrl"):
            command += ["--cleanrl", options.cleanrl]
        run_quietly(command, f"{side} {policy}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def evaluated(policy: Path, env: str, backend: str, options: Options) -> dict[str, Any]:
    """What `evaluate.py` says of a policy, with a backend of Atari of our choice."""
    path = policy.parent / f"{backend}.json"
    if not path.is_file():
        flags = ["--episodes", str(options.episodes), "--seed", str(options.seed), "--threads", "1"]
        given = parse_evaluate([str(policy), "--env", env, *flags])
        hardware = prepare(given)
        player = load_player(str(policy), hardware, render=False, env=env)
        if backend != "gym":
            played = {**player.card.env_options, "backend": backend}
            player = replace(player, card=replace(player.card, env_options=played))
        result = score(player, given, hardware)
        print(result.summary(), flush=True)
        path.write_text(json.dumps(result.to_json()), encoding="utf-8")
    return dict(json.loads(path.read_text(encoding="utf-8")))


Returns = Float[np.ndarray, " episodes"]


def compared(theirs: Returns, ours: Returns) -> list[str]:
    """Cells from `their_mean` to `difference_high`."""
    their, our = (estimates(returns[:, None])[0] for returns in (theirs, ours))
    overlap = their.low <= our.high and our.low <= their.high
    apart = bootstrap(lambda first, second: mean(first) - mean(second), [ours], [theirs])
    numbers = [each for one in (their, our) for each in (one.value, one.low, one.high)]
    differences = [our.value - their.value, apart.low, apart.high]
    return [
        *(f"{number:.1f}" for number in numbers),
        "yes" if overlap else "no",
        *(f"{number:.1f}" for number in differences),
    ]


def lines(options: Options, python: str) -> Iterator[str]:
    """The table, line by line."""
    yield ",".join(COLUMNS)
    for side in options.sides:
        file, env, policies, backends = SIDES[side]
        for policy in policies:
            folder = Path(options.runs) / f"{side}-{policy.replace('/', '-')}-{options.choice}"
            theirs = scored(folder, options, side, policy, python)
            ours = {THEIRS: (theirs["ours"], "fp32")}
            for backend in backends:
                found = evaluated(folder / file, env, backend, options)
                ours[backend] = (found["returns"], found["precision"])
            for environment, (returns, precision) in ours.items():
                cells = [side, policy, theirs["env"], environment, precision, str(len(returns))]
                cells += compared(np.array(theirs["theirs"]), np.array(returns))
                yield ",".join([*cells, f"{theirs['largest_difference']:.1g}"])


def main(arguments: Sequence[str]) -> int:
    """Scores what is missing and writes the table; returns the exit code."""
    options = options_of(Options, arguments, "foreign_teachers.py", __doc__)
    try:
        options.check()
        table = list(lines(options, python_of(options.peers, EMULATORS)))
    except ValueError as error:
        print(f"foreign_teachers.py: {error}", file=sys.stderr)
        return 2
    peers = [*PACKAGES, *EMULATORS[2:], f"CleanRL at {commit_of(Path(options.cleanrl))}"]
    remarks = [f"peers: {', '.join(peers)}", f"seed: {options.seed}", *REMARKS]
    publish([*header("benchmarks/foreign_teachers.py", arguments, remarks), *table], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

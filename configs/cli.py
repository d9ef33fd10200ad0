"""From the command line to a config, in two passes: `choose`, then tyro on what was chosen."""

from collections.abc import Sequence
from typing import Any

from configs import plugins
from configs.choice import Choice, choose, names
from configs.errors import UsageError
from configs.evaluation import EvaluateOptions
from configs.parsing import read
from configs.sweep import SweepConfig
from configs.training import TrainConfig, flags, from_flags

EXAMPLES = """\
Trains an actor-critic, helped by auxiliary losses whose gradients pass a gate.

Shown are the options of the components chosen on this command line; choose others
(--env, --protocol, --algo, --torso, --core, --aux, --gate) beside --help to see theirs:

  python train.py --env Breakout --aux distill --gate cosine
  python train.py --env Breakout --aux distill --gate projection --gate.projection.decay 0.99
  python train.py --env Catch
  python train.py --resume runs/NAME --steps 20000000
"""

EVALUATE_EXAMPLES = """\
Plays whole episodes with trained policies and prints their scores, or films one episode.

  python evaluate.py teachers/Breakout
  python evaluate.py runs/NAME runs/OTHER --output scores.csv
  python evaluate.py runs/NAME --video film.mp4
"""


SWEEP_EXAMPLES = """\
Tabular students in many gridworlds learn from teachers of several temperatures, through
several gates: what Figure 4 of Du et al. 2018 shows, in worlds of our own.

  python sweep.py
  python sweep.py --full --output runs/full
  python sweep.py --resume runs/full
  python sweep.py --gates sum cosine "projection(decay=0.99)" --temperatures 0 1
"""


def parse(arguments: Sequence[str]) -> TrainConfig:
    """Reads the arguments of `train.py`.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    modules, others = plugins.take(arguments)
    choice, rest = choose(others)
    _refuse_foreign_options(choice, rest)
    given: Any = read(flags(choice), rest, prog="train.py", description=EXAMPLES)
    return from_flags(choice, given, modules)


def parse_evaluate(arguments: Sequence[str]) -> EvaluateOptions:
    """Reads the arguments of `evaluate.py`.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    _, others = plugins.take(arguments)
    return read(EvaluateOptions, others, prog="evaluate.py", description=EVALUATE_EXAMPLES)


def parse_sweep(arguments: Sequence[str]) -> SweepConfig:
    """Reads the arguments of `sweep.py`.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    return read(SweepConfig, arguments, prog="sweep.py", description=SWEEP_EXAMPLES)


def _refuse_foreign_options(choice: Choice, arguments: Sequence[str]) -> None:
    """Refuses options of components that were not chosen, and says how to choose them."""
    chosen = {
        "algo": (choice.algo,),
        "torso": (choice.torso,),
        "core": (choice.core,),
        "aux": choice.aux,
        "gate": () if choice.gate is None else (choice.gate,),
    }
    for argument in arguments:
        flag = argument.partition("=")[0]
        slot, dot, option = flag.removeprefix("--").partition(".")
        if not flag.startswith("--") or not dot or slot not in chosen:
            continue
        name = option.partition(".")[0].replace("-", "_")
        if slot == "gate" and choice.gate is None:
            raise UsageError(f"{flag} has no effect without heads: add --aux, or drop it.")
        if name in names(slot) and name not in chosen[slot]:
            has = " ".join(chosen[slot]) or "none"
            raise UsageError(
                f"{flag} has no effect with --{slot} {has}: add --{slot} {name}, or drop it."
            )

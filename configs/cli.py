"""From the command line to a config, in two passes: `choose`, then tyro on what was chosen."""

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_origin

from configs import choice as plugins
from configs import presets
from configs.choice import Choice, choose, names
from configs.errors import UsageError
from configs.parsing import options, read
from configs.programs import EvaluateOptions, SweepConfig
from configs.training import PRACTICAL, RunOptions, TrainConfig, flags, from_flags

EXAMPLES = """\
Trains an actor-critic with auxiliary losses whose gradients pass a gate.

--help lists the options that most runs need, --help-all also all others and those of the
components chosen on this command line. To see those of other components, choose them
(--env, --protocol, --algo, --torso, --core, --aux, --gate) together with --help-all.
--preset shows the numbers that are used unless others are given, and where they come from;
--preset gpu takes those for a GPU where there are others.

  python train.py --env Catch                                  (seconds)
  python train.py --env Breakout --aux distill --gate cosine   (hours; the main job)
  python train.py --env Breakout --aux distill --gate projection --gate.projection.decay 0.99
  python train.py --env Breakout+MsPacman --gate cosine        (two games in one network)
  python train.py --resume runs/NAME --steps 20000000
  python train.py --list-teachers                              (the teachers that are shipped)
"""

COMMON = (
    *(f"choose_{slot}" for slot in ("env", "algo", "torso", "core", "aux", "protocol", "gate")),
    *("plugin", "teacher", "steps", "num_envs", "unroll_length", "seed", "device"),
    *("learning_rate", "discount", "run_dir", "resume", "tasks"),
)
"""What `train.py --help` shows."""

SHORT_HELP = """\
train.py needs to know what to train. For instance:

  python train.py --env Catch                                  (seconds)
  python train.py --env Breakout --aux distill --gate cosine   (hours; the main job)
  python train.py --resume runs/NAME

--help explains the common options, --help-all all of them.
"""
"""What `train.py` prints where nothing is asked of it."""

EVALUATE_EXAMPLES = """\
Plays whole episodes with trained policies and prints their scores, or films one episode.

  python evaluate.py Breakout
  python evaluate.py runs/NAME runs/OTHER --output scores.csv
  python evaluate.py runs/NAME --video film.mp4
"""


SWEEP_EXAMPLES = """\
Trains tabular students in many gridworlds with teachers at several temperatures and
through several gates, as in Figure 4 of Du et al. 2018, and draws their returns.

  python sweep.py                       (200 worlds, a few minutes)
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
    if is_resume(arguments):
        raise UsageError(
            f"{RESUME} has no effect here: it goes on with a run of train.py; drop it."
        )
    modules, others = plugins.take(arguments)
    machine, others = _take_preset(others)
    if machine == SHOW:
        _show_presets(others)
        raise SystemExit(0)
    choice, rest = choose(others)
    refuse_foreign_options(choice, rest)
    if machine == GPU and not presets.on_gpu(choice.preset_family, choice.algo):
        raise UsageError(
            f"{PRESET} {GPU} has no effect: {choice.algo} in {choice.preset_family} has the same "
            "numbers everywhere; drop it."
        )
    kind = flags(choice, gpu=machine == GPU)
    given: Any = read(kind, rest, "train.py", EXAMPLES, COMMON)
    return from_flags(choice, given, modules)


PRESET = "--preset"
GPU, SHOW = "gpu", "show"


def _take_preset(words: Sequence[str]) -> tuple[str, list[str]]:
    """Reads `--preset`: `GPU`, `SHOW` without a value, or nothing, and the other arguments.

    Raises:
        UsageError: the value is another one, or it is given twice.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(PRESET, nargs="?", const=SHOW, action="append", default=[])
    given, rest = parser.parse_known_args(list(words))
    if len(given.preset) > 1:
        raise UsageError(f"{PRESET} is given {len(given.preset)} times: give it once.")
    value = given.preset[0] if given.preset else ""
    if value not in ("", GPU, SHOW):
        raise UsageError(
            f"{PRESET} {value} is unknown: {GPU} takes the numbers for a GPU, no value shows all."
        )
    return value, rest


def _show_presets(words: Sequence[str]) -> None:
    """Prints the default numbers of the family of `--env`, or of all families."""
    family = choose(words)[0].preset_family if words else None
    last = ""
    for name, algo, given, source in presets.listing(family):
        print(f"{name}, {algo}{', unless --algo says otherwise' if name != last else ''}")
        print(textwrap.fill(given, 96, **INDENTED))
        print(textwrap.fill(f"({source})", 96, **INDENTED), end="\n\n")
        if otherwise := presets.on_gpu(name, algo):
            text = f"with {PRESET} {GPU}: {presets.as_flags(otherwise)}"
            print(textwrap.fill(text, 96, **INDENTED), end="\n\n")
        last = name


INDENTED: dict[str, Any] = {
    "initial_indent": "    ",
    "subsequent_indent": "    ",
    "break_on_hyphens": False,
}


LIST_TEACHERS = "--list-teachers"


def lists_teachers(arguments: Sequence[str]) -> bool:
    """Whether the arguments of `train.py` ask for the shipped teachers.

    Raises:
        UsageError: they ask for something else as well.
    """
    if LIST_TEACHERS not in arguments:
        return False
    others = [argument for argument in arguments if argument != LIST_TEACHERS]
    if others:
        raise UsageError(f"{LIST_TEACHERS} trains nothing: drop {others[0]} and what follows it.")
    return True


RESUME = "--resume"


@dataclass(frozen=True)
class ResumeOptions:
    """A command line that continues a run."""

    run: str
    """The folder of the run."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """New values of options that are `PRACTICAL`, by name."""
    run_dir: str | None = None
    """The folder for a copy of the run, which is continued there."""


def is_resume(arguments: Sequence[str]) -> bool:
    """Whether the arguments of `train.py` continue a run."""
    return any(argument.partition("=")[0] == RESUME for argument in arguments)


def parse_resume(arguments: Sequence[str]) -> ResumeOptions:
    """Reads `--resume RUN` and the options that may come with it.

    The run's own config is not read here.

    Raises:
        UsageError: another option is given, or a value is missing or wrong.
    """
    known = {
        flag: option
        for flag, option in options(RunOptions).items()
        if option.path[-1] in PRACTICAL and f"--{flag}" != RESUME
    }
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(RESUME, required=True)
    for flag, option in known.items():
        several = "+" if get_origin(option.kind) is tuple else None
        names = dict.fromkeys([f"--{flag}", f"--{flag.replace('-', '_')}"])
        parser.add_argument(*names, dest=flag, nargs=several)
    try:
        found, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from error
    if unknown:
        allowed = ", ".join(f"--{flag}" for flag in known)
        raise UsageError(
            f"{unknown[0]} cannot be given with --resume, which takes the run's own config: only "
            f"these can: {allowed}."
        )
    given = {flag: value for flag, value in vars(found).items() if value is not None}
    run = given.pop("resume")
    changes = {}
    for flag, value in given.items():
        words = value if isinstance(value, str) else " ".join(value)
        (changes[known[flag].path[-1]],) = known[flag].read(flag, [words])
    return ResumeOptions(run, changes, changes.pop("run_dir", None) or None)


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
    asked = read(SweepConfig, arguments, prog="sweep.py", description=SWEEP_EXAMPLES)
    if asked.gradients == "exact" and asked.practice != SweepConfig.practice:
        raise UsageError(
            "--practice has no effect with --gradients exact, which samples nothing: drop it."
        )
    return asked


def refuse_foreign_options(choice: Choice, arguments: Sequence[str]) -> None:
    """Refuses options of components that were not chosen, and says how to choose them.

    Raises:
        UsageError: about the first of them.
    """
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
        no_heads = f"{flag} has no effect without heads: add --aux, or drop it."
        if flag == "--tasks.heads" and not choice.aux:
            raise UsageError(no_heads)
        if not flag.startswith("--") or not dot or slot not in chosen:
            continue
        name = option.partition(".")[0].replace("-", "_")
        if slot == "gate" and choice.gate is None:
            raise UsageError(no_heads)
        if name in names(slot) and name not in chosen[slot]:
            has = " ".join(chosen[slot]) or "none"
            raise UsageError(
                f"{flag} has no effect with --{slot} {has}: add --{slot} {name}, or drop it."
            )

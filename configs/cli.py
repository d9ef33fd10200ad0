"""From the command line to a config, in two passes: `choose`, then tyro on what was chosen."""

import argparse
import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Any, NoReturn, TypeVar

import tyro

from agents.algorithms import Algorithms
from agents.gates import Gates
from agents.heads import Heads
from agents.networks.recurrent import Cores
from agents.networks.torsos import Torsos
from configs.choice import Choice, choose, names
from configs.errors import UsageError, nearest
from configs.evaluation import EvaluateOptions
from configs.sweep import SweepConfig
from configs.training import TrainConfig, flags, from_flags

Options = TypeVar("Options")

REGISTRIES = {"algo": Algorithms, "torso": Torsos, "core": Cores, "aux": Heads, "gate": Gates}

REPHRASED = (
    # A config's own complaint names its flag; one of the gates' library cannot.
    (r"^Error parsing [\w.-]+: (?=--|RUN )", ""),
    (r"^Error parsing (?:--)?([\w.-]+): ", r"--\1: "),
    (r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is not a whole number"),
    (r"could not convert string to float: ('.*')", r"\1 is not a number"),
    (r"^Missing value for argument '(.+?)'.*", r"\1 needs a value"),
    (
        r"^invalid choice '(.*)' for argument '(.+?)'. Expected one of \((.+)\).*",
        r"\2 \1 is unknown: choose one of \3",
    ),
    (r"^Unrecognized options: (.+)", r"\1 is no option: --help lists them"),
    (r"^Missing from [\w.]+: ([A-Z]+) (.+?) \(required\)", r"\1 is missing: \2"),
)
"""What tyro says, and how it reads in one sentence."""

EXAMPLES = """\
Trains an actor-critic with auxiliary losses whose gradients pass a gate.

Listed are the options of the components chosen on this command line. To see those of
others, choose them (--env, --protocol, --algo, --torso, --core, --aux, --gate) together
with --help.

  python train.py --env Catch                                  (seconds)
  python train.py --env Breakout --aux distill --gate cosine   (hours; the main job)
  python train.py --env Breakout --aux distill --gate projection --gate.projection.decay 0.99
  python train.py --resume runs/NAME --steps 20000000
"""

EVALUATE_EXAMPLES = """\
Plays whole episodes with trained policies and prints their scores, or films one episode.

  python evaluate.py teachers/Breakout
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
    choice, rest = choose(arguments)
    _refuse_foreign_options(choice, rest)
    given: Any = _read(flags(choice), rest, prog="train.py", description=EXAMPLES)
    return from_flags(choice, given)


RESUME = "--resume"


@dataclass(frozen=True)
class ResumeOptions:
    """A command line that continues a run; None leaves an option as the run has it."""

    run: str
    """The folder of the run."""
    steps: int | None = None
    """Agent steps at which the run ends."""
    device: str | None = None
    run_dir: str | None = None
    """The folder for a copy of the run, which is continued there."""


def is_resume(arguments: Sequence[str]) -> bool:
    """Whether the arguments of `train.py` continue a run."""
    return any(argument.partition("=")[0] == RESUME for argument in arguments)


def parse_resume(arguments: Sequence[str]) -> ResumeOptions:
    """Reads `--resume RUN` and the three options that may come with it.

    The run's own config is not read here.

    Raises:
        UsageError: another option is given, or a value is missing or wrong.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(RESUME, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device")
    parser.add_argument("--run-dir", "--run_dir")
    try:
        given, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from error
    if unknown:
        raise UsageError(
            f"{unknown[0]} cannot be given with --resume, which takes the run's own config: only "
            "--steps, --device and --run-dir can."
        )
    return ResumeOptions(given.resume, given.steps, given.device, given.run_dir or None)


def parse_evaluate(arguments: Sequence[str]) -> EvaluateOptions:
    """Reads the arguments of `evaluate.py`.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    return _read(EvaluateOptions, arguments, prog="evaluate.py", description=EVALUATE_EXAMPLES)


def parse_sweep(arguments: Sequence[str]) -> SweepConfig:
    """Reads the arguments of `sweep.py`.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    return _read(SweepConfig, arguments, prog="sweep.py", description=SWEEP_EXAMPLES)


def _read(
    kind: type[Options], arguments: Sequence[str], prog: str, description: str | None = None
) -> Options:
    """Lets tyro read the arguments, and makes one sentence of what it complains about."""
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            return tyro.cli(kind, args=arguments, prog=prog, description=description)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except SystemExit as stop:
        if stop.code == 0:
            raise
        _explain(complaints.getvalue(), arguments, kind)


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
        match = re.match(r"--(algo|torso|core|aux|gate)\.([\w-]+)", argument)
        if match is None:
            continue
        slot, name = match[1], match[2].replace("-", "_")
        flag = argument.partition("=")[0]
        if slot == "gate" and choice.gate is None:
            raise UsageError(f"{flag} has no effect without heads: add --aux, or drop it.")
        if name in names(REGISTRIES[slot]) and name not in chosen[slot]:
            has = " ".join(chosen[slot]) or "none"
            raise UsageError(
                f"{flag} has no effect with --{slot} {has}: add --{slot} {name}, or drop it."
            )


def _explain(message: str, arguments: Sequence[str], kind: type) -> NoReturn:
    """Turns tyro's boxed message into one sentence."""
    known = _flag_names(kind)
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            raise UsageError(f"{flag} is not an option here: did you mean {nearest(flag, known)}?")
    # A title, the complaint, then between rules what else may help; boxed where it can be.
    lines = [line.strip(" │╭╮╰╯─") for line in message.splitlines()[1:]]
    text = " ".join(takewhile(_is_text, dropwhile(lambda line: not _is_text(line), lines)))
    for pattern, sentence in REPHRASED:
        text = re.sub(pattern, sentence, text)
    raise UsageError(text if text.endswith(".") else f"{text}.")


def _is_text(line: str) -> bool:
    return line.strip("-") != ""


def _flag_names(kind: type) -> set[str]:
    text = io.StringIO()
    with _wide(), contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"])
    return set(re.findall(r"--[\w.-]+", text.getvalue()))


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    """Keeps tyro from breaking a flag's name at the end of a line."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before

"""From a command line of `study.py`, and the study file that it may begin with, to the study."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from agents.networks.actor_critic import choose_precision
from configs.errors import UsageError
from configs.grid import Planned
from configs.programs import StudyOptions
from configs.study import Axes, own_flags, parse_study, read_also, read_file, split
from experiments.running import folder as folders
from experiments.running.backends import Backend
from experiments.running.folder import Grid, Search, Study
from experiments.running.search import ends, installed, is_range, ranges


@dataclass(frozen=True)
class Request:
    """A command line of `study.py`."""

    options: StudyOptions
    axes: Axes
    also: tuple[Axes, ...] = ()
    """What the study file adds to the grid."""


def read_arguments(arguments: Sequence[str]) -> Request:
    """Reads a command line, and the study file that it may begin with.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    own, rest = own_flags(), list(arguments)
    mine: list[str] = []
    axes: dict[str, tuple[str, ...]] = {}
    also: list[Axes] = []
    name = ""
    if rest and rest[0].endswith(".toml"):
        path = Path(rest.pop(0))
        name = path.stem
        mine, told = read_file(path, own)
        axes |= told
        also = read_also(path, own)
    given, changed = split(rest, own)
    # tyro takes the last of two.
    options = parse_study([*mine, *given])
    axes |= changed
    if options.seeds:
        if "seed" in axes:
            raise UsageError("--seeds 5 stands for --seed 1 2 3 4 5: give one of the two.")
        axes["seed"] = tuple(str(seed) for seed in range(1, options.seeds + 1))
    if not (options.output or options.resume):
        name = name or f"study-{time.strftime('%Y%m%d-%H%M%S')}"
        options = replace(options, output=str(Path("runs") / name))
    return Request(options, axes, tuple(also))


def plan(request: Request, backend: Backend) -> tuple[Study, list[Planned]]:
    """The study that is asked for, new or there already, and its runs; writes nothing.

    Args:
        request: of the command line.
        backend: which says what `auto` stands for.

    Raises:
        UsageError: with one sentence for the user.
    """
    options, axes = request.options, request.axes
    ranged = [flag for flag, words in axes.items() if any(map(is_range, words))]
    if ranged and not options.search:
        raise UsageError(
            f"--{ranged[0]} {axes[ranged[0]][0]} is a range: add --search optuna --trials N."
        )
    if options.resume:
        study = folders.load(Path(options.resume))
        study = (
            _more(study, axes, *request.also)
            if study.search is None
            else _searched_on(study, request)
        )
        if options.trials and study.search is None:
            raise UsageError(f"--trials: {options.resume} holds no search: drop --trials.")
    elif folders.check_free(Path(options.output), axes):
        study = folders.load(Path(options.output))
        if (study.search is None) == bool(options.search):
            kind = "no search" if options.search else "a search"
            raise UsageError(f"--output {options.output} holds {kind}: choose another folder.")
        if study.search is not None:
            if options.prune != study.search.prune:
                raise UsageError(
                    f"--output {options.output} holds a search that began with"
                    f"{'' if study.search.prune else 'out'} pruning: choose another folder."
                )
            study = replace(study, search=replace(study.search, trials=options.trials))
        else:
            study = _more(study, *request.also)
    else:
        study = Study(Path(options.output), (Grid(axes),), _pins(axes, backend))
        study = _more(study, *request.also)
        if options.search:
            if request.also:
                raise UsageError("--search searches one grid: drop [[also]] from the study file.")
            ranges(axes)
            study = replace(study, grids=(), search=Search(axes, options.trials, options.prune))
    if study.search is not None:
        installed()
        # What is proposed later is checked then.
        return study, study.runs() or ends(study.search, study.pins)
    return study, study.runs()


def _pins(axes: Axes, backend: Backend) -> dict[str, str]:
    """What `auto` stands for in a new study, by flag."""
    pins = {**backend.pins(), "threads": "1", "env.num-threads": "1"}
    if axes.get("threads", ()) not in ((), ("0",)):
        pins["threads"] = axes["threads"][0]
    if axes.get("device") == ("cpu",) and pins["device"] != "cpu":
        pins |= {"device": "cpu", "precision": choose_precision(torch.device("cpu"))[0]}
    return pins


def _more(study: Study, *added: Axes) -> Study:
    """A study with the runs that each of these grids adds to it."""
    for axes in added:
        study = study.extended(axes)
    return study


def _searched_on(study: Study, request: Request) -> Study:
    """A search that goes on, perhaps with more trials."""
    assert study.search is not None
    if request.axes:
        raise UsageError(
            f"--{next(iter(request.axes))} cannot be given with --resume of a search: only "
            "--trials can."
        )
    trials = request.options.trials or study.search.trials
    return replace(study, search=replace(study.search, trials=trials))

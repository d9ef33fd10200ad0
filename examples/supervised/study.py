"""What all supervised examples do: read options and data, train through every gate, compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

from agents.gates import Gate, make, registered
from agents.gates.methods.rotograd import RotoGrad
from configs.errors import UsageError
from configs.programs import read_gate
from examples.arms import MAIN
from examples.figures import Panels, draw_lines
from examples.report import Row, Verdict, folder_of, positive, publish, run
from examples.supervised.loop import POINTS, Problem, Trained, train
from examples.supervised.results import Results
from experiments.figures import BLUE, tidy
from experiments.results import options_of
from experiments.statistics import bootstrap_means

ALL = "all"
LEARNT = "auxinash(learn_every=25)"
"""The preference is learnt as often as in the paper."""
BANDS = "Bands: 95 % bootstrap intervals over seeds"
USUAL = ("sum", "cosine", "cosine_unweighted", "projection")

Gated = Annotated[tuple[str, ...], tyro.conf.arg(metavar="GATE [GATE ...]", help_behavior_hint="")]
"""Of `--gates`."""
Seeds = Float[np.ndarray, " seeds"]
Folder = Annotated[str, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class Options:
    """What is learnt, how often, and where the results go."""

    data: Folder = ""
    """Folder of the real data; empty: a small stand-in of the same format, made for the run."""
    gates: Gated = USUAL
    """To compare with main-only learning, with options if wanted: "projection(decay=0.99)"; all:
    every gate."""
    steps: int = 300
    """Of Adam."""
    seeds: int = 5
    """Each has its own initial weights, batches and choice of data."""
    output: Folder = "runs/examples"
    """For the table and the figures."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, not {self.seeds}.")
        if self.steps < POINTS:
            raise ValueError(f"--steps must be at least {POINTS}, not {self.steps}.")
        if len(set(self.gates)) < len(self.gates):
            raise ValueError("--gates names a gate twice: drop one.")
        for gate in self.gates:
            gate_of(gate)

    def names(self, width: int = 0) -> list[str]:
        """The gates to compare.

        Args:
            width: of the features, if all losses read the same ones; 0: no gate can rotate them.

        Raises:
            UsageError: a gate rotates features, and that is not possible.
        """
        asked = list(registered()) if ALL in self.gates else list(self.gates)
        asked = [LEARNT if name == "auxinash" and ALL in self.gates else name for name in asked]
        if width > 0:
            return asked
        rotating = [name for name in asked if isinstance(gate_of(name), RotoGrad)]
        if rotating and ALL not in self.gates:
            raise UsageError(
                f"--gates {rotating[0]} rotates features of inputs that all tasks share, and here "
                "each task has its own inputs: drop it."
            )
        return [name for name in asked if name not in rotating]


def gate_of(text: str) -> Gate:
    """Builds the gate that a text names.

    Raises:
        ValueError: there is none, or it has no such option.
    """
    if text == ALL:
        text = "sum"
    name, options = read_gate(text)
    try:
        return make(name, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--gates {text}: {error}") from error


@contextmanager
def data_of(given: str, write: Callable[[Path], None], what: str) -> Iterator[Path]:
    """The folder of the data.

    Args:
        given: on the command line; empty for the stand-in.
        write: makes the stand-in, in the format of the real data.
        what: the real data are.

    Raises:
        UsageError: there is no such folder.
    """
    if not given:
        with TemporaryDirectory() as folder:
            write(Path(folder))
            yield Path(folder)
        return
    if not Path(given).is_dir():
        raise UsageError(
            f"--data {given} is not a folder: give that of {what}, or drop --data for the stand-in."
        )
    yield Path(given)


def compare(
    problems: Mapping[str, Callable[[int], Problem]],
    gates: Sequence[str],
    seeds: int,
    steps: int,
    same_main: bool = True,
) -> Results:
    """Trains a network for each condition, gate and seed.

    Args:
        problems: makes the problem of a seed, for each condition.
        gates: beside main-only learning.
        seeds: how many.
        steps: of each network.
        same_main: whether conditions differ in the auxiliary task alone, so that main-only
            learning is the same in all.
    """

    def trainer(made: Sequence[Problem], gate: Gate | None, seed: int) -> Trained:
        return train(made[seed], gate, seed, steps)

    trainers = {
        condition: partial(trainer, [problem(seed) for seed in range(seeds)])
        for condition, problem in problems.items()
    }
    return train_all(trainers, gates, seeds, same_main)


def train_all(
    trainers: Mapping[str, Callable[[Gate | None, int], Trained]],
    gates: Sequence[str],
    seeds: int,
    same_main: bool = True,
) -> Results:
    """Calls a trainer for each condition, gate and seed.

    Args:
        trainers: by condition; each takes a gate, or none for main-only learning, and a seed.
        gates: beside main-only learning.
        seeds: how many.
        same_main: whether main-only learning is the same in all conditions.
    """
    trained: dict[tuple[str, str], list[Trained]] = {}
    conditions, arms = list(trainers), [MAIN, *gates]
    for condition, trainer in trainers.items():
        for arm in arms:
            if arm == MAIN and same_main and condition != conditions[0]:
                trained[condition, arm] = trained[conditions[0], arm]
                continue
            trained[condition, arm] = [
                trainer(None if arm == MAIN else gate_of(arm), seed) for seed in range(seeds)
            ]
    return Results(conditions, arms, trained)


@dataclass(frozen=True)
class Lambdas(Options):
    """Options of a script that compares weights of the auxiliary losses."""

    gates: Gated = ("sum", "cosine", "projection", "projection(decay=0.99)")
    """To compare with main-only learning, with options if wanted; all: every gate."""
    lambdas: tuple[float, ...] = (0.1, 1.0, 10.0)
    """By which the auxiliary losses are multiplied."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lambdas or not min(self.lambdas) > 0:
            raise ValueError("--lambdas must be numbers above 0.")
        if sorted(set(self.lambdas)) != list(self.lambdas):
            raise ValueError("--lambdas must rise, each once.")


def best(found: Results, gate: str) -> tuple[str, Seeds]:
    """The lambda whose mean validation score is highest, and the test scores with it."""
    means = {each: found.score(each, gate, "validation").mean() for each in found.conditions}
    chosen = max(found.conditions, key=means.__getitem__)
    return chosen, found.score(chosen, gate, "test")


def judge_lambdas(found: Results, what: str) -> list[Verdict]:
    """What Tran-Thien found, each gate at the lambda that suits it; and at the largest one.

    Args:
        found: lambdas are the conditions; scores are `validation` and `test`, more is better.
        what: was measured.
    """
    verdicts = []
    projections = [name for name in found.gates if name.startswith("projection")]
    largest = found.conditions[-1]
    for gate, others in {"sum": [MAIN], **{name: [MAIN, "sum"] for name in projections}}.items():
        for other in others:
            if gate in found.gates and other in found.gates:
                (chosen, scores), (against, theirs) = best(found, gate), best(found, other)
                source = " (Tran-Thien)" if other == "sum" else ""
                beside = "" if other == MAIN else f" at {against}"
                verdicts.append(
                    positive(
                        f"{what}: {gate} is better than {other}{source}",
                        scores - theirs,
                        f"{scores.mean():.4f} at lambda {chosen} against "
                        f"{theirs.mean():.4f}{beside}; difference",
                    )
                )
    verdicts += [
        positive(
            f"{what}: at the largest lambda, {largest}, {name} is better than sum",
            found.score(largest, name, "test") - found.score(largest, "sum", "test"),
            "Difference",
        )
        for name in projections
        if "sum" in found.gates
    ]
    return verdicts


def draw_lambdas(found: Results, what: str) -> Figure:
    """Draws the test scores by lambda.

    Args:
        found: lambdas are the conditions.
        what: the scores are.
    """
    panels = {what: found.lines("test", gain=False), f"gain over {MAIN}": found.lines("test")}
    return draw_lines(BANDS, panels, "lambda", ticks=found.conditions)


def draw_accuracy(found: Results, conditions: str, title: str = BANDS) -> Figure:
    """Draws the accuracy, and what it gains over main-only learning.

    Args:
        found: with the score `accuracy`.
        conditions: what they are.
        title: of the figure.
    """
    panels = {
        "accuracy": found.lines("accuracy", gain=False),
        f"accuracy gained over {MAIN}": found.lines("accuracy"),
    }
    return draw_lines(title, panels, conditions, ticks=found.conditions)


def by_gate(title: str, panels: Mapping[str, Mapping[str, Float[np.ndarray, " seeds"]]]) -> Figure:
    """Draws a point with its interval for each gate: no conditions, so gates are the places.

    Args:
        title: of the figure.
        panels: values by gate, by the panel's name; the same gates in all.
    """
    gates = [*next(iter(panels.values()))]
    figure = Figure(figsize=(1.8 + 2.4 * len(panels), 1.4 + 0.3 * len(gates)), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    places = np.arange(len(gates))
    for axes, (name, values) in zip(all_axes, panels.items(), strict=True):
        every = np.stack([values[gate] for gate in gates], 1)
        low, high = bootstrap_means(every)
        axes.hlines(places, low, high, color=BLUE)
        axes.plot(every.mean(0), places, "o", color=BLUE)
        axes.set_title(name, fontsize=9)
        axes.set_yticks(places, gates)
        tidy(axes)
    all_axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    return figure


Kind = TypeVar("Kind", bound=Options)


@dataclass(frozen=True)
class Report:
    """What a script found."""

    rows: Sequence[Row]
    figures: Mapping[str, Figure]
    verdicts: Sequence[Verdict]
    courses: Mapping[str, Panels] = field(default_factory=dict)
    """Of cosines, by the name of their figure."""


def run_script(
    kind: type[Kind],
    arguments: Sequence[str],
    name: str,
    description: str | None,
    work: Callable[[Kind], Report],
) -> int:
    """Runs one of the scripts; returns the exit code.

    Args:
        kind: of its options.
        arguments: of the command line.
        name: of the script, without .py.
        description: for the help.
        work: what it does.
    """
    script = f"supervised/{name}.py"
    options = options_of(kind, arguments, f"{name}.py", description)

    def publish_all() -> None:
        # A network is trained for minutes or days: first, whether its results have a place.
        folder = folder_of(options.output)
        report = work(options)
        publish(folder, name, [script, *arguments], **vars(report))

    return run(f"{name}.py", publish_all)

"""Two regressions: which gate stands which auxiliary, and whom a gate learns to trust.

tanh    Tran-Thien's synthetic regression: the auxiliary is the same task on other samples, a
        similar task or an unrelated one, and its loss counts lambda times.  Settings of
        https://github.com/vivien000/auxiliary-learning2/blob/master/experiment_2.ipynb, with
        data drawn anew for every seed, and all sizes multiplied by --scale

linear  AuxiNash's illustration: two parameters, one helpful and one harmful auxiliary

All seeds, relations and lambdas of a gate learn at once: gates take any leading batch.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import Gate, make
from examples.arms import MAIN
from examples.figures import Line, draw_lines
from examples.preference import POINTS, learn_whom_to_trust
from examples.report import Row, Verdict, folder_of, positive, publish, run, save
from examples.tanh import RELATIONS, Problems, Scores, Sizes, learn
from experiments.results import options_of, read_table

AVERAGED = "projection(decay=0.99)"


@dataclass(frozen=True)
class Options:
    """What is learnt, how often, and where the results go."""

    tasks: tuple[Literal["tanh", "linear"], ...] = ("tanh", "linear")
    """Which of the two."""
    gates: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="GATE [GATE ...]", help_behavior_hint="")
    ] = ("sum", "cosine", "cosine_unweighted", "projection")
    """Of tanh, beside main-only learning."""
    decays: tuple[float, ...] = (0.9, 0.99)
    """Of tanh: projection is there once more with each of these moving averages."""
    lambdas: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Of tanh: what the auxiliary loss is multiplied by."""
    scale: float = 0.2
    """Of tanh, where 1 are the paper's sizes: 250 inputs, 100 outputs, four layers of 100 units,
    1,000 samples, batches of 100."""
    epochs: int = 100
    """Of tanh, at most; learning ends after 10 without a better validation loss."""
    steps: int = 1500
    """Of linear."""
    seeds: int = 10
    """Of tanh; each has its own data and initial weights."""
    linear_seeds: int = 6
    """Of linear."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/examples"
    """For tables and figures."""

    def __post_init__(self) -> None:
        for name, make_gate in makers(self).items():
            gate = make_gate()
            if gate.needs_network or gate.sample_rows > 0 or gate.slices > 0:
                raise ValueError(f"--gates {name} needs more than gradients and losses: drop it.")
        if not self.lambdas or not min(self.lambdas) > 0:
            raise ValueError("--lambdas must be numbers above 0.")
        if min(self.epochs, self.seeds, self.linear_seeds) < 1:
            raise ValueError("--epochs and both numbers of seeds must be at least 1.")
        if self.steps < POINTS:
            raise ValueError(f"--steps must be at least {POINTS}, not {self.steps}.")
        if not 0.02 <= self.scale <= 1:
            raise ValueError(f"--scale must be from 0.02 to 1, not {self.scale:g}.")


def makers(options: Options) -> Mapping[str, Callable[[], Gate]]:
    """Makers of the gates of tanh, by their names in table and figure."""
    named = {name: partial(make, name) for name in options.gates}
    averaged = {
        f"projection(decay={decay:g})": partial(make, "projection", decay=decay)
        for decay in options.decays
    }
    return named | averaged


def tables(scores: dict[str, Scores], lambdas: Sequence[float]) -> list[Row]:
    """One row for each gate, relation, lambda and seed; main-only learning has neither."""
    return [
        {
            "gate": gate,
            "relation": "" if gate == MAIN else RELATIONS[relation],
            "lambda": "" if gate == MAIN else lambdas[number],
            "seed": seed,
            "validation": f"{score.validation[relation, number, seed]:.5f}",
            "test": f"{test:.5f}",
        }
        for gate, score in scores.items()
        for (relation, number, seed), test in np.ndenumerate(score.test)
    ]


def best(score: Scores, relation: str) -> tuple[int, Float[np.ndarray, " seeds"]]:
    """Which lambda has the lowest validation loss on average, and the test losses with it."""
    row = RELATIONS.index(relation)
    number = int(score.validation[row].mean(-1).argmin())
    return number, score.test[row, number]


def judge(scores: dict[str, Scores], lambdas: Sequence[float]) -> list[Verdict]:
    """What Tran-Thien found; every gate at the lambda that is best for it, as he compares them."""

    def better(relation: str, gate: str, other: str, remark: str) -> list[Verdict]:
        if not {gate, other} <= set(scores):
            return []
        (number, losses), (against, others) = (
            best(scores[name], relation) for name in (gate, other)
        )
        return [
            positive(
                f"{relation}: {gate} has a lower test loss than {other} ({remark})",
                others - losses,
                f"{losses.mean():.4f} at lambda {lambdas[number]:g} against {others.mean():.4f} "
                f"at {lambdas[against]:g}; difference",
            )
        ]

    largest = int(np.argmax(lambdas))
    unrelated = RELATIONS.index("unrelated")
    harm = (
        [
            positive(
                f"unrelated: sum at lambda {lambdas[largest]:g} has a higher test loss than {MAIN}",
                scores["sum"].test[unrelated, largest] - scores[MAIN].test[0, 0],
                f"{scores['sum'].test[unrelated, largest].mean():.4f} against "
                f"{scores[MAIN].test[0, 0].mean():.4f}; difference",
            )
        ]
        if "sum" in scores
        else []
    )
    return [
        *better("same", AVERAGED, "sum", "Tran-Thien: p < 1e-5"),
        *better("similar", AVERAGED, "sum", "Tran-Thien: p = 0.02"),
        *better("same", AVERAGED, "cosine", "Tran-Thien"),
        *better("unrelated", "cosine", AVERAGED, "Tran-Thien, App. D.3"),
        *harm,
    ]


def lines(scores: dict[str, Scores], lambdas: Sequence[float]) -> dict[str, list[Line]]:
    """How much the auxiliary adds to the test loss, by lambda: a panel for each relation."""
    alone = scores[MAIN].test[0, 0]
    return {
        relation: [
            Line(gate, lambdas, (score.test[row] - alone).T)
            for gate, score in scores.items()
            if gate != MAIN
        ]
        for row, relation in enumerate(RELATIONS)
    }


def draw(scores: dict[str, Scores], lambdas: Sequence[float]) -> Figure:
    """Draws these lines."""
    return draw_lines(
        f"tanh: test loss, less that of {MAIN}; bands: 95 % bootstrap intervals over seeds",
        lines(scores, lambdas),
        x="lambda",
        y=f"test loss, less that of {MAIN}",
        logarithmic=True,
    )


def redraw(path: Path) -> None:
    """Draws the figure from regression.csv next to it."""
    _, rows = read_table(path.with_suffix(".csv"))
    lambdas = list(dict.fromkeys(float(row["lambda"]) for row in rows if row["lambda"]))
    scores = {}
    for gate in dict.fromkeys(row["gate"] for row in rows):
        shape = (1, 1, -1) if gate == MAIN else (len(RELATIONS), len(lambdas), -1)
        validation, test = (
            np.array([float(row[name]) for row in rows if row["gate"] == gate]).reshape(shape)
            for name in ("validation", "test")
        )
        scores[gate] = Scores(validation, test)
    save(draw(scores, lambdas), path)


def work(options: Options, arguments: Sequence[str]) -> None:
    """Learns everything, and says what came out."""
    folder = folder_of(options.output)
    command = ["regression.py", *arguments]
    if "tanh" in options.tasks:
        problems = Problems.draw(Sizes.scaled(options.scale), options.seeds)
        scores = {MAIN: learn(problems, None, (), options.epochs)}
        for name, make_gate in makers(options).items():
            scores[name] = learn(problems, make_gate(), options.lambdas, options.epochs)
        figure = draw(scores, options.lambdas)
        rows, verdicts = tables(scores, options.lambdas), judge(scores, options.lambdas)
        publish(folder, "regression", command, rows, {"regression": figure}, verdicts)
    if "linear" in options.tasks:
        rows, figure, verdicts = learn_whom_to_trust(options.linear_seeds, options.steps)
        name = "regression_linear"
        publish(folder, name, command, rows, {name: figure}, verdicts)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = options_of(Options, arguments, "regression.py", __doc__)
    return run("regression.py", lambda: work(options, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

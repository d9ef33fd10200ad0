"""Images of digits, with an auxiliary task that is more or less like the main one.

rotation  which digit is it? The auxiliary asks the same about other images, turned by 0 to 180
          degrees: in the spirit of Du et al.'s experiment with rotated MNIST
pairs     is it a 1, say, or not? The auxiliary asks for another digit, one that looks alike or one
          that does not: in the spirit of Du et al.'s pairs of ImageNet classes

Du et al.: https://arxiv.org/abs/1812.02224; their settings could not be found, so all are ours.
The digits are scikit-learn's, 8 x 8 pixels, of which the main task sees few.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import AttittudConfig
from examples.arms import MAIN, Maker, arms
from examples.figures import Line, draw_lines
from examples.images import load
from examples.lessons import Lessons, learn, nearest_and_farthest, pairs, rotations, split
from examples.report import Row, Verdict, folder_of, no_less, positive, publish, run

FEW = 0.01
"""Of accuracy: less than this is no loss."""
TURNED = 90.0
"""Degrees from which on an image counts as turned far."""
DRAWN = (MAIN, "sum", "cosine", "cosine_unweighted", "projection", "nash", "gradnorm")
"""Gates in the figures; the table has all."""

NEAR = 3
"""Pairs of classes that are alike, and as many that are not."""


@dataclass(frozen=True)
class Options:
    """What is learnt, how often, and where the results go."""

    data: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """A folder with MNIST's four files, plain or .gz; empty: scikit-learn's digits."""
    images: int = 5000
    """Of the data, at most; drawn at random."""
    main_images: int = 50
    """That the main task sees; the auxiliary sees others, and what is left is for tests."""
    auxiliary_images: int = 800
    """That the auxiliary task sees."""
    angles: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0)
    """Of the auxiliary's images, in degrees."""
    steps: int = 300
    """Of Adam."""
    seeds: int = 8
    """Each has its own images and initial weights."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/examples"
    """For digits.csv and the figures."""

    def __post_init__(self) -> None:
        counts = (self.images, self.main_images, self.auxiliary_images, self.steps, self.seeds)
        if min(counts) < 1:
            raise ValueError("all numbers but --angles must be at least 1.")
        if not {0.0, 180.0} <= set(self.angles):
            raise ValueError("--angles must have 0 and 180 among them.")


@dataclass(frozen=True)
class Part:
    """What became of all gates, by how unlike the auxiliary task is."""

    name: str
    unlike: str
    """What it is measured by."""
    places: Sequence[float]
    accuracy: Mapping[str, Float[np.ndarray, "places seeds"]]
    cosine: Mapping[str, Float[np.ndarray, "places seeds points"]]

    def rows(self) -> list[Row]:
        """One for each gate, place and seed."""
        return [
            {"part": self.name, "gate": gate, "unlike": f"{self.places[place]:.4g}", "seed": seed}
            | {"accuracy": f"{accuracy:.4f}", "cosine": f"{cosine[place, seed].mean():.4f}"}
            for gate, cosine in self.cosine.items()
            for (place, seed), accuracy in np.ndenumerate(self.accuracy[gate])
        ]

    def figure(self) -> Figure:
        """Accuracy and cosine by place."""
        drawn = [gate for gate in DRAWN if gate in self.accuracy]
        panels = {
            "accuracy of the main task": [
                Line(gate, self.places, self.accuracy[gate].T) for gate in drawn
            ],
            "cosine, mean over learning": [
                Line(gate, self.places, self.cosine[gate].mean(-1).T) for gate in drawn[1:]
            ],
        }
        title = f"{self.name}: bands are 95 % bootstrap intervals over seeds"
        return draw_lines(title, panels, x=self.unlike)


def compare(
    name: str,
    unlike: str,
    places: Sequence[float],
    lessons: Lessons,
    options: Options,
    makers: Mapping[str, Maker | None],
) -> Part:
    """Trains all networks through every gate."""
    shape = (len(places), options.seeds)
    outcomes = {
        gate: learn(lessons, None if make is None else make(), options.steps)
        for gate, make in makers.items()
    }
    return Part(
        name,
        unlike,
        places,
        {gate: each.accuracy.view(shape).numpy() for gate, each in outcomes.items()},
        {gate: each.cosine.view(*shape, -1).numpy() for gate, each in outcomes.items()},
    )


def judge_rotation(part: Part) -> list[Verdict]:
    """What Du et al. say of rotated images."""
    accuracy, cosine = part.accuracy, part.cosine["cosine"].mean(-1)
    upright = part.places.index(0.0)
    far = np.array(part.places) >= TURNED
    alone = accuracy[MAIN][upright]
    return [
        positive(
            "rotation: the cosine is higher for upright images than for those turned by 90 degrees "
            "or more (Du et al.)",
            cosine[upright] - cosine[far].mean(0),
            f"Cosine {cosine[upright].mean():.3f} against {cosine[far].mean():.3f}; difference",
        ),
        positive(
            f"rotation: upright, sum is more accurate than {MAIN}",
            accuracy["sum"][upright] - alone,
            "Accuracy",
        ),
        positive(
            f"rotation: turned by 90 degrees or more, sum is less accurate than {MAIN}",
            alone - accuracy["sum"][far].mean(0),
            "Accuracy lost",
        ),
        *(
            no_less(
                f"rotation: turned by 90 degrees or more, {gate} is no less accurate than {MAIN} "
                "(Du et al.)",
                accuracy[gate][far].mean(0) - alone,
                "Accuracy",
                margin=FEW,
            )
            for gate in ("cosine", "cosine_unweighted")
        ),
    ]


def judge_pairs(part: Part) -> list[Verdict]:
    """What Du et al. say of pairs of classes; place 0 is a class and itself."""
    near, far = slice(1, 1 + NEAR), slice(1 + NEAR, None)
    cosine = part.cosine["cosine"].mean(-1)
    gain = {gate: each - part.accuracy[MAIN] for gate, each in part.accuracy.items()}
    return [
        positive(
            "pairs: the cosine is higher for near classes than for far ones (Du et al.)",
            cosine[near].mean(0) - cosine[far].mean(0),
            f"Cosine {cosine[near].mean():.3f} against {cosine[far].mean():.3f}, and "
            f"{cosine[0].mean():.3f} for a class and itself; difference",
        ),
        positive(
            f"pairs: sum gains more over {MAIN} with near classes than with far ones",
            gain["sum"][near].mean(0) - gain["sum"][far].mean(0),
            "Accuracy",
        ),
        no_less(
            f"pairs: far classes, cosine is no less accurate than {MAIN} (Du et al.)",
            gain["cosine"][far].mean(0),
            "Accuracy",
            margin=FEW,
        ),
    ]


def draw_cosines(parts: Sequence[Part], steps: int) -> Figure:
    """The cosine while learning through the weighted cosine."""
    panels = {}
    for part in parts:
        curves = part.cosine["cosine"]
        times = np.linspace(0, steps, curves.shape[-1]).tolist()
        panels[f"{part.name}: {part.unlike}"] = [
            Line(f"{place:.3g}", times, curve)
            for place, curve in zip(part.places, curves, strict=True)
        ]
    return draw_lines("cosine of main and auxiliary gradient", panels, x="step", y="cosine")


def work(options: Options, arguments: Sequence[str]) -> None:
    """Learns everything, and says what came out."""
    folder = folder_of(options.output)
    images = load(options.data).some(options.images)
    splits = split(images, options.seeds, options.main_images, options.auxiliary_images)
    makers = arms(AttittudConfig())
    turned = rotations(images, splits, options.angles)
    rotation = compare("rotation", "degrees", options.angles, turned, options, makers)
    distances = nearest_and_farthest(images, NEAR)
    nearest = next(iter(distances))[0]
    chosen = {(nearest, nearest): 0.0, **distances}
    asked = pairs(images, splits, list(chosen))
    unlike = "distance of the classes' mean images"
    paired = compare("pairs", unlike, list(chosen.values()), asked, options, makers)
    print(f"Pairs, near and far: {', '.join(f'{a} and {b}' for a, b in distances)}.")
    publish(
        folder,
        "digits",
        ["digits.py", *arguments],
        rotation.rows() + paired.rows(),
        {
            "digits_rotation": rotation.figure(),
            "digits_pairs": paired.figure(),
            "digits_cosine": draw_cosines([rotation, paired], options.steps),
        },
        judge_rotation(rotation) + judge_pairs(paired),
    )


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = tyro.cli(Options, args=arguments, prog="digits.py", description=__doc__)
    return run("digits.py", lambda: work(options, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

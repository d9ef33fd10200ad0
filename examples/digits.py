"""Images of digits, with an auxiliary task that is more or less like the main one.

rotation  which digit is it? The auxiliary asks the same about other images, turned by 0 to 180
          degrees: in the spirit of Du et al.'s experiment with rotated MNIST

pairs     is it a 1, say, or not? The auxiliary asks for another digit, one that looks alike or one
          that does not: in the spirit of Du et al.'s pairs of ImageNet classes

Du et al.: https://arxiv.org/abs/1812.02224; their settings could not be found, so all are ours.
The digits are scikit-learn's, 8 x 8 pixels, of which the main task sees few.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import AttittudConfig
from configs.errors import UsageError
from examples.arms import MAIN, arms
from examples.images import load
from examples.lessons import POINTS, nearest_and_farthest, pairs, rotations, split
from examples.parts import Part, compare
from examples.report import Verdict, folder_of, no_less, positive, publish, run, save
from experiments.results import options_of, read_table

FEW = 0.01
"""Of accuracy: to lose less than this is to lose nothing."""
JUDGED = ("sum", "cosine", "cosine_unweighted")
"""Gates of which there are claims."""
NEAR = 3
"""Pairs of classes that are alike, and as many that are not."""
KINDS = {"same": slice(1), "near": slice(1, 1 + NEAR), "far": slice(1 + NEAR, None)}
"""Of pairs, in their order."""
AUXILIARIES = {
    "rotation": "turn of the auxiliary images, in degrees",
    "pairs": "classes of main and auxiliary task",
}
"""Of the two parts: what their auxiliary tasks differ in."""


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
        if self.steps < POINTS:
            raise ValueError(f"--steps must be at least {POINTS}, not {self.steps}.")
        if self.angles[0] != 0 or len(self.angles) < 2:
            raise ValueError("--angles must begin with 0 and have another one.")
        if len(set(self.angles)) < len(self.angles):
            raise ValueError("--angles names an angle twice: drop one.")

    @property
    def turned(self) -> str:
        """The angle that is half-way."""
        return f"{self.angles[len(self.angles) // 2]:g}"


def judge_rotation(part: Part, turned: str) -> list[Verdict]:
    """What Du et al. say of rotated images, turned by an angle and not at all."""
    upright, far = (part.angle("cosine", kind) for kind in ("0", turned))
    return [
        positive(
            f"rotation: the cosine is higher at 0 degrees than at {turned} (Du et al.)",
            upright - far,
            f"{upright.mean():.3f} against {far.mean():.3f}; difference",
        ),
        positive(
            f"rotation: at 0 degrees, sum is more accurate than {MAIN}",
            part.gain("sum", "0"),
            "Gain",
        ),
        positive(
            f"rotation: at {turned} degrees, sum is less accurate than {MAIN}",
            -part.gain("sum", turned),
            "Loss",
        ),
        *(
            no_less(
                f"rotation: at {turned} degrees, {gate} is no less accurate than {MAIN} "
                "(Du et al.)",
                part.gain(gate, turned),
                "Gain",
                margin=FEW,
            )
            for gate in JUDGED[1:]
        ),
    ]


def judge_pairs(part: Part) -> list[Verdict]:
    """What Du et al. say of pairs of classes."""
    near, far = (part.angle("cosine", kind) for kind in ("near", "far"))
    return [
        positive(
            "pairs: the cosine is higher for near classes than for far ones (Du et al.)",
            near - far,
            f"{near.mean():.3f} against {far.mean():.3f}, and "
            f"{part.angle('cosine', 'same').mean():.3f} for a class and itself; difference",
        ),
        positive(
            "pairs: sum gains more with near classes than with far ones",
            part.gain("sum", "near") - part.gain("sum", "far"),
            f"Gain over {MAIN}",
        ),
        no_less(
            f"pairs: with far classes, cosine is no less accurate than {MAIN} (Du et al.)",
            part.gain("cosine", "far"),
            "Gain",
            margin=FEW,
        ),
    ]


def work(options: Options, arguments: Sequence[str]) -> None:
    """Learns everything, and says what came out."""
    folder = folder_of(options.output)
    images = load(options.data).some(options.images)
    learnt_from = options.main_images + options.auxiliary_images
    if len(images.labels) <= learnt_from:
        raise UsageError(
            f"--main-images and --auxiliary-images leave none of {len(images.labels)} images for "
            "tests: give smaller numbers."
        )
    if images.labels.unique().tolist() != list(range(10)):
        raise UsageError("--data must show all digits from 0 to 9: take more --images of it.")
    splits = split(images, options.seeds, options.main_images, options.auxiliary_images)
    makers = arms(AttittudConfig())
    angles = [f"{angle:g}" for angle in options.angles]
    each = {angle: slice(number, number + 1) for number, angle in enumerate(angles)}
    turned = rotations(images, splits, options.angles)
    rotation = compare("rotation", angles, each, turned, makers, options.steps)
    classes = nearest_and_farthest(images, NEAR)
    classes = [(classes[0][0], classes[0][0]), *classes]
    names = [f"{main} and {auxiliary}" for main, auxiliary in classes]
    asked = pairs(images, splits, classes)
    paired = compare("pairs", names, KINDS, asked, makers, options.steps)
    print(f"Pairs, the same, near and far: {', '.join(names)}.")
    curves = {
        "rotation": rotation.curves("cosine", ["0", options.turned], options.steps),
        "pairs": paired.curves("cosine", list(KINDS), options.steps),
    }
    figures = {
        f"digits_{part.name}": part.figure(AUXILIARIES[part.name]) for part in (rotation, paired)
    }
    rows = rotation.rows() + paired.rows()
    verdicts = judge_rotation(rotation, options.turned) + judge_pairs(paired)
    command = ["digits.py", *arguments]
    publish(folder, "digits", command, rows, figures, verdicts, {"digits_cosine": curves})


def redraw(path: Path) -> None:
    """Draws digits_rotation.png or digits_pairs.png from digits.csv next to it."""
    name = path.stem.removeprefix("digits_")
    _, rows = read_table(path.with_name("digits.csv"))
    part = Part.read(name, KINDS if name == "pairs" else {}, rows)
    save(part.figure(AUXILIARIES[name]), path)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = options_of(Options, arguments, "digits.py", __doc__)
    return run("digits.py", lambda: work(options, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

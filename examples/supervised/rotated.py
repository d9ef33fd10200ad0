"""Rotated MNIST: the auxiliary asks for the digit on other images, turned by an angle.

Du et al. (https://arxiv.org/abs/1812.02224) have an experiment of this kind in their appendix;
its settings could not be found, so all are ours: few images for the main task, a perceptron, Adam.
Real data: `--data` with MNIST's four files (or those of another set in its format), plain or .gz.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.errors import UsageError
from examples.arms import MAIN
from examples.figures import draw_lines
from examples.images import Images
from examples.report import Verdict, no_less, positive
from examples.supervised import study
from examples.supervised.classify import Classification, Set
from examples.supervised.formats import Pictures, read_pictures
from examples.supervised.loop import Network
from examples.supervised.networks import perceptron
from examples.supervised.results import Results, redrawn
from examples.supervised.standins import idx_digits
from examples.supervised.study import Report, compare, data_of, run_script

WIDTHS = (64, 64)
TURN = "turn of the auxiliary's images, in degrees"
MARGIN = 0.01
"""Of accuracy: to lose less than this is to lose nothing."""


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    angles: tuple[float, ...] = (0.0, 45.0, 90.0, 180.0)
    """Of the auxiliary's images, in degrees; the first is 0."""
    main_images: int = 50
    """That the main task sees, of those for training."""
    auxiliary_images: int = 800
    """That the auxiliary task sees; none of them is the main task's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.angles[:1] != (0.0,) or len(set(self.angles)) < max(2, len(self.angles)):
            raise ValueError("--angles must begin with 0 and have others, each once.")
        if min(self.main_images, self.auxiliary_images) < 1:
            raise ValueError("--main-images and --auxiliary-images must be at least 1.")


def problem(options: Options, data: Pictures, angle: float, seed: int) -> Classification:
    """Deals out the images for one seed and turns those of the auxiliary.

    Args:
        options: how many images.
        data: all of them.
        angle: in degrees.
        seed: by which images are chosen.
    """
    order = torch.randperm(data.num_train, generator=torch.Generator().manual_seed(seed))
    main, auxiliary, _ = order.split(
        [
            options.main_images,
            options.auxiliary_images,
            len(order) - options.main_images - options.auxiliary_images,
        ]
    )
    turned = Images(data.floats(auxiliary)[:, 0], data.labels[auxiliary]).rotated(angle)
    inputs, classes = data.pixels[0].numel(), len(data.names)
    return Classification(
        Set(data.floats(main), data.labels[main]),
        [Set(turned[:, None], data.labels[auxiliary])],
        Set(data.floats(data.test), data.labels[data.test]),
        lambda: Network(
            perceptron([inputs, *WIDTHS]), [torch.nn.Linear(WIDTHS[-1], classes) for _ in range(2)]
        ),
    )


def judge(found: Results) -> list[Verdict]:
    """What Du et al. say of rotated images: at the angle that is half-way, and at 0."""
    upright, far = found.conditions[0], found.conditions[len(found.conditions) // 2]

    def gain(gate: str, condition: str) -> study.Seeds:
        return found.gain(condition, gate, "accuracy")

    verdicts = []
    if found.measures("cosine"):
        near, away = (found.cosine(each, "cosine").mean(1) for each in (upright, far))
        verdicts.append(
            positive(
                f"the cosine is higher at 0 degrees than at {far} (Du et al.)",
                near - away,
                f"{near.mean():.3f} against {away.mean():.3f}; difference",
            )
        )
    if found.measures("sum"):
        verdicts += [
            positive(
                f"at 0 degrees, sum is more accurate than {MAIN}", gain("sum", upright), "Gain"
            ),
            positive(
                f"at {far} degrees, sum is less accurate than {MAIN}", -gain("sum", far), "Loss"
            ),
        ]
    verdicts += [
        no_less(
            f"at {far} degrees, {gate} is no less accurate than {MAIN} (Du et al.)",
            gain(gate, far),
            "Gain",
            margin=MARGIN,
        )
        for gate in ("cosine", "cosine_unweighted")
        if found.measures(gate)
    ]
    return verdicts


def work(options: Options) -> Report:
    """Trains at every angle, and says what came out."""
    with data_of(options.data, idx_digits, "MNIST's four files") as folder:
        data = read_pictures(folder)
    if data.num_train <= options.main_images + options.auxiliary_images:
        raise UsageError(
            f"--main-images and --auxiliary-images are more than the {data.num_train} images for "
            "training: give smaller numbers."
        )
    problems = {f"{angle:g}": partial(problem, options, data, angle) for angle in options.angles}
    found = compare(problems, options.names(), options.seeds, options.steps)
    courses = {}
    if found.measures("cosine"):
        courses["rotated_cosine"] = {TURN: found.courses("cosine", options.steps)}
    return Report(found.rows(), {"rotated": draw(found)}, judge(found), courses)


def draw(found: Results) -> Figure:
    """Draws by angle what the auxiliary adds to the accuracy."""
    panels = {f"accuracy gained over {MAIN}": found.lines("accuracy")}
    return draw_lines(study.BANDS, panels, TURN, ticks=found.conditions)


redraw = redrawn(draw)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "rotated", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

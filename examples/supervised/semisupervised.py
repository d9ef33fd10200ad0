"""Few labels: self-supervised tasks on all images help to classify.

AuxiNash (Shamsian et al., https://arxiv.org/abs/2301.13501), Table 3: CIFAR-10 with 5,000 and
10,000 labels. The auxiliaries here ask by how many quarter turns an image was rotated, and in
which order its four quarters stand; both see all images for training. The network is ours.
Real data: `--data` with the six files of CIFAR-10's binary version.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.errors import UsageError
from examples.arms import MAIN
from examples.report import Verdict, no_less, positive
from examples.supervised import study
from examples.supervised.classify import Set, accuracy
from examples.supervised.formats import Pictures, read_pictures
from examples.supervised.loop import Network, Problem
from examples.supervised.networks import convolutions, jigsaw
from examples.supervised.results import Results, redrawn
from examples.supervised.standins import cifar_digits
from examples.supervised.study import (
    LEARNT,
    Report,
    compare,
    data_of,
    draw_accuracy,
    run_script,
)

TURNS = 4
ORDERS = torch.tensor(list(permutations(range(4))))
"""Of the quarters of an image."""
MARGIN = 0.01
"""Of accuracy: to lose less than this is to lose nothing."""


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    gates: study.Gated = ("sum", "cosine", "cosine_unweighted", LEARNT)
    """To compare with main-only learning, with options if wanted; all: every gate."""
    labels: tuple[int, ...] = ()
    """Numbers of labels to compare; empty: the paper's 5,000 and 10,000, and of the stand-in 50
    and 100."""
    side: int = 0
    """Height and width that images get, an even number; 0: as they are, and 8 for the stand-in."""
    coefficient: float = 1.0
    """Of both auxiliary losses."""
    channels: tuple[int, ...] = (16, 32)
    """Of the convolutions."""
    features: int = 64
    """That the heads read."""
    steps: int = 200
    seeds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min((self.features, *self.channels, *self.labels)) < 1 or not self.channels:
            raise ValueError("--labels, --channels and --features must be at least 1.")
        if self.side % 2 != 0 or self.side < 0:
            raise ValueError(f"--side must be an even number, not {self.side}.")
        if not self.coefficient > 0:
            raise ValueError(f"--coefficient must be above 0, not {self.coefficient:g}.")


@dataclass(frozen=True)
class SelfSupervised(Problem):
    """Labels of few images, and what can be asked of all."""

    options: Options
    labelled: Set
    pixels: Float[Tensor, "n C H W"]
    test: Set
    classes: int
    batch: int = 32

    def network(self) -> Network:
        """Convolutions with three heads."""
        options, (channels, side, _) = self.options, self.pixels.shape[1:]
        trunk = convolutions(channels, side, options.channels, options.features)
        answers = (self.classes, TURNS, len(ORDERS))
        return Network(trunk, [torch.nn.Linear(options.features, count) for count in answers])

    def draw(self, generator: torch.Generator) -> list[Int[Tensor, " B"]]:
        """Labelled images, then others, their turns, and the orders of their quarters."""
        ends = (len(self.labelled.labels), len(self.pixels), TURNS, len(self.pixels), len(ORDERS))
        return [torch.randint(end, (self.batch,), generator=generator) for end in ends]

    def losses(
        self, network: Network, batch: list[Int[Tensor, " B"]], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropies of classes, turns and orders."""
        labelled, rotated, turns, mixed, orders = batch
        asked = [(self.labelled.pixels[labelled], self.labelled.labels[labelled])]
        if not alone:
            images = self.pixels[rotated]
            choices = torch.stack([torch.rot90(images, turn, (2, 3)) for turn in range(TURNS)])
            asked.append((choices[turns, torch.arange(len(turns))], turns))
            asked.append((jigsaw(self.pixels[mixed], ORDERS[orders]), orders))
        factors = (1.0, self.options.coefficient, self.options.coefficient)
        return [
            factor
            * F.cross_entropy(
                network.answer(network.features(images), task), wanted, reduction="none"
            )
            for task, (factor, (images, wanted)) in enumerate(zip(factors, asked, strict=False))
        ]

    def score(self, network: Network) -> Mapping[str, float]:
        """Accuracy of the classes."""
        return {"accuracy": accuracy(network, self.test, 0)}


def problem(options: Options, data: Pictures, labels: int, seed: int) -> SelfSupervised:
    """Chooses which images have labels.

    Args:
        options: of the network.
        data: all images.
        labels: how many there are.
        seed: by which they are chosen.
    """
    order = torch.randperm(data.num_train, generator=torch.Generator().manual_seed(seed))[:labels]
    labelled = Set(data.floats(order), data.labels[order])
    test = Set(data.floats(data.test), data.labels[data.test])
    return SelfSupervised(options, labelled, data.floats(data.train), test, len(data.names))


def judge(found: Results) -> list[Verdict]:
    """What the paper's table says, for each number of labels."""
    verdicts = []
    for labels in found.conditions:

        def gain(gate: str, labels: str = labels) -> study.Seeds:
            return found.gain(labels, gate, "accuracy")

        for gate in ("sum", LEARNT):
            if found.measures(gate):
                claim = f"{labels} labels: {gate} is more accurate than {MAIN}"
                verdicts.append(positive(claim, gain(gate), "Gain"))
        verdicts += [
            positive(
                f"{labels} labels: {LEARNT} is more accurate than {other} (AuxiNash)",
                gain(LEARNT) - gain(other),
                "Difference",
            )
            for other in ("cosine_unweighted", "sum")
            if found.measures(other) and found.measures(LEARNT)
        ]
        verdicts += [
            no_less(
                f"{labels} labels: {gate} is no less accurate than {MAIN} (Du et al.)",
                gain(gate),
                "Gain",
                margin=MARGIN,
            )
            for gate in ("cosine", "cosine_unweighted")
            if found.measures(gate)
        ]
    return verdicts


def work(options: Options) -> Report:
    """Trains with every number of labels, and says what came out."""
    with data_of(options.data, cifar_digits, "CIFAR-10's binary files") as folder:
        data = read_pictures(folder, options.side or (0 if options.data else 8))
    wanted = options.labels or ((5_000, 10_000) if options.data else (50, 100))
    if max(wanted) > data.num_train:
        raise UsageError(f"--labels must be at most {data.num_train}, of so many images.")
    height, width = data.pixels.shape[-2:]
    if height % 2 or width % 2 or min(height, width) < 2 ** len(options.channels):
        raise UsageError(
            "--data has images that cannot be quartered or pooled: give another --side."
        )
    problems = {f"{labels:,}": partial(problem, options, data, labels) for labels in wanted}
    found = compare(problems, options.names(), options.seeds, options.steps, same_main=False)
    return Report(found.rows(), {"semisupervised": draw(found)}, judge(found))


def draw(found: Results) -> Figure:
    """Draws the accuracy by number of labels."""
    return draw_accuracy(found, "labels")


redraw = redrawn(draw)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "semisupervised", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

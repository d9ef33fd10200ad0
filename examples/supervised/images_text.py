"""Few images of a superclass, and an auxiliary task on images of other classes.

ATTITTUD (Dery, Dauphin, Grangier, ICLR 2021): low-resource tasks of CIFAR-100, each of the classes
of one superclass, with the classes of the others as the auxiliary. The gate splits the auxiliary
gradient by the subspace of the main task's per-sample gradients, which comes from a batch of its
own, as in the authors' code. Its own data, text among them, need pre-trained networks and are not
here; nor is pre-training, with which the paper compares.
Real data: `--data` with the binary version of CIFAR-100; or folders of images by class, with those
of another domain in `--other` (DomainNet: `--data DIR/sketch --other DIR/real`).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.errors import UsageError
from examples.arms import MAIN
from examples.report import Verdict, positive
from examples.supervised import study
from examples.supervised.classify import Classification, Set
from examples.supervised.formats import Pictures, read_pictures
from examples.supervised.loop import Network
from examples.supervised.networks import convolutions
from examples.supervised.results import Results
from examples.supervised.standins import cifar_100_digits
from examples.supervised.study import Report, compare, data_of, draw_accuracy, run_script

ETAS = {
    "attittud(eta=(1.0,1.0,-1.0),fresh=True)": "best on MultiCifar100",
    "attittud(eta=(1.0,0.0,0.0),fresh=True)": "best on Cat-vs-Dog",
}
"""Of the paper's four weights of the parts, those that it found best."""


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    other: study.Folder = ""
    """Folders of images for the auxiliary task; not with CIFAR-100, which has both."""
    gates: study.Gated = ("sum", "pcgrad", *ETAS)
    """To compare with main-only learning, with options if wanted; all: every gate."""
    labels: int = 0
    """Of the main task, for training; 0: 250, and 30 of the stand-in."""
    coefficients: tuple[float, ...] = (1.0, 10.0)
    """Of the auxiliary loss; the paper weighs the main gradient instead, by 0.1 or 0.01."""
    side: int = 0
    """Height and width that images get; 0: 32, and 8 for the stand-in."""
    channels: tuple[int, ...] = (16, 32)
    """Of the convolutions; the paper has a WRN-22-4."""
    features: int = 64
    """That the heads read."""
    steps: int = 150
    seeds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if min((self.features, *self.channels)) < 1 or not self.channels:
            raise ValueError("--channels and --features must be at least 1.")
        if min(self.labels, self.side) < 0:
            raise ValueError("--labels and --side must be at least 0.")
        if not self.coefficients or not min(self.coefficients) > 0:
            raise ValueError("--coefficients must be numbers above 0.")


def read(options: Options) -> tuple[Pictures, Pictures | None]:
    """Reads the images of both tasks; those of the auxiliary are none where they are the same."""
    side = options.side or (32 if options.data else 8)
    with data_of(options.data, cifar_100_digits, "CIFAR-100, or of images by class") as folder:
        data = read_pictures(folder, side)
    if data.coarse is None and not options.other:
        raise UsageError("--data has no superclasses: give the auxiliary's images by --other.")
    if data.coarse is not None and options.other:
        raise UsageError("--other has no effect on CIFAR-100, which has other classes: drop it.")
    if not options.other:
        return data, None
    if not Path(options.other).is_dir():
        raise UsageError(f"--other {options.other} is not a folder: give one of images by class.")
    other = read_pictures(Path(options.other), side)
    if other.pixels.shape[1] != data.pixels.shape[1]:
        raise UsageError("--other has images of other channels than --data: give coloured ones.")
    return data, other


def problem(options: Options, data: Pictures, other: Pictures | None, seed: int) -> Classification:
    """Chooses a superclass, and few of its images.

    Args:
        options: how many, and which network.
        data: of the main task.
        other: of the auxiliary; none: the other superclasses of the same data.
        seed: superclasses take turns.
    """
    order = data.train[
        torch.randperm(data.num_train, generator=torch.Generator().manual_seed(seed))
    ]
    tests, rest = data.test, order
    if data.coarse is not None:
        wanted = data.coarse.unique()[seed % len(data.coarse.unique())]
        inside = data.coarse == wanted
        rest = order[~inside[order]]
        order, tests = order[inside[order]], tests[inside[tests]]
    main = order[: options.labels or (250 if options.data else 30)]
    outside, chosen = (data, rest) if other is None else (other, other.train)
    mine, theirs = (_renumbered(data, main, tests), _renumbered(outside, chosen, chosen))
    answers = int(mine[1].labels.max()) + 1, int(theirs[0].labels.max()) + 1
    channels, side = data.pixels.shape[1:3]

    def build() -> Network:
        trunk = convolutions(channels, side, options.channels, options.features)
        return Network(trunk, [torch.nn.Linear(options.features, count) for count in answers])

    return Classification(mine[0], [theirs[0]], mine[1], build)


def _renumbered(data: Pictures, train: Tensor, test: Tensor) -> tuple[Set, Set]:
    """Images for training and tests, with labels from 0 on."""
    known, labels = torch.cat([data.labels[train], data.labels[test]]).unique(return_inverse=True)
    del known
    parts = labels.split([len(train), len(test)])
    return Set(data.floats(train), parts[0]), Set(data.floats(test), parts[1])


def judge(found: Results) -> list[Verdict]:
    """What the paper's table says, each gate at the coefficient that suits it."""
    best = {}
    for gate in found.gates:
        means = {each: found.score(each, gate, "accuracy").mean() for each in found.conditions}
        chosen = max(found.conditions, key=means.__getitem__)
        best[gate] = chosen, found.score(chosen, gate, "accuracy")
    return [
        positive(
            f"{gate} ({remark}) is more accurate than {other} (ATTITTUD), each at the coefficient "
            "at which its tests are best",
            best[gate][1] - best[other][1],
            f"{best[gate][1].mean():.4f} at {best[gate][0]} against {best[other][1].mean():.4f} "
            f"at {best[other][0]}; difference",
        )
        for gate, remark in ETAS.items()
        for other in (MAIN, "sum", "pcgrad")
        if gate in best and other in best
    ] + [
        positive(
            f"at the largest coefficient, {gate} is more accurate than sum",
            found.score(found.conditions[-1], gate, "accuracy")
            - found.score(found.conditions[-1], "sum", "accuracy"),
            "Difference",
        )
        for gate in ETAS
        if gate in best and "sum" in best
    ]


def work(options: Options) -> Report:
    """Trains with every coefficient, and says what came out."""
    data, other = read(options)
    if data.pixels.shape[-1] < 2 ** len(options.channels):
        raise UsageError("--side is too small for so many --channels: give a larger one.")

    def of(coefficient: float, seed: int) -> Classification:
        return replace(problem(options, data, other, seed), coefficient=coefficient)

    problems = {f"{each:g}": partial(of, each) for each in options.coefficients}
    found = compare(problems, options.names(), options.seeds, options.steps)
    figure = draw_accuracy(found, "coefficient of the auxiliary loss")
    return Report(found.rows(), {"images_text": figure}, judge(found))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "images_text", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Pairs of classes: is it an A or something else? The auxiliary asks for a B, near to A or far.

Du et al. (https://arxiv.org/abs/1812.02224), Figure 3: pairs of ImageNet classes, a ResNetV2-18
whose last layer alone is a task's own, balanced targets and backgrounds. In their data the cosine
of the gradients is higher for near pairs than for far ones. Here neither class of a pair is in
the background of the other.
Real data: `--data` with ImageNet's folders (`train/n02110185` and so on), any folders of images
by class, the binary version of CIFAR, or IDX files. The paper's pairs are taken where their classes
are there; elsewhere the pairs of classes whose mean images are nearest and farthest. The paper's
network: `--width 64 --blocks 2 2 2 2 --side 64`; it learns for 200,000 steps.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.errors import UsageError
from examples.arms import MAIN
from examples.report import Verdict, no_less, positive
from examples.supervised import study
from examples.supervised.classify import Classification, Set
from examples.supervised.formats import Pictures, read_pictures
from examples.supervised.loop import Network
from examples.supervised.networks import residual_network
from examples.supervised.results import Results, redrawn
from examples.supervised.standins import idx_digits
from examples.supervised.study import (
    BANDS,
    Report,
    compare,
    data_of,
    draw_accuracy,
    run_script,
)

Pair = tuple[str, str]
NEAR: Sequence[Pair] = (
    ("n04483307", "n02981792"),  # trimaran, catamaran
    ("n02110185", "n02110063"),  # Siberian husky, malamute
    ("n02107574", "n02108000"),  # Greater Swiss Mountain dog, EntleBucher
)
FAR: Sequence[Pair] = (
    ("n06874185", "n01744401"),  # traffic light, rock python
    ("n07590611", "n04243546"),  # hot pot, slot
    ("n01695060", "n06874185"),  # komodo dragon, traffic light
)
CLASSES = "classes of main and auxiliary task"
MARGIN = 0.01
"""Of accuracy: to lose less than this is to lose nothing."""


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    pairs: int = 8
    """Nearest pairs of classes, and as many farthest ones; seed 0 takes the first, and so on."""
    background: int = 20
    """Classes of the background that are read from folders, where the paper's pairs are there."""
    main_images: int = 10
    """Of class A, and as many of its background."""
    auxiliary_images: int = 100
    """Of class B, and as many of its background."""
    side: int = 0
    """Height and width that images get; 0: as they are."""
    width: int = 8
    """Channels of the network's first stage, a multiple of 4."""
    blocks: tuple[int, ...] = (1, 1)
    """Residual blocks of each stage."""
    gates: study.Gated = ("sum", "cosine", "cosine_unweighted")
    """To compare with main-only learning, with options if wanted; all: every gate."""
    steps: int = 150
    seeds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (self.pairs, self.background, self.main_images, self.auxiliary_images)
        if min(*counts, *self.blocks, self.width) < 1 or not self.blocks:
            raise ValueError("all numbers but --side must be at least 1.")
        if self.width % 4 != 0:
            raise ValueError(f"--width must be a multiple of 4, not {self.width}.")
        if self.side < 0:
            raise ValueError(f"--side must be at least 0, not {self.side}.")


def read(options: Options, folder: Path) -> tuple[Pictures, Mapping[str, Sequence[Pair]]]:
    """Reads the images, and chooses the pairs."""
    named = sorted({name for pair in (*NEAR, *FAR) for name in pair})
    top = folder / "train" if (folder / "train").is_dir() else folder
    if all((top / name).is_dir() for name in named):
        others = sorted(path.name for path in top.iterdir() if path.is_dir())
        others = [name for name in others if name not in named][: options.background]
        return read_pictures(folder, options.side, [*named, *others]), {"near": NEAR, "far": FAR}
    data = read_pictures(folder, options.side)
    kinds = range(len(data.names))
    if len(kinds) < 4:
        raise UsageError(f"--data {folder} has {len(kinds)} classes, and pairs need at least 4.")
    means = [data.floats(data.train[data.labels[data.train] == c]).mean(0).flatten() for c in kinds]
    distance = torch.cdist(torch.stack(means), torch.stack(means))
    first, second = torch.triu_indices(len(kinds), len(kinds), 1).unbind()
    order = distance[first, second].argsort().tolist()
    ends = list(zip(first.tolist(), second.tolist(), strict=True))
    pairs = [(data.names[ends[index][0]], data.names[ends[index][1]]) for index in order]
    count = min(options.pairs, len(pairs) // 2)
    return data, {"near": pairs[:count], "far": pairs[-count:][::-1]}


def problem(options: Options, data: Pictures, pairs: Sequence[Pair], seed: int) -> Classification:
    """Asks for both classes of a pair.

    Args:
        options: how many images, which network.
        data: all images.
        pairs: one of which the seed takes.
        seed: by which images are chosen.

    Raises:
        UsageError: a class has too few images.
    """
    generator = torch.Generator().manual_seed(seed)
    main, other = (data.names.index(name) for name in pairs[seed % len(pairs)])
    neither = ~torch.isin(data.labels, torch.tensor([main, other]))

    def balanced(wanted: int, where: Tensor, count: int) -> list[Tensor]:
        chosen = []
        for rows in (where[neither[where]], where[data.labels[where] == wanted]):
            if len(rows) < count:
                raise UsageError(
                    f"--main-images and --auxiliary-images are more than {data.names[wanted]} or "
                    "its background has: give smaller numbers."
                )
            chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
        return chosen

    def set_of(background: Tensor, shown: Tensor) -> Set:
        labels = torch.cat([torch.zeros(len(background)), torch.ones(len(shown))]).long()
        return Set(data.floats(torch.cat([background, shown])), labels)

    mine = balanced(main, data.train, options.main_images)
    rest = data.train[~torch.isin(data.train, torch.cat(mine))]
    others = balanced(other, rest, options.auxiliary_images)
    tests = data.test[neither[data.test]], data.test[data.labels[data.test] == main]
    features = options.width * 2 ** (len(options.blocks) - 1)

    def build() -> Network:
        trunk = residual_network(data.pixels.shape[1], options.width, options.blocks)
        return Network(trunk, [torch.nn.Linear(features, 2) for _ in range(2)])

    return Classification(set_of(*mine), [set_of(*others)], set_of(*tests), build)


def judge(found: Results) -> list[Verdict]:
    """What Du et al. say of pairs of classes."""
    verdicts = []
    if found.measures("cosine"):
        near, far = (found.cosine(each, "cosine").mean(1) for each in ("near", "far"))
        same = found.cosine("same", "cosine").mean()
        verdicts.append(
            positive(
                "the cosine is higher for near classes than for far ones (Du et al., Figure 3)",
                near - far,
                f"{near.mean():.3f} against {far.mean():.3f}, and {same:.3f} for a class and "
                "itself; difference",
            )
        )
        early = found.cosine("same", "cosine").mean(1) - near
        verdicts.append(
            positive(
                "the cosine is higher for a class and itself than for near ones",
                early,
                "Difference",
            )
        )
    if found.measures("sum"):
        gains = [found.gain(each, "sum", "accuracy") for each in ("near", "far")]
        verdicts.append(
            positive(
                "sum gains more with near classes than with far ones",
                gains[0] - gains[1],
                f"Gain over {MAIN}",
            )
        )
    verdicts += [
        no_less(
            f"with far classes, {gate} is no less accurate than {MAIN} (Du et al.)",
            found.gain("far", gate, "accuracy"),
            "Gain",
            margin=MARGIN,
        )
        for gate in ("cosine", "cosine_unweighted")
        if found.measures(gate)
    ]
    return verdicts


def work(options: Options) -> Report:
    """Trains with near and far classes, and says what came out."""
    with data_of(options.data, idx_digits, "ImageNet, CIFAR or MNIST") as folder:
        data, pairs = read(options, folder)
    same = [(main, main) for main, _ in pairs["near"]]
    kinds = {"same": same, **pairs}
    for kind, chosen in kinds.items():
        print(f"{kind}: {', '.join(f'{main} and {other}' for main, other in chosen)}")
    problems = {kind: partial(problem, options, data, chosen) for kind, chosen in kinds.items()}
    found = compare(problems, options.names(), options.seeds, options.steps, same_main=False)
    courses = {}
    if found.measures("cosine"):
        courses["pairs_cosine"] = {CLASSES: found.courses("cosine", options.steps)}
    return Report(found.rows(), {"pairs": draw(found)}, judge(found), courses)


def draw(found: Results) -> Figure:
    """Draws the accuracy by kind of the pairs."""
    return draw_accuracy(found, CLASSES, f"{BANDS}, each with its pair of classes")


redraw = redrawn(draw)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "pairs", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What networks of `digits.py` learn: which images, what they are asked about them, and how.

In the spirit of Du et al.'s experiments with rotated MNIST and pairs of ImageNet classes
(https://arxiv.org/abs/1812.02224), whose settings could not be found: all numbers are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from agents.gates import Gate, diagnose
from agents.gates.methods.sum import Sum
from examples.images import Images
from examples.students import Students, build_students, gated_gradients

WIDTHS = (32, 32)
"""Of the layers that both tasks share."""
BATCH, LEARNING_RATE = 32, 1e-3
POINTS = 10
"""Of every curve of cosines: each is a mean over as many steps."""

Splits = tuple[Int[Tensor, "K a"], Int[Tensor, "K b"], Int[Tensor, "K c"]]
"""Images of each seed: for the main task, for the auxiliary, for tests of the main task."""


@dataclass(frozen=True)
class Lessons:
    """Which images S networks see, and what they are asked; every class is shown equally often."""

    pictures: Float[Tensor, "V n I"]
    """All images, in V variants; variant 0 is for the main task."""
    seed: Int[Tensor, " S"]
    variant: Int[Tensor, " S"]
    """Of the auxiliary task."""
    main: Int[Tensor, "S n"]
    """Answers of the main task."""
    auxiliary: Int[Tensor, "S n"]
    splits: Splits


@dataclass(frozen=True)
class Outcome:
    """What became of S networks."""

    cosine: Float[Tensor, "S points"]
    """Of the two gradients, while learning."""
    accuracy: Float[Tensor, " S"]
    """Of the main task on test images, the mean over classes."""


def split(images: Images, seeds: int, main: int, auxiliary: int) -> Splits:
    """Shuffles the images for every seed and deals them out."""
    count = len(images.labels)
    order = [
        torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        for seed in range(seeds)
    ]
    parts = torch.stack(order).split([main, auxiliary, count - main - auxiliary], dim=1)
    return parts[0], parts[1], parts[2]


def rotations(images: Images, splits: Splits, angles: Sequence[float]) -> Lessons:
    """Every angle with every seed: which digit is it, upright and turned?"""
    seeds = len(splits[0])
    variant, seed = torch.cartesian_prod(torch.arange(len(angles)), torch.arange(seeds)).unbind(1)
    answers = images.labels.expand(len(seed), -1)
    pictures = torch.stack([images.rotated(angle).flatten(1) for angle in (0.0, *angles)])
    return Lessons(pictures, seed, variant + 1, answers, answers, splits)


def pairs(images: Images, splits: Splits, classes: Sequence[tuple[int, int]]) -> Lessons:
    """Every pair with every seed: is it the first class? For the auxiliary, the second?"""
    seeds = len(splits[0])
    chosen, seed = torch.cartesian_prod(torch.arange(len(classes)), torch.arange(seeds)).unbind(1)
    wanted = torch.tensor(classes)[chosen]  # [S, 2]
    main, auxiliary = ((images.labels == each[:, None]).long() for each in wanted.unbind(1))
    variant = torch.zeros_like(seed)
    return Lessons(images.pixels.flatten(1)[None], seed, variant, main, auxiliary, splits)


def nearest_and_farthest(images: Images, count: int) -> list[tuple[int, int]]:
    """The pairs of classes whose mean images are nearest, then those farthest from each other."""
    means = torch.stack([images.pixels[images.labels == c].mean(0).flatten() for c in range(10)])
    distance = torch.cdist(means, means).tolist()
    ordered = sorted(combinations(range(10), 2), key=lambda pair: distance[pair[0]][pair[1]])
    return ordered[:count] + ordered[-count:]


def learn(lessons: Lessons, gate: Gate | None, steps: int) -> Outcome:
    """Trains all networks at once.

    Args:
        lessons: what they learn.
        gate: one that has judged nothing yet; none for main-only learning.
        steps: of Adam.
    """
    num_answers = int(lessons.main.max()) + 1
    seeds = lessons.seed.tolist()
    students = build_students([lessons.pictures.shape[-1], *WIDTHS], num_answers, seeds)
    optimizer = torch.optim.Adam(students.parameters, LEARNING_RATE)
    generators = [torch.Generator().manual_seed(seed) for seed in range(max(seeds) + 1)]
    mixing = torch.Generator().manual_seed(0)
    upright = torch.zeros_like(lessons.variant)
    tasks = (
        (upright, lessons.main, lessons.splits[0]),
        (lessons.variant, lessons.auxiliary, lessons.splits[1]),
    )
    dealt = [_Deck(lessons, *task) for task in tasks]
    cosines = []
    for step in range(steps):
        # The same for all networks of a seed, so that comparisons are paired.
        drawn = torch.stack([torch.rand(2, BATCH, generator=each) for each in generators])
        losses = []
        for task, deck in enumerate(dealt if gate is not None else dealt[:1]):
            pictures, answers = deck.deal(drawn[lessons.seed, task])
            outputs = students.outputs(pictures, task)
            losses.append(F.cross_entropy(outputs.mT, answers, reduction="none"))  # [S, B]
        samples: list[Tensor] = []
        if gate is not None and gate.sample_rows > 0 and step % gate.sample_every == 0:
            mixtures = torch.randn(gate.sample_rows, BATCH, generator=mixing)
            samples = [(losses[0] * mixture).mean(1) for mixture in mixtures]
        means = [loss.mean(1) for loss in losses]
        # Alone, a main loss keeps its gradient whatever the gate.
        judge = Sum() if gate is None else gate
        judgement = gated_gradients(students, judge, means, samples)
        optimizer.step()
        if gate is not None:
            cosines.append(diagnose(gate, judgement).cosine[:, 0])
    cosine = torch.stack(cosines, 1) if cosines else torch.full((len(seeds), steps), torch.nan)
    deck = _Deck(lessons, upright, lessons.main, lessons.splits[2])
    return Outcome(_in_points(cosine), deck.accuracy(students))


class _Deck:
    """The images of one split as every network sees them."""

    def __init__(self, lessons: Lessons, variant: Tensor, answers: Tensor, split: Tensor) -> None:
        self._pictures = lessons.pictures
        self._variant = variant
        self._chosen = split[lessons.seed]  # [S, m]
        self._answers = answers.gather(1, self._chosen)  # [S, m]
        shown = F.one_hot(self._answers).sum(1)  # [S, classes]
        weight = 1.0 / shown.gather(1, self._answers)
        self._weight = weight / weight.sum(1, keepdim=True)

    def deal(self, drawn: Float[Tensor, "S B"]) -> tuple[Tensor, Tensor]:
        """Turns numbers from 0 to 1 into pictures and answers, of all classes equally often."""
        last = self._weight.shape[1] - 1
        place = torch.searchsorted(self._weight.cumsum(1), drawn).clamp(max=last)
        chosen = self._chosen.gather(1, place)
        return self._pictures[self._variant[:, None], chosen], self._answers.gather(1, place)

    @torch.no_grad()
    def accuracy(self, students: Students) -> Float[Tensor, " S"]:
        """Of each network's main task, the mean over classes."""
        pictures = self._pictures[self._variant[:, None], self._chosen]
        right = students.outputs(pictures, 0).argmax(-1) == self._answers
        return (right * self._weight).sum(1)


def _in_points(curves: Float[Tensor, "S steps"]) -> Float[Tensor, "S points"]:
    """Means over consecutive steps."""
    return torch.stack([part.mean(1) for part in curves.tensor_split(POINTS, dim=1)], dim=1)

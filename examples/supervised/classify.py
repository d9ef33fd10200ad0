"""Classification of images with auxiliary tasks that see images of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from examples.supervised.loop import Network, Problem

AT_ONCE = 500
"""Images that are tested together."""


@dataclass(frozen=True)
class Set:
    """Images and what they show."""

    pixels: Float[Tensor, "n C H W"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Classification(Problem):
    """The main task and each auxiliary classify; every task has its own images and classes."""

    main: Set
    auxiliaries: Sequence[Set]
    test: Set
    """Of the main task."""
    build: Callable[[], Network]
    batch: int = 32
    """Images of each task."""
    coefficient: float = 1.0
    """Of every auxiliary loss."""
    learning_rate: float = 1e-3

    def network(self) -> Network:
        """A network with a head for each task."""
        return self.build()

    def draw(self, generator: torch.Generator) -> list[Int[Tensor, " B"]]:
        """Images of each task, as numbers; a task with few images shows them more often."""
        counts = [len(each.labels) for each in (self.main, *self.auxiliaries)]
        return [torch.randint(count, (self.batch,), generator=generator) for count in counts]

    def losses(
        self, network: Network, batch: list[Int[Tensor, " B"]], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropies."""
        losses = []
        sets = [self.main] if alone else [self.main, *self.auxiliaries]
        for task, (each, chosen) in enumerate(zip(sets, batch, strict=False)):
            answers = network.answer(network.features(each.pixels[chosen]), task)
            loss = F.cross_entropy(answers, each.labels[chosen], reduction="none")
            losses.append(loss if task == 0 else self.coefficient * loss)
        return losses

    def score(self, network: Network) -> Mapping[str, float]:
        """Accuracy of the main task, the mean over classes."""
        return {"accuracy": accuracy(network, self.test, 0)}


def accuracy(network: Network, data: Set, task: int) -> float:
    """Accuracy of a task, the mean over classes.

    Args:
        network: what is tested.
        data: what it is asked.
        task: its head.
    """
    parts = data.pixels.split(AT_ONCE)
    said = torch.cat([network.answer(network.features(part), task).argmax(-1) for part in parts])
    return accuracy_of(said, data.labels)


def accuracy_of(said: Int[Tensor, " n"], right: Int[Tensor, " n"]) -> float:
    """Accuracy of answers, the mean over the classes that occur."""
    hit = (said == right).float()
    return float(torch.stack([hit[right == each].mean() for each in right.unique()]).mean())

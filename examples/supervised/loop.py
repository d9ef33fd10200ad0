"""The training loop of all supervised examples: a network, a problem, and a gate.

`train` is the loop of examples/README.md with all that some gates ask for: gradients of single
samples, slices of the batch, a preference that is learnt, rotated features.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.gates import Gate, gated_backward
from agents.gates.methods.attittud import Attittud
from agents.gates.methods.nash import AuxiNash
from agents.gates.methods.rotograd import RotoGrad
from agents.learning.auxinash import LearnedPreference
from agents.learning.rotations import Cut, Rotations, rotated_backward

POINTS = 10
"""Of every curve of cosines: each is a mean over as many steps."""


class Network(nn.Module):
    """A trunk that all tasks train, and a head for each; the main task's first."""

    def __init__(self, trunk: nn.Module, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)
        self.rotations: Rotations | None = None
        self.cut: Cut | None = None

    def features(self, inputs: Tensor) -> Tensor:
        """What all heads read."""
        found: Tensor = self.trunk(inputs)
        if self.rotations is None or not torch.is_grad_enabled():
            return found
        self.cut = Cut((found,))
        return self.cut.pieces[0]

    def answer(self, features: Tensor, task: int) -> Tensor:
        """What one head says; it reads rotated features if the gate rotates them."""
        if self.rotations is not None:
            features = self.rotations.rotate(features, task)
        answer: Tensor = self.heads[task](features)
        return answer


class Problem(ABC):
    """A main task and auxiliary tasks, with their data."""

    learning_rate: float = 1e-3
    """Of Adam."""
    longest: float = 0.0
    """Gradients are clipped to this length after the gate; 0: they are not."""

    @property
    def width(self) -> int:
        """Of the features, where all losses read those of the same inputs; 0 elsewhere."""
        return 0

    @abstractmethod
    def network(self) -> Network:
        """Makes a network from PyTorch's random numbers."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Any:
        """Draws a batch of all tasks."""

    @abstractmethod
    def losses(self, network: Network, batch: Any, alone: bool) -> list[Float[Tensor, " _"]]:
        """Losses of every sample, task by task, each multiplied by its coefficient.

        Args:
            network: what learns.
            batch: from `draw`.
            alone: whether the main task's are enough.
        """

    @abstractmethod
    def score(self, network: Network) -> Mapping[str, float]:
        """What the network is worth, on data that it has not learnt from."""


@dataclass(frozen=True)
class Trained:
    """What became of one network."""

    network: Network | None
    """None where the rest was read from a table."""
    scores: Mapping[str, float]
    cosine: Float[Tensor, " points"]
    """Of the main gradient and the auxiliary ones, their mean; NaN where no gate measured it."""
    preference: Sequence[float]
    """That AuxiNash learnt, if it did; the main task's first."""


def train(problem: Problem, gate: Gate | None, seed: int, steps: int) -> Trained:
    """Trains one network.

    Args:
        problem: what it learns.
        gate: one that has judged nothing yet; none for main-only learning.
        seed: of the initial weights and of the batches, which are the same for all gates.
        steps: of Adam.
    """
    torch.manual_seed(seed)
    network = problem.network()
    optimizer = torch.optim.Adam(network.parameters(), problem.learning_rate)
    step_of = _Step(problem, network, gate, seed)
    network.train()
    cosines = []
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        cosines.append(step_of(step))
        if problem.longest > 0:
            nn.utils.clip_grad_norm_(network.parameters(), problem.longest)
        optimizer.step()
    network.eval()
    with torch.no_grad():
        scores = problem.score(network)
    curve = torch.stack([part.mean() for part in torch.stack(cosines).tensor_split(POINTS)])
    learnt = [] if step_of.preference is None else step_of.preference.gate.preference.tolist()
    return Trained(network, scores, curve, learnt)


class _Step:
    """Takes the gradients of one batch through a gate."""

    def __init__(self, problem: Problem, network: Network, gate: Gate | None, seed: int) -> None:
        self._problem, self._network, self._gate = problem, network, gate
        self._batches = torch.Generator().manual_seed(seed)
        self._mixing = torch.Generator().manual_seed(seed + 1)
        self._shared = [*network.trunk.parameters()]
        self._private = [*network.heads.parameters()]
        self.preference: LearnedPreference | None = None
        if isinstance(gate, AuxiNash) and gate.learn_every > 0:
            self.preference = LearnedPreference.of(gate)
        if isinstance(gate, RotoGrad):
            network.rotations = Rotations(len(network.heads), problem.width, gate.block)

    def __call__(self, step: int) -> Float[Tensor, ""]:
        """Returns the cosine of the gradients."""
        batch = self._problem.draw(self._batches)
        gate, alone = self._gate, self._gate is None
        samples = self._problem.losses(self._network, batch, alone)
        losses = [each.mean() for each in samples]
        if gate is None:
            losses[0].backward()
            return torch.tensor(torch.nan)
        if isinstance(gate, RotoGrad):
            assert self._network.rotations is not None
            assert self._network.cut is not None
            rate = self._problem.learning_rate * gate.pace * gate.decay**step
            judgement = rotated_backward(
                losses, gate, self._network.rotations, self._network.cut, self._private, rate=rate
            )
        else:
            if self.preference is not None:
                self.preference.learn(losses, self._shared)
            judgement = gated_backward(
                losses,
                gate,
                self._shared,
                self._private,
                samples=self._combinations(gate, samples[0], step),
                slices=_sliced(samples, gate.slices) if gate.slices > 0 else None,
                reduce=None if self.preference is None else self.preference.remember,
            )
        # NaN where the gate needs no cosine: the losses of `sum` go back in a single pass.
        return judgement.gramian.cosine[0, 0, 1 : len(losses)].mean()

    def _combinations(self, gate: Gate, main: Tensor, step: int) -> list[Tensor] | None:
        """Random combinations of per-sample main losses; those of a batch of its own if `fresh`."""
        if gate.sample_rows == 0 or step % gate.sample_every != 0:
            return None
        fresh = isinstance(gate, Attittud) and gate.fresh
        if fresh:
            batch = self._problem.draw(self._mixing)
            main = self._problem.losses(self._network, batch, alone=True)[0]
        rank = gate.sample_rows - int(fresh)
        mixtures = torch.randn(rank, len(main), generator=self._mixing)
        mixed = [(main * mixture).mean() for mixture in mixtures]
        return [*mixed, main.mean()] if fresh else mixed


def _sliced(samples: Sequence[Tensor], slices: int) -> list[list[Tensor]]:
    """Shares of all losses in each slice of the batch; they add up to the means."""
    parts = [[part.sum() / len(each) for part in each.tensor_split(slices)] for each in samples]
    return [list(shares) for shares in zip(*parts, strict=True)]

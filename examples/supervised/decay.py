"""Weight decay as an auxiliary loss: a classifier of reviews whose decay passes a gate.

Tran-Thien, "Censoring the auxiliary loss gradient", experiment 4
(https://github.com/vivien000/auxiliary-learning2): the auxiliary gradient is the vector of the
weights itself, added outside of Adam as AdamW does; words of a review as 10,000 zeros and ones,
layers of 512 and 512 units, AdamW with 1e-3, batches of 512, lambdas from 0.1 to 10. The moving
average of `projection(decay=0.99)` is his choice, too.
Real data: `--data` with IMDB's folders (`train/pos/*.txt` and so on). The paper's sizes:
`--units 512 --batch 512 --words 10000`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.gates import Gate
from examples.supervised import study
from examples.supervised.loop import POINTS, Network, Trained
from examples.supervised.networks import perceptron
from examples.supervised.study import (
    Report,
    data_of,
    gate_of,
    judge_lambdas,
    run_script,
    train_all,
)
from examples.supervised.texts import Reviews, Vocabulary, read_reviews, reviews

HELD_OUT = 5
"""Every so many-th review for training is for validation, as 5,000 of 25,000 in the paper."""
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Options(study.Lambdas):
    """What is learnt, how often, and where the results go."""

    lambdas: tuple[float, ...] = (1.0, 10.0, 100.0)
    """By which the weights are multiplied before the step."""
    words: int = 1000
    """Most frequent words that count."""
    units: int = 64
    """Of each of two layers."""
    batch: int = 64
    """Reviews."""
    steps: int = 150
    seeds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.units, self.batch) < 1 or self.words < 3:
            raise ValueError("--units and --batch must be at least 1, and --words at least 3.")
        for name in self.gates:
            gate = gate_of(name)
            if gate.needs_losses or gate.needs_network or gate.sample_rows or gate.slices:
                raise ValueError(
                    f"--gates {name} needs more than two gradients, and weight decay is no loss: "
                    "drop it."
                )


@dataclass(frozen=True)
class Data:
    """Reviews as zeros and ones."""

    train: tuple[Float[Tensor, "n words"], Int[Tensor, " n"]]
    validation: tuple[Float[Tensor, "m words"], Int[Tensor, " m"]]
    test: tuple[Float[Tensor, "k words"], Int[Tensor, " k"]]


def read(options: Options, folder: Path) -> Data:
    """Reads the reviews, and counts the words of those for training."""
    found, tests = (read_reviews(folder, part) for part in ("train", "test"))
    held = torch.arange(len(found.texts)) % HELD_OUT == 0
    kept = [text for text, out in zip(found.texts, held, strict=True) if not out]
    words = Vocabulary(kept, options.words)

    def numbered(data: Reviews) -> tuple[Tensor, Tensor]:
        return words.multi_hot(data.texts), data.positive

    texts, labels = numbered(found)
    return Data((texts[~held], labels[~held]), (texts[held], labels[held]), numbered(tests))


def train(options: Options, data: Data, factor: float, gate: Gate | None, seed: int) -> Trained:
    """Trains one network; what the gate adds to the main gradient is the decay.

    Args:
        options: of the network.
        data: the reviews.
        factor: lambda.
        gate: one that has judged nothing yet; none for no decay.
        seed: of the weights and batches.
    """
    torch.manual_seed(seed)
    inputs, labels = data.train
    trunk = perceptron([inputs.shape[1], options.units, options.units])
    network = Network(trunk, [torch.nn.Linear(options.units, 1)])
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    cosines = []
    for _ in range(options.steps):
        batch = torch.randint(len(labels), (options.batch,), generator=generator)
        answers = network.answer(network.features(inputs[batch]), 0).squeeze(-1)
        optimizer.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(answers, labels[batch].float()).backward()
        added: list[Tensor] = []
        if gate is not None:
            gradients = [each.grad for each in parameters if each.grad is not None]
            rows = torch.stack([_flat(gradients), _flat(parameters)])
            judgement = gate.judge(rows)
            change = judgement.direction - rows[0]
            pieces = change.split([each.numel() for each in parameters])
            added = [piece.view_as(each) for piece, each in zip(pieces, parameters, strict=True)]
            cosines.append(judgement.gramian.cosine[0, 0, 1])
        optimizer.step()
        with torch.no_grad():
            for parameter, piece in zip(parameters, added, strict=False):
                parameter.sub_(LEARNING_RATE * factor * piece)
    scores = {name: _accuracy(network, *getattr(data, name)) for name in ("validation", "test")}
    curve = torch.full((POINTS,), torch.nan)
    if cosines:
        curve = torch.stack([part.mean() for part in torch.stack(cosines).tensor_split(POINTS)])
    return Trained(network, scores, curve, ())


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


@torch.no_grad()
def _accuracy(network: Network, inputs: Tensor, labels: Tensor) -> float:
    said = network.answer(network.features(inputs), 0).squeeze(-1) > 0
    return float((said == labels.bool()).float().mean())


def work(options: Options) -> Report:
    """Trains with every lambda, and says what came out."""
    with data_of(options.data, reviews, "IMDB's reviews") as folder:
        data = read(options, folder)
    trainers = {f"{factor:g}": partial(train, options, data, factor) for factor in options.lambdas}
    found = train_all(trainers, options.names(), options.seeds)
    figure = study.draw_lambdas(found, "accuracy")
    return Report(found.rows(), {"decay": figure}, judge_lambdas(found, "weight decay: accuracy"))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "decay", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

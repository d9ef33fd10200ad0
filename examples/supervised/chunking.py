"""Chunking with parts of speech as the auxiliary, a tagger of words.

Tran-Thien, "Censoring the auxiliary loss gradient", experiment 3
(https://github.com/vivien000/auxiliary-learning2): embeddings of 300 numbers, two LSTM layers of
128 units, dropout 0.2, Adam with 1e-4, batches of 128, gradients clipped to length 1, lambdas from
0.01 to 100. He used CoNLL-2003; CoNLL-2000 has the same columns. Sizes are smaller by default.
Real data: `--data` with `train.txt` and `test.txt`: word, part of speech and chunk in each line.
The paper's sizes: `--embedding 300 --units 128 --layers 2 --batch 128 --learning-rate 1e-4`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.supervised import study
from examples.supervised.loop import Network, Problem
from examples.supervised.metrics import chunk_f1
from examples.supervised.networks import Tagger
from examples.supervised.study import Report, compare, data_of, judge_lambdas, run_script
from examples.supervised.texts import Sentence, Vocabulary, columns, read_columns

AT_ONCE = 200
"""Sentences that are tested together."""
HELD_OUT = 5
"""Every so many-th sentence for training is for validation."""


@dataclass(frozen=True)
class Options(study.Lambdas):
    """What is learnt, how often, and where the results go."""

    sentences: int = 0
    """For training, at most; 0: all, and 100 of the stand-in."""
    words: int = 20_000
    """In the vocabulary, at most."""
    embedding: int = 16
    """Numbers per word."""
    units: int = 16
    """Of the LSTM, in each direction."""
    layers: int = 1
    """Of the LSTM."""
    dropout: float = 0.2
    """Share of the features that are dropped while learning."""
    batch: int = 32
    """Sentences."""
    learning_rate: float = 3e-3
    """Of Adam."""
    steps: int = 80
    seeds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.embedding, self.units, self.layers, self.batch) < 1 or self.words < 3:
            raise ValueError("all sizes must be at least 1, and --words at least 3.")
        if self.sentences != 0 and self.sentences < HELD_OUT:
            raise ValueError(f"--sentences must be 0 or at least {HELD_OUT}.")
        if not 0 <= self.dropout < 1 or not self.learning_rate > 0:
            raise ValueError("--dropout must be from 0 to below 1, and --learning-rate above 0.")


@dataclass(frozen=True)
class Tagged:
    """Sentences as numbers, filled up with 0; a tag of -1 is none."""

    words: Int[Tensor, "n T"]
    tags: Int[Tensor, "n T tasks"]
    """Chunks, then parts of speech."""
    chunks: Sequence[Sequence[str]]


def tagged(
    sentences: Sequence[Sentence], words: Vocabulary, tags: Sequence[Mapping[str, int]]
) -> Tagged:
    """Numbers sentences.

    Args:
        sentences: as they were read.
        words: of those for training.
        tags: numbers of both kinds of tags.
    """
    longest = max(len(sentence.words) for sentence in sentences)
    numbers = torch.zeros(len(sentences), longest, dtype=torch.int64)
    wanted = torch.full((len(sentences), longest, 2), -1)
    for row, sentence in enumerate(sentences):
        numbers[row, : len(sentence.words)] = torch.tensor(
            [words.number.get(word.lower(), 1) for word in sentence.words]
        )
        for task, names in enumerate((sentence.chunks, sentence.parts_of_speech)):
            # A tag that training has never seen is none.
            found = [tags[task].get(name, -1) for name in names]
            wanted[row, : len(names), task] = torch.tensor(found)
    return Tagged(numbers, wanted, [sentence.chunks for sentence in sentences])


@dataclass(frozen=True)
class Chunking(Problem):
    """Both tasks tag the words of the same sentences."""

    options: Options
    train: Tagged
    validation: Tagged
    test: Tagged
    vocabulary: int
    tags: Sequence[Sequence[str]]
    coefficient: float
    learning_rate: float
    longest: float = 1.0

    @property
    def width(self) -> int:
        """Of the features: both directions."""
        return 2 * self.options.units

    def network(self) -> Network:
        """A tagger with two heads."""
        options = self.options
        trunk = Tagger(
            self.vocabulary, options.embedding, options.units, options.layers, options.dropout
        )
        return Network(trunk, [torch.nn.Linear(self.width, len(names)) for names in self.tags])

    def draw(self, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Some of the sentences."""
        return torch.randint(len(self.train.words), (self.options.batch,), generator=generator)

    def losses(
        self, network: Network, batch: Int[Tensor, " B"], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropies, the mean over the words of a sentence."""
        features = network.features(self.train.words[batch])
        losses = []
        for task, factor in enumerate((1.0,) if alone else (1.0, self.coefficient)):
            wanted = self.train.tags[batch, :, task]
            answers = network.answer(features, task)
            loss = F.cross_entropy(answers.mT, wanted, ignore_index=-1, reduction="none")
            losses.append(factor * loss.sum(1) / (wanted >= 0).sum(1).clamp(min=1))
        return losses

    def score(self, network: Network) -> Mapping[str, float]:
        """F1 of chunks."""
        return {name: self._f1(network, getattr(self, name)) for name in ("validation", "test")}

    def _f1(self, network: Network, data: Tagged) -> float:
        said = []
        for part in data.words.split(AT_ONCE):
            answers = network.answer(network.features(part), 0).argmax(-1)
            for row, words in zip(answers.tolist(), part, strict=True):
                said.append([self.tags[0][tag] for tag in row[: int((words > 0).sum())]])
        return chunk_f1(said, data.chunks)


def problem(options: Options, folder: Path) -> "partial[Chunking]":
    """Reads the sentences; what is returned takes a lambda and a seed, which changes no data."""
    train, test = (read_columns(folder, name) for name in ("train", "test"))
    train = train[: options.sentences or (len(train) if options.data else 100)]
    kept = [each for number, each in enumerate(train) if number % HELD_OUT]
    words = Vocabulary([[word.lower() for word in each.words] for each in kept], options.words)
    names = [
        sorted({tag for each in kept for tag in each.chunks}),
        sorted({tag for each in kept for tag in each.parts_of_speech}),
    ]
    numbers = [{name: place for place, name in enumerate(tags)} for tags in names]
    mine, validation, tests = (
        tagged(each, words, numbers) for each in (kept, train[::HELD_OUT], test)
    )
    return partial(
        Chunking,
        options,
        mine,
        validation,
        tests,
        len(words),
        names,
        learning_rate=options.learning_rate,
    )


def work(options: Options) -> Report:
    """Trains with every lambda, and says what came out."""
    with data_of(options.data, columns, "CoNLL-2000's train.txt and test.txt") as folder:
        made = problem(options, folder)

    def of(factor: float, seed: int) -> Chunking:
        return made(coefficient=factor)

    problems = {f"{factor:g}": partial(of, factor) for factor in options.lambdas}
    names = options.names(width=2 * options.units)
    found = compare(problems, names, options.seeds, options.steps)
    figure = study.draw_lambdas(found, "F1 of chunks")
    return Report(found.rows(), {"chunking": figure}, judge_lambdas(found, "chunking: F1"))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "chunking", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Text data: columns of words and tags (CoNLL), folders of reviews (IMDB), and stand-ins.

https://www.cnts.ua.ac.be/conll2000/chunking, https://ai.stanford.edu/~amaas/data/sentiment
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from configs.errors import UsageError

PARTS = ("train", "test")
KINDS = ("neg", "pos")
MARKS = str.maketrans(dict.fromkeys('.,;:!?"()[]<>/*-_', " "))


@dataclass(frozen=True)
class Sentence:
    """Words, their parts of speech, and chunks in IOB."""

    words: Sequence[str]
    parts_of_speech: Sequence[str]
    chunks: Sequence[str]


def read_columns(folder: Path, name: str) -> list[Sentence]:
    """Reads a file of CoNLL: a word, its part of speech and its chunk in each line.

    An empty line ends a sentence; further columns (the names of CoNLL-2003) are not read.

    Args:
        folder: of the files.
        name: of one, without .txt.

    Raises:
        UsageError: the file is not there, or a line has fewer columns.
    """
    path = next((each for each in (folder / f"{name}.txt", folder / name) if each.is_file()), None)
    if path is None:
        raise UsageError(f"--data {folder} has no {name}.txt: give the folder of CoNLL-2000.")
    sentences, rows = [], []
    for number, line in enumerate([*_text(path).splitlines(), ""], start=1):
        row = line.split()
        if row and row[0] != "-DOCSTART-":
            if len(row) < 3:
                raise UsageError(
                    f"--data: line {number} of {path} must have a word, a part of speech and a "
                    "chunk: get it again."
                )
            rows.append(row)
        elif rows:
            words, parts, chunks = list(zip(*rows, strict=False))[:3]
            sentences.append(Sentence(words, parts, chunks))
            rows = []
    if not sentences:
        raise UsageError(f"--data: {path} has no sentences: get it again.")
    return sentences


@dataclass(frozen=True)
class Reviews:
    """Texts, and whether they are positive."""

    texts: Sequence[Sequence[str]]
    positive: Int[Tensor, " n"]


def read_reviews(folder: Path, part: str) -> Reviews:
    """Reads `train/pos`, `train/neg` and so on: a text in every file.

    Args:
        folder: of IMDB's reviews.
        part: train or test.

    Raises:
        UsageError: there are none.
    """
    texts, labels = [], []
    for label, kind in enumerate(KINDS):
        paths = sorted((folder / part / kind).glob("*.txt"))
        if not paths:
            raise UsageError(
                f"--data {folder} has no {part}/{kind}/*.txt: give the folder of IMDB's reviews "
                "(aclImdb)."
            )
        texts += [_text(path).lower().translate(MARKS).split() for path in paths]
        labels += [label] * len(paths)
    return Reviews(texts, torch.tensor(labels))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--data: {path} is not a text in UTF-8: get it again.") from error


class Vocabulary:
    """The most frequent words, as numbers: 0 fills up sentences, 1 is any other word."""

    def __init__(self, texts: Iterable[Sequence[str]], largest: int) -> None:
        counts = Counter(word for text in texts for word in text)
        # By name where equally frequent: the order of files must not matter.
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[: largest - 2]
        self.number = {word: place for place, word in enumerate(frequent, start=2)}

    def __len__(self) -> int:
        """Words and the two other numbers."""
        return len(self.number) + 2

    def multi_hot(self, texts: Sequence[Sequence[str]]) -> Float[Tensor, "n words"]:
        """Which words each text has; no matter how often."""
        found = torch.zeros(len(texts), len(self))
        for row, text in enumerate(texts):
            found[row, [self.number.get(word, 1) for word in text]] = 1.0
        found[:, 1] = 0.0
        return found


NOUNS = ("market", "price", "bank", "share", "report", "trader", "board", "plan", "fund", "sale")
VERBS = ("rose", "fell", "said", "cut", "made", "sold", "kept", "won", "lost", "gave")
BOTH = ("offer", "bid", "rise", "drop", "trade", "order", "act", "turn", "call", "run")
"""Words that are nouns or verbs: only their place tells."""
ADJECTIVES = ("new", "big", "late", "small", "strong", "weak", "old", "early", "sharp", "firm")
PREPOSITIONS = ("of", "in", "on", "with", "after", "for")
ADVERBS = ("sharply", "late", "again", "slowly", "firm")


def columns(folder: Path, train: int = 600, test: int = 300) -> None:
    """Writes sentences of a small grammar as CoNLL-2000's `train.txt` and `test.txt`.

    Args:
        folder: where they go.
        train: sentences for training.
        test: sentences for tests.
    """
    generator = np.random.default_rng(0)
    for part, count in zip(PARTS, (train, test), strict=True):
        sentences = ["\n".join(" ".join(row) for row in _sentence(generator)) for _ in range(count)]
        (folder / f"{part}.txt").write_text("\n\n".join(sentences) + "\n\n", "utf-8")


Rows = list[tuple[str, str, str]]


def _sentence(generator: np.random.Generator) -> Rows:
    rows = _noun_phrase(generator)
    if generator.random() < 0.4:
        rows += _prepositional_phrase(generator)
    modal = generator.random() < 0.3
    if modal:
        rows.append((_one(generator, ("will", "may", "to")), "MD", "B-VP"))
    verb = _one(generator, BOTH if generator.random() < 0.5 else VERBS)
    rows.append((verb, "VB" if modal else "VBD", "I-VP" if modal else "B-VP"))
    if generator.random() < 0.7:
        rows += _noun_phrase(generator)
    if generator.random() < 0.4:
        rows.append((_one(generator, ADVERBS), "RB", "B-ADVP"))
    if generator.random() < 0.5:
        rows += _prepositional_phrase(generator)
    return [*rows, (".", ".", "O")]


def _noun_phrase(generator: np.random.Generator) -> Rows:
    words: list[tuple[str, str]] = []
    if generator.random() < 0.6:
        words.append((_one(generator, ("the", "a", "this")), "DT"))
    if generator.random() < 0.4:
        words.append((_one(generator, ADJECTIVES), "JJ"))
    nouns = 2 if generator.random() < 0.3 else 1
    words += [
        (_one(generator, NOUNS if generator.random() < 0.5 else BOTH), "NN") for _ in range(nouns)
    ]
    return [(word, tag, "I-NP" if place else "B-NP") for place, (word, tag) in enumerate(words)]


def _prepositional_phrase(generator: np.random.Generator) -> Rows:
    return [(_one(generator, PREPOSITIONS), "IN", "B-PP"), *_noun_phrase(generator)]


def _one(generator: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(generator.integers(len(words)))]


def reviews(folder: Path, train: int = 400, test: int = 600) -> None:
    """Writes reviews of made words, some of which tell a little of what the review is.

    Args:
        folder: where they go.
        train: how many for training, half of them positive.
        test: how many for tests.
    """
    generator = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(600)])
    frequency = 1 / np.arange(3, 603)
    leaning = np.where(generator.random(600) < 0.3, generator.normal(0, 0.6, 600), 0.0)
    for part, count in zip(PARTS, (train, test), strict=True):
        for label, kind in enumerate(KINDS):
            place = folder / part / kind
            place.mkdir(parents=True, exist_ok=True)
            odds = frequency * np.exp((2 * label - 1) * leaning)
            for number in range(count // 2):
                chosen = generator.choice(words, 40, p=odds / odds.sum())
                (place / f"{number}_{9 if label else 2}.txt").write_text(" ".join(chosen), "utf-8")

import pytest
import torch

from configs.errors import UsageError
from examples.supervised.texts import Vocabulary, columns, read_columns, read_reviews, reviews

SENTENCES = """Confidence NN B-NP
in IN B-PP
the DT B-NP
pound NN I-NP

-DOCSTART- -X- O O

It PRP B-NP O
fell VBD B-VP O
"""


def test_sentences_are_separated_by_empty_lines_and_further_columns_are_not_read(tmp_path):
    (tmp_path / "train.txt").write_text(SENTENCES, "utf-8")
    first, second = read_columns(tmp_path, "train")
    assert first.words == ("Confidence", "in", "the", "pound")
    assert first.parts_of_speech == ("NN", "IN", "DT", "NN")
    assert first.chunks == ("B-NP", "B-PP", "B-NP", "I-NP")
    assert second.words == ("It", "fell")


def test_a_line_with_too_few_columns_is_named(tmp_path):
    (tmp_path / "test.txt").write_text("It PRP B-NP\nfell VBD\n", "utf-8")
    with pytest.raises(UsageError, match=r"line 2 of .*test.txt must have a word"):
        read_columns(tmp_path, "test")
    with pytest.raises(UsageError, match=r"has no train.txt"):
        read_columns(tmp_path, "train")


def test_an_empty_file_of_sentences_is_refused(tmp_path):
    (tmp_path / "test.txt").write_text("\n\n", "utf-8")
    with pytest.raises(UsageError, match="has no sentences"):
        read_columns(tmp_path, "test")


def test_reviews_are_read_by_their_folders(tmp_path):
    for part in ("train", "test"):
        for kind, text in (("pos", "A GOOD film.<br />Good!"), ("neg", "bad, bad")):
            (tmp_path / part / kind).mkdir(parents=True)
            (tmp_path / part / kind / "0_9.txt").write_text(text, "utf-8")
    found = read_reviews(tmp_path, "train")
    assert [list(text) for text in found.texts] == [
        ["bad", "bad"],
        ["a", "good", "film", "br", "good"],
    ]
    assert found.positive.tolist() == [0, 1]


def test_reviews_of_one_kind_alone_are_refused(tmp_path):
    (tmp_path / "train" / "neg").mkdir(parents=True)
    (tmp_path / "train" / "neg" / "0.txt").write_text("bad", "utf-8")
    with pytest.raises(UsageError, match=r"has no train/pos/\*\.txt"):
        read_reviews(tmp_path, "train")
    (tmp_path / "train" / "pos").mkdir()
    (tmp_path / "train" / "pos" / "0.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not a text in UTF-8"):
        read_reviews(tmp_path, "train")


def test_the_vocabulary_has_the_most_frequent_words():
    words = Vocabulary([["z", "b", "b"], ["a", "z", "d"]], largest=4)
    # b and z twice each, in the order of their names; a and d are any other word.
    assert words.number == {"b": 2, "z": 3}
    assert torch.equal(
        words.multi_hot([["b", "a", "b"], ["z"]]),
        torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
    )


def test_made_texts_are_read_back(tmp_path):
    columns(tmp_path, train=5, test=2)
    reviews(tmp_path, train=4, test=2)
    assert [len(read_columns(tmp_path, part)) for part in ("train", "test")] == [5, 2]
    assert read_reviews(tmp_path, "train").positive.tolist() == [0, 0, 1, 1]

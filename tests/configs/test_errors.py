import pytest

from configs.errors import nearest, nearest_first, ranked

NAMES = ("sum", "cosine", "projection")


def test_the_likest_name_comes_first():
    # "cosin" has five letters of "cosine", three of "projection" and one of "sum".
    assert ranked("cosin", NAMES)[0] == nearest("cosin", NAMES) == "cosine"
    assert nearest("som", NAMES) == "sum"


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["sum"], "sum"),
        (["sum", "cosine"], "sum or cosine"),
        (NAMES, "sum, cosine or projection"),
    ],
)
def test_names_are_listed_as_a_sentence_lists_them(names, listed):
    assert nearest_first("sum", names) == listed

from dataclasses import dataclass

import pytest

from configs.errors import UsageError, naming, nearest, nearest_first
from gridworld.options import OptionError, mention

NAMES = ("sum", "cosine", "projection")


def test_the_likest_name_comes_first():
    # "cosin" has five letters of "cosine", three of "projection" and one of "sum".
    assert nearest("cosin", NAMES) == "cosine"
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


@dataclass(frozen=True)
class Config:
    clip_end: float = 0.1
    epochs: int = 3


def said(error, component="algo.ppo"):
    with pytest.raises(UsageError) as refused, naming(Config(), component):
        raise error
    return str(refused.value)


def test_what_a_component_complains_about_is_named_by_its_flag():
    assert said(OptionError("clip_end", "is 2.")) == "--algo.ppo.clip-end is 2."
    assert said(OptionError("clip_end", "is 2."), "") == "--clip-end is 2."


def test_options_of_the_run_and_of_other_components_keep_their_flags():
    error = OptionError("epochs", f"needs {mention('num_envs')} 8 and {mention('env.rows')} 3.")
    assert said(error) == "--algo.ppo.epochs needs --num-envs 8 and --env.rows 3."


def test_a_plain_sentence_is_named_by_its_first_word_alone():
    # As the gates' library writes them.
    assert said(ValueError("epochs must be 1; epochs.")) == "--algo.ppo.epochs must be 1; epochs."
    assert said(ValueError("No world fits.")) == "No world fits."

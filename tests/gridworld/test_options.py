import pickle
from dataclasses import dataclass

import pytest

from gridworld.options import OptionError, at_least, mention, require


@dataclass
class Config:
    clip: float | None = 0.5
    epochs: int = 3


def shout(option):
    return option.upper()


def test_an_error_reads_as_a_sentence_with_the_options_own_names():
    assert str(OptionError("clip", "must be above 0, not -1.")) == "clip must be above 0, not -1."


def test_every_option_of_a_sentence_is_renamed_and_no_ordinary_word_is():
    error = OptionError("ahead", f"{{x}} looks ahead: give more {mention('steps')}, or steps.")
    assert error.sentence(shout) == "AHEAD {x} looks ahead: give more STEPS, or steps."


def test_a_sentence_may_begin_with_something_else_than_an_option():
    error = OptionError("", f"No world fits: raise {mention('height')}.")
    assert error.sentence(shout) == "No world fits: raise HEIGHT."
    assert str(error) == "No world fits: raise height."


def test_an_error_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(OptionError("clip", f"needs {mention('epochs')}.")))
    assert error.sentence(shout) == "CLIP needs EPOCHS."


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_number_that_is_too_small_or_no_finite_number_is_refused(value):
    with pytest.raises(OptionError, match=f"^clip must be 0 or more, not {value}"):
        at_least(Config(clip=value), 0, "epochs", "clip")


def test_what_holds_is_accepted_and_none_is_no_number():
    at_least(Config(clip=None, epochs=1), 1, "clip", "epochs")
    require(Config(), "clip", True, "anything")
    with pytest.raises(OptionError, match=r"^epochs must be even, not 3"):
        require(Config(), "epochs", False, "even")

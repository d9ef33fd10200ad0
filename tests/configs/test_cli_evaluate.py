"""The command line of `evaluate.py`."""

import pytest

from configs.cli import parse_evaluate
from tests.configs.command_lines import complaint, help_of


def test_the_arguments_of_evaluation_are_read():
    line = "runs/x --episodes 7 --num-envs 3 --seed 5 --output y.json"
    options = parse_evaluate(line.split())
    assert (options.runs, options.episodes, options.num_envs) == (("runs/x",), 7, 3)
    assert (options.seed, options.output) == (5, "y.json")
    assert parse_evaluate(["a", "b", "--seed", "1"]).runs == ("a", "b")
    film = parse_evaluate(["runs/x", "--video", "film.gif", "--video-steps", "9"])
    assert (film.video, film.video_steps) == ("film.gif", 9)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("", "RUN is missing: give a run's folder"),
        ("--episodes 3", "RUN is missing: give a run's folder"),
        ("x y --video z.gif", "--video films one RUN, not 2: film them in turn."),
        ("x --episodes 0", "--episodes must be at least 1, not 0."),
        ("x --episode 3", "--episode is not an option here: did you mean --episodes?"),
        ("x --precision half", "--precision half is unknown: choose one of 'auto', 'fp32'"),
    ],
)
def test_a_mistake_in_evaluation_is_one_sentence(line, start):
    assert complaint(line, parse_evaluate).startswith(start)


def test_the_help_of_evaluation_explains_its_options(capsys):
    text = help_of("", capsys, parse_evaluate)
    assert "--episodes" in text
    assert "(default: 100)" in text
    assert "usage: evaluate.py [-h] [OPTIONS] RUN [RUN ...]" in text


def test_the_examples_in_the_help_of_evaluation_are_commands_that_it_takes(capsys):
    text = help_of("", capsys, parse_evaluate)
    examples = [line.split() for line in text.splitlines() if "python evaluate.py" in line]
    assert len(examples) == 3
    for _, _, *arguments in examples:
        parse_evaluate(arguments)

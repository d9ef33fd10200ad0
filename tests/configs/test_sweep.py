import pytest

from configs.cli import parse_sweep
from configs.errors import UsageError
from configs.programs import SweepConfig
from gridworld import WorldConfig


def test_without_flags_it_is_the_figure_of_200_worlds():
    config = parse_sweep([])
    assert config == SweepConfig()
    assert (config.num_worlds, config.updates) == (200, 500)
    # 500 updates of 16 environments x 32 steps.
    assert config.updates * config.steps_per_update == 256_000


def test_full_is_a_thousand_worlds_and_nothing_else():
    config = parse_sweep(["--full"])
    assert config.num_worlds == 1000
    assert config.temperatures == (0.0, 0.1, 0.3, 1.0)
    assert config.settings == ("cross", "same")


def test_the_documented_line_is_read():
    gates = ["--gates", "sum", "cosine", "projection(decay=0.99)"]
    others = "--temperatures 0 1 --world.view-radius 2 --practice.num-envs 4 --settings same"
    config = parse_sweep([*gates, *others.split()])
    assert config.gates == ("sum", "cosine", "projection(decay=0.99)")
    assert config.temperatures == (0.0, 1.0)
    assert config.world == WorldConfig(view_radius=2)
    assert config.practice.num_envs == 4
    assert config.settings == ("same",)


def test_exact_gradients_have_a_learning_rate_of_their_own():
    assert SweepConfig().rate == 10.0
    assert SweepConfig(gradients="exact").rate == 0.3
    assert SweepConfig(learning_rate=0.5).rate == 0.5
    assert SweepConfig(gradients="exact").steps_per_update == 1


def test_curves_have_a_point_at_their_start_and_end_and_more_at_first_than_later():
    # 16 times the squares of 0, 1/4, 2/4, 3/4 and 1.
    assert SweepConfig(updates=16, points=4).log_points == (0, 1, 4, 9, 16)
    # More points than updates: one after each.
    assert SweepConfig(updates=2, points=20).log_points == (0, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--worlds 0", "--worlds must be at least 1, not 0"),
        ("--full --worlds 3", "--full means --worlds 1000: drop one"),
        ("--updates 0", "--updates must be at least 1"),
        ("--seed -1", "--seed must be 0 or more"),
        ("--seed 9223372036854775808", "--seed must be at most 9,223,372,036,854,775,807"),
        ("--points 1e9", "--points must be at most 1,000,000, not 1,000,000,000"),
        ("--workers 1e9", "--workers must be at most 1,024"),
        ("--learning-rate nan", "--learning-rate must be above 0"),
        ("--gates projection(decay=1e999)", "decay must be a finite number, not inf"),
        ("--gates pcgrad(seed=99999999999999999999)", "seed must be at most"),
        ("--temperatures -0.5", "--temperatures must be 0 \\(greedy\\) or more, not -0.5"),
        ("--temperatures inf", "--temperatures must be 0"),
        ("--temperatures 1 1", "--temperatures names 1.0 twice"),
        ("--gates sum sum", "--gates names sum twice"),
        ("--gates gradnorm", "--gates gradnorm needs the values of losses"),
        ("--gates nonsense", "--gates nonsense: gate must be one of"),
        ("--settings other", "other.* is unknown: choose one of"),
        ("--learning-rate 0", "--learning-rate must be above 0"),
        ("--teacher-steps 5", "--teacher-steps has no effect"),
        ("--gradients exact --practice.num-envs 4", "--practice has no effect"),
        ("--teacher-steps 0 --teacher q-learning", "--teacher-steps must be at least 1"),
        (
            "--world.layout cave",
            "--world.layout must be one of scattered, rooms, maze, empty",
        ),
        ("--world.height 2", "--world.height must be at least 3"),
        ("--world.action-noise 2", "--world.action-noise must be a probability"),
        ("--world.max-episode-steps 9", "--world.max-episode-steps must be 0 in a sweep"),
        ("--world.time-limit 9", "did you mean --world.max-episode-steps"),
        ("--practice.trace 2", "--practice.trace must be from 0 to 1"),
        ("--gate sum", "--gate is not an option here: did you mean --gates"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        parse_sweep(arguments.split())
    assert "\n" not in str(caught.value)


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        parse_sweep(["--help"])
    text = capsys.readouterr().out
    for flag in ("--full", "--gates", "--resume", "--world.layout", "--practice.trace"):
        assert flag in text

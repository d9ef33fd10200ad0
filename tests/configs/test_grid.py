import pytest

from configs.cli import parse
from configs.errors import UsageError
from configs.grid import distinct, expand
from configs.study import own_flags, read_also, read_file, split

PINS = {"device": "cpu", "precision": "fp32", "threads": "1", "env.backend": "envpool"}


def runs_of(line, pins=PINS):
    return distinct(expand(split(line.split(), own_flags())[1], pins))


def names_of(line):
    return [run.name for run in runs_of(line)]


def test_a_grid_is_the_product_of_its_values_without_what_does_not_apply():
    line = "--env Catch --aux none inverse --gate sum cosine --aux.inverse.coefficient 0.5 1"
    # No gate and no coefficient without the head: 1 + 2 gates x 2 coefficients.
    assert names_of(line) == [
        "Catch-main-s1",
        "Catch-inverse-sum-inverse.coefficient=0.5-s1",
        "Catch-inverse-sum-inverse.coefficient=1-s1",
        "Catch-inverse-cosine-inverse.coefficient=0.5-s1",
        "Catch-inverse-cosine-inverse.coefficient=1-s1",
    ]


def test_a_plus_joins_heads_and_quotes_hold_lists_together():
    _, axes = split(
        ["--env", "Catch", "--aux", "inverse+spr", "--torso.mlp.widths", "64 64", "32"],
        own_flags(),
    )
    runs = expand(axes, PINS)
    assert {run.config.choice.aux for run in runs} == {("inverse", "spr")}
    assert [run.config.torso.widths for run in runs] == [(64, 64), (32,)]


def test_values_that_mean_the_same_are_one():
    assert len(runs_of("--env Catch --learning-rate 0.001 1e-3 --gate sum sum --aux spr")) == 1
    assert len(runs_of("--env Catch --torso mlp --seed 1 1")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "--env Catch Gridworld --aux none inverse+spr --gate sum cosine --seed 1 2",
        "--env Breakout --aux distill --aux.distill.temperature 0 1 --protocol machado",
        "--env Catch --normalize-value true false --pipeline --torso.mlp.widths 64",
        "--env Catch --algo a2c ppg --gate cosine --gate.every 1 --no-deterministic",
    ],
)
def test_every_run_is_what_train_py_makes_of_its_command(line):
    runs = runs_of(line)
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        assert parse(run.words) == run.config


def test_auto_is_pinned_and_what_was_given_stays():
    pinned, given = (
        runs_of(f"--env Catch {line}", {**PINS, "precision": "bf16"})[0].config.run
        for line in ("--precision auto", "--precision fp32 --threads 2")
    )
    assert (pinned.precision, pinned.threads) == ("bf16", 1)
    assert (given.precision, given.threads) == ("fp32", 2)


def test_options_of_weighing_are_dropped_for_the_sum():
    plain, weighed = runs_of("--env Catch --aux inverse --gate sum cosine --gate.scope layer")
    assert (plain.config.judging.scope, weighed.config.judging.scope) == ("shared", "layer")
    plain, weighed = runs_of("--env Catch --aux inverse --gate sum cosine --gate.at features")
    assert (plain.config.judging.at, weighed.config.judging.at) == ("parameters", "features")


def test_the_first_of_a_name_keeps_it():
    first = runs_of("--env Catch --discount 0.9")
    second = runs_of("--env Catch --discount 0.8")
    alone, both = distinct(first), distinct([*first, *second])
    assert both[0] == alone[0]
    assert both[1].name.startswith("Catch-main-s1-")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--env Catch --gate", "--gate needs a value."),
        ("--env Catch --learning-rate", "--learning-rate needs a value."),
        ("--env Catch --steps 10 1.5", "--steps: '1.5' is not a whole number"),
        ("--env Catch --learning-rate 1 -1", "--learning-rate must be above 0 and finite, not -1"),
        ("--env Catch --device cpu cuda", "--device cannot vary within a study"),
        ("--env Breakout --env.num-threads 1 2", "--env.num-threads cannot vary within a study"),
        ("--env Catch --run-dir x", "--run-dir is one run's: give the folder of the study by"),
        (
            "--env Catch --lerning-rate 1",
            "--lerning-rate is not an option of any of these runs: did",
        ),
        ("--env Catch --aux.spr.horizon 1", "--aux.spr.horizon has no effect with --aux none: add"),
        ("--env Catch --gate cosine", "--gate cosine has nothing to gate"),
        ("--env Catch --protocol machado", "--protocol is for Atari games, and Catch is none"),
        ("--env Catch --no-compile true", "--no-compile takes no value: write --compile true or"),
        ("--env Catch --compile 3", "--compile: '3' is neither true nor false."),
        ("--env Catch --env Pong", "--env is given twice: give all its values after one --env"),
        ("Catch", "Catch follows no flag"),
    ],
)
def test_a_mistake_is_one_sentence(line, sentence):
    with pytest.raises(UsageError) as refused:
        runs_of(line)
    assert str(refused.value).startswith(sentence)


def test_a_file_says_the_same_as_flags(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        'env = "Catch"\naux = ["none", "inverse+spr"]\nseeds = 2\npipeline = true\n'
        '"gate" = ["sum", "cosine"]\n[torso.mlp]\nwidths = [[64, 64]]\n'
    )
    line = ["--env", "Catch", "--aux", "none", "inverse+spr", "--seeds", "2", "--pipeline", "true"]
    line += ["--gate", "sum", "cosine", "--torso.mlp.widths", "64 64"]
    assert read_file(file, own_flags()) == split(line, own_flags())


def test_a_file_adds_runs_that_differ_from_its_grid(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('env = "Catch"\n[[also]]\ngate = "cosine"\n"gate.at" = "features"\n')
    assert read_file(file, own_flags()) == ([], {"env": ("Catch",)})
    assert read_also(file, own_flags()) == [{"gate": ("cosine",), "gate.at": ("features",)}]
    file.write_text("[[also]]\nseeds = 3\n")
    with pytest.raises(UsageError, match="seeds is of the whole study: move it to the top"):
        read_also(file, own_flags())


@pytest.mark.parametrize(
    ("text", "end"),
    [("env =", "cannot be read ("), ("env = []", "env has no values: give one, or drop it.")],
)
def test_a_wrong_file_is_one_sentence(text, end, tmp_path):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UsageError, match=r"study\.toml") as refused:
        read_file(tmp_path / "study.toml", own_flags())
    assert end in str(refused.value)

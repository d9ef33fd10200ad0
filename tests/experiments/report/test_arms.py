"""Which runs form an arm, what it is called, and in which order arms come."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.report.arms import description, group, name_runs, same_run

COSINE = "--aux distill --gate cosine"
SUM = "--aux distill --gate sum"


def names(runs):
    return [arm.name for arm in group(runs)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "main only"),
        (COSINE, "distill, cosine"),
        (f"--algo none {SUM}", "distill, sum, no main loss"),
    ],
)
def test_an_arm_is_called_by_its_heads_and_its_gate(line, expected, build_run):
    assert description(build_run(line).config) == expected


def test_runs_that_differ_in_their_seed_alone_are_one_arm_in_the_order_of_seeds(build_run):
    (arm,) = group([build_run(seed=2), build_run(seed=1), build_run(seed=11)])
    assert arm.name == "main only"
    assert arm.seeds("Breakout") == (1, 2, 11)


def test_where_a_run_was_computed_makes_no_arm(build_run):
    elsewhere = build_run("--device cpu --run-dir there --env.num-threads 3", seed=2)
    assert len(group([build_run(seed=1), elsewhere])) == 1


def test_what_a_run_writes_makes_no_arm_either(build_run):
    lines = ("--picture-steps 7", "--cuda-graphs off", "--track mlflow")
    assert len(group([build_run(line, seed=seed) for seed, line in enumerate(lines)])) == 1


def test_gates_of_an_algorithm_s_own_phase_are_told_apart(build_run):
    gates = [build_run(f"--algo ppg --gate {gate}") for gate in ("sum", "cosine")]
    assert names(gates) == ["main only, gate cosine", "main only, gate sum"]
    assert not same_run(*gates)
    assert names(gates[:1]) == ["main only"]


def test_the_plain_arm_comes_first_and_the_one_without_main_loss_last(build_run):
    lines = (f"--algo none {SUM}", SUM, COSINE, "")
    found = names([build_run(line) for line in lines])
    assert found == ["main only", "distill, cosine", "distill, sum", "distill, sum, no main loss"]


def test_another_arm_can_be_put_first(build_run):
    runs = [build_run(line) for line in ("", SUM, COSINE)]
    assert group(runs, "distill, sum")[0].name == "distill, sum"
    with pytest.raises(ValueError, match="--first 'sum' is no arm: choose one of distill, cosine"):
        group(runs, "sum")


def test_an_option_is_named_where_runs_differ_in_it(build_run):
    temperatures = [f"{COSINE} --aux.distill.temperature {value}" for value in (0.5, 2.0)]
    found = names([build_run(line) for line in ("", *temperatures)])
    # Of what the plain arm has not, it says nothing.
    assert found == [
        "main only",
        "distill, cosine, temperature 0.5",
        "distill, cosine, temperature 2.0",
    ]


def test_an_option_that_differs_is_named_even_between_arms_of_different_gates(build_run):
    runs = [build_run(COSINE), build_run(f"{SUM} --learning-rate 0.01")]
    rate = runs[0].config["run"]["learning_rate"]
    assert names(runs) == [
        f"distill, cosine, learning rate {rate}",
        "distill, sum, learning rate 0.01",
    ]


def test_options_of_different_gates_are_no_difference(build_run):
    projection = "--aux distill --gate projection --gate.projection.decay 0.9"
    assert names([build_run(COSINE), build_run(projection)]) == [
        "distill, cosine",
        "distill, projection",
    ]


def test_the_last_word_of_a_flag_names_it_unless_two_flags_share_it(build_run):
    lines = (
        f"{COSINE} --aux.distill.coefficient 0.5",
        f"{COSINE} --aux.distill.coefficient 2.0 --teacher t/a",
    )
    first, second = names([build_run(line) for line in lines])
    assert first == "distill, cosine, teacher default, coefficient 0.5"
    assert second == "distill, cosine, teacher t/a, coefficient 2.0"


def test_another_torso_is_named(build_run):
    found = names([build_run(""), build_run("--torso impala")])
    assert found == ["main only, torso impala", "main only, torso nature"]


def test_what_differs_on_one_game_names_no_arm_of_another(build_run):
    runs = [
        build_run("--learning-rate 0.01"),
        build_run("--learning-rate 0.02", seed=2),
        build_run(env="Catch"),
    ]
    assert names(runs) == [
        "main only",
        "main only, learning rate 0.01",
        "main only, learning rate 0.02",
    ]


def test_an_arm_holds_the_runs_of_all_its_games(build_run):
    runs = [build_run(env=env, seed=seed) for env in ("Pong", "Breakout") for seed in (1, 2)]
    (arm,) = group(runs)
    assert list(arm.runs) == ["Breakout", "Pong"]
    assert [len(of_game) for of_game in arm.runs.values()] == [2, 2]


def test_two_runs_of_the_same_arm_game_and_seed_are_refused(build_run):
    first = build_run()
    second = replace(first, path=Path("again.csv"))
    with pytest.raises(ValueError, match=r"Breakout  1\.csv and again\.csv are the same arm and"):
        group([first, second])


def test_a_run_is_told_from_another_by_what_is_learnt_the_game_and_the_seed(build_run):
    run = build_run(COSINE)
    assert same_run(run, build_run(f"{COSINE} --device cpu", returns=(5.0,)))
    for other in (build_run(SUM), build_run(COSINE, seed=2), build_run(COSINE, env="Pong")):
        assert not same_run(run, other)
    assert not same_run(run, build_run(f"{COSINE} --discount 0.5"))


def test_every_run_has_a_name(build_run):
    runs = [build_run(line, seed=seed) for line in ("", COSINE) for seed in (1, 2)]
    assert name_runs(runs) == {run.path: description(run.config) for run in runs}

"""The cost of an update by head and gate."""

import pytest

from benchmarks.updates import COLUMNS, Cost, Options, UpdateArm, arms, main, report, without_heads


def test_ratios_are_to_the_main_loss_alone_and_to_the_same_head_added_up():
    results = {
        UpdateArm("none"): [Cost(10.0, 0.0), Cost(30.0, 0.0), Cost(20.0, 0.0)],
        UpdateArm("inverse", "sum"): [Cost(30.0, 1.5)],
        UpdateArm("inverse", "cosine"): [Cost(45.0, 1.5)],
    }
    assert report(Options(env="Catch", heads=("inverse",)), results) == [
        COLUMNS,
        "Catch,none,,20.0,1.00,1.00,0.0",
        "Catch,inverse,sum,30.0,1.50,1.00,1.5",
        "Catch,inverse,cosine,45.0,2.25,1.50,1.5",
    ]


def test_sum_is_always_among_the_gates_since_ratios_are_to_it():
    found = arms(Options(heads=("distill",), gates=("projection",)))
    assert found == [
        UpdateArm("none"),
        UpdateArm("distill", "sum"),
        UpdateArm("distill", "projection"),
    ]


def test_flags_of_heads_and_gates_are_not_for_an_arm_without():
    flags = "--seed 1 --aux.multi-horizon.discounts 0.5 0.9 --lr 2 --gate.main policy --compile"
    assert without_heads(flags.split()) == ["--seed", "1", "--lr", "2", "--compile"]
    assert without_heads(["--teacher", "optimal"]) == []


def test_a_head_that_does_not_fit_is_left_out_and_said_to_be(capsys, tmp_path):
    table = tmp_path / "updates.csv"
    small = ["--env", "Catch", "--rounds", "1", "--updates", "1", "--device", "cpu"]
    flags = [*small, "--heads", "inverse", "distill", "--output", str(table)]
    assert main([*flags, "--", "--num-envs", "2", "--unroll-length", "2"]) == 0
    # No teacher is shipped for Catch.
    assert "left out: --aux distill needs a teacher" in capsys.readouterr().err
    lines = table.read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines if not line.startswith("#")][1:] == [
        ["none", ""],
        ["inverse", "sum"],
        ["inverse", "cosine"],
    ]


def test_flags_of_gates_are_not_for_the_main_loss_alone():
    extra = ["--gate.every", "4", "--num-envs", "8"]
    assert UpdateArm("none").flags(Options(), extra)[-2:] == ["--num-envs", "8"]
    assert UpdateArm("none").flags(Options(), extra)[-4:-2] == ["--aux", "none"]
    gated = UpdateArm("inverse", "cosine").flags(Options(), extra)
    assert gated[-6:] == ["--gate", "cosine", *extra]
    placed = UpdateArm("inverse", "cosine at features").flags(Options(), ())
    assert placed[-4:] == ["--gate", "cosine", "--gate.at", "features"]


@pytest.mark.parametrize("flag", ["--rounds", "--updates", "--threads"])
def test_counts_must_be_positive(flag, capsys):
    assert main([flag, "0"]) == 2
    assert f"{flag} must be at least 1" in " ".join(capsys.readouterr().err.split())


def test_a_mistake_in_an_option_is_one_sentence(capsys):
    assert main(["--round", "3"]) == 2
    said = capsys.readouterr().err
    assert said == "updates.py: --round is not an option here: did you mean --rounds?\n"


def test_a_head_that_is_refused_with_sum_alone_has_no_ratio_to_it():
    cost = [Cost(2.0, 0.0)]
    results = {UpdateArm("none"): [Cost(1.0, 0.0)], UpdateArm("spr", "cosine"): cost}
    assert report(Options(env="Catch"), results)[-1] == "Catch,spr,cosine,2.0,2.00,,0.0"

import pytest

from experiments.studies.engine import average, train_log, without_heads

CATCH = (
    "--env Catch --env.rows 3 --num-envs 2 --unroll-length 4 --steps 32 --device cpu --threads 1 "
    "--precision fp32 --log-steps 8"
)


def test_the_log_of_a_run_is_returned_and_nothing_is_said(capfd):
    rows = train_log(CATCH.split())
    assert [int(row["step"]) for row in rows] == [8, 16, 24, 32]
    assert capfd.readouterr().out == ""


def test_what_train_refuses_is_said():
    with pytest.raises(ValueError, match=r"train\.py: --gate nonsense is"):
        train_log([*CATCH.split(), "--aux", "inverse", "--gate", "nonsense"])


def test_an_average_is_of_what_was_measured():
    rows = [{"a": "1"}, {"a": ""}, {"b": "5"}, {"a": "2"}]
    assert average("a", rows) == 1.5
    assert average("c", rows) != average("c", rows)


def test_flags_of_heads_and_gates_are_not_for_an_arm_without():
    flags = "--seed 1 --aux.multi-horizon.discounts 0.5 0.9 --lr 2 --gate.main policy --compile"
    assert without_heads(flags.split()) == ["--seed", "1", "--lr", "2", "--compile"]
    assert without_heads(["--teacher", "optimal"]) == []

import csv

import pytest

from agents.runtime.checkpoint import load_tensors
from agents.teachers import POLICY_FILE
from experiments.studies.held_out import COLUMNS, TABLE, Options, main
from experiments.training.run_folder import read_config

# Of 2 x 5 steps an update makes 10; episodes of these small worlds are short.
FLAGS = (
    "--env Gridworld --env.num-worlds 3 --env.height 5 --env.width 6 --num-envs 2 "
    "--unroll-length 5 --algo a2c --steps 40 --device cpu --threads 1 --precision fp32 --seed 5"
)
OPTIONS = "--every 20 --episodes 3 --num-envs 2"


@pytest.fixture
def trained(tmp_path):
    """Trains with options of the benchmark and flags of train.py; gives the table and folder."""

    def trained(options=OPTIONS, flags="", name="run"):
        folder = tmp_path / name
        words = [*FLAGS.split(), *flags.split(), "--run-dir", str(folder)]
        assert main([*options.split(), "--", *words]) == 0
        with (folder / TABLE).open(encoding="utf-8") as file:
            return list(csv.DictReader(file)), folder

    return trained


def test_the_policy_is_scored_before_between_and_after(trained):
    rows, folder = trained()
    assert [int(row["step"]) for row in rows] == [0, 20, 40]
    assert list(rows[0]) == COLUMNS.split(",")
    for row in rows:
        assert float(row["low"]) <= float(row["return"]) <= float(row["high"])
        # Every world kept has something to be won.
        assert float(row["optimum"]) > 0
        assert float(row["length"]) >= 1
    seconds = [float(row["cpu_seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert read_config(folder).run.seed == 5


def test_the_end_is_scored_even_if_it_is_not_due(trained):
    rows, _ = trained("--every 30 --episodes 1 --num-envs 1")
    # An update has 10 steps, the run 40.
    assert [int(row["step"]) for row in rows] == [0, 30, 40]


def test_scores_change_nothing_of_what_is_learnt(trained):
    _, often = trained("--every 10 --episodes 5 --num-envs 3", name="often")
    _, seldom = trained("--every 1000 --episodes 1 --num-envs 1", name="seldom")
    weights = [load_tensors(folder / POLICY_FILE)[0] for folder in (often, seldom)]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_the_same_policy_scores_the_same(trained):
    first, _ = trained(name="first")
    # Its first score is that of the first weights, which come from the seed.
    again, _ = trained("--every 1000 --episodes 3 --num-envs 2", name="again")
    assert first[0] == again[0] | {"cpu_seconds": first[0]["cpu_seconds"]}


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        ("--env Catch", "use --env Gridworld"),
        ("--env procgen/coinrun", "use --env Gridworld"),
        ("--env Gridworld --env.termination-probability 0 --env.num-worlds 3", "make it larger"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_sentence(tmp_path, capsys, flags, cure):
    folder = tmp_path / "run"
    assert main(["--", *flags.split(), "--device", "cpu", "--run-dir", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("held_out.py: --env")
    assert cure in said
    assert not folder.exists()


def test_a_run_lets_go_of_its_folder_at_the_end(trained):
    _, folder = trained()
    assert not any(path.name.startswith(".lock.") for path in folder.iterdir())


def test_it_only_begins_runs(capsys):
    assert main(["--", "--env", "Gridworld", "--resume", "runs/x"]) == 2
    assert capsys.readouterr().err.startswith("held_out.py: --resume has no effect here")


@pytest.mark.parametrize("name", ["every", "episodes", "num_envs"])
def test_numbers_below_one_are_refused(name):
    flag = name.replace("_", "-")
    with pytest.raises(ValueError, match=f"^--{flag} must be at least 1, not 0"):
        Options(**{name: 0})

import csv
import json

import pytest

from experiments.studies.generalisation import COLUMNS, Options, generalisation, main, read, redraw

HEADER = "step,cpu_seconds,return,low,high,optimum,length"


@pytest.fixture
def write(tmp_path, config_of):
    """Writes a folder as held_out.py does; scores are (step, return) with an optimum of 8."""

    def write(name, line="", seed=1, scores=((0, -2.0), (100, 4.0)), env="Gridworld"):
        folder = tmp_path / name
        folder.mkdir()
        config = config_of(f"--env {env} --steps 100 {line}", seed)
        config["run"]["run_dir"] = str(folder)
        versions = {"commit": "c0ffee", "dirty": True, "cpu": "a machine", "cores": 2}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
        lines = [
            f"{step},{step / 10},{score},{score - 1},{score + 1},8.0,20" for step, score in scores
        ]
        (folder / "held_out.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
        return folder

    return write


def test_scores_are_fractions_of_the_optimum(write):
    curve = read(write("run"))
    # -2 / 8 and 4 / 8.
    assert curve.fraction.tolist() == [-0.25, 0.5]
    assert (curve.seed, curve.made) == (1, "commit c0ffee (dirty), a machine, 2 cores")


@pytest.mark.parametrize(
    ("line", "arm"),
    [
        ("--algo a2c", "feed-forward, A2C"),
        ("--algo ppo --core gru", "GRU, PPO"),
        ("--algo a2c --aux distill --gate cosine", "feed-forward, A2C, distill (cosine)"),
        ("--algo a2c --env.view-radius 2", "feed-forward, A2C, view_radius=2"),
    ],
)
def test_an_arm_is_named_by_what_was_chosen(write, line, arm):
    assert read(write("run", line)).arm == arm


def test_all_scores_are_in_the_table_with_how_they_were_made(write, tmp_path):
    runs = (
        write("one", "--core gru --algo a2c", seed=1),
        write("two", "--core gru --algo a2c", seed=2, scores=((0, 0.0), (100, 6.0))),
        write("three", "--algo a2c", seed=1, scores=((0, 1.0),)),
    )
    output = tmp_path / "out"
    given = [*map(str, runs), "--explorer", "0.73", "--output", str(output)]
    said = generalisation(Options(runs, output, explorer=0.73), given)
    lines = (output / "held_out.csv").read_text(encoding="utf-8").splitlines()
    above = [line for line in lines if line.startswith("#")]
    assert above[0].startswith("# command: python -m experiments.studies.generalisation")
    assert above[5] == "# GRU, A2C, seed 2: commit c0ffee (dirty), a machine, 2 cores"
    # Besides command, commit, hardware and packages a line for each run and one for each arm.
    assert len(above) == 4 + 3 + 2
    rows = list(csv.DictReader(lines[len(above) :]))
    assert list(rows[0]) == COLUMNS.split(",")
    found = [(row["arm"], row["seed"], row["step"], float(row["fraction"])) for row in rows]
    assert found == [
        ("GRU, A2C", "1", "0", -0.25),
        ("GRU, A2C", "1", "100", 0.5),
        ("GRU, A2C", "2", "0", 0.0),
        ("GRU, A2C", "2", "100", 0.75),
        ("feed-forward, A2C", "1", "0", 0.125),
    ]
    drawn = (output / "held_out.png").read_bytes()
    (output / "held_out.png").unlink()
    redraw(output / "held_out.png")
    assert (output / "held_out.png").read_bytes() == drawn
    assert said[1] == "GRU, A2C, seed 2: 0.750 of the optimum after 100 steps and 10 s"


def test_runs_that_are_not_seeds_of_one_arm_are_not_averaged(write, tmp_path, capsys):
    one, other = write("one"), write("two", "--learning-rate 0.5", seed=2)
    assert main([str(one), str(other), "--output", str(tmp_path / "out")]) == 2
    assert "differ in more than their seed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_seed_counts_once(write, tmp_path, capsys):
    runs = [str(write(name)) for name in ("one", "two")]
    assert main([*runs, "--output", str(tmp_path / "out")]) == 2
    assert "have the same seed" in capsys.readouterr().err


def test_folders_without_scores_are_refused_in_one_sentence(write, tmp_path, capsys):
    empty = write("empty", scores=())
    output = ["--output", str(tmp_path / "out")]
    assert main([str(empty), *output]) == 2
    assert "holds no score yet" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), *output]) == 2
    assert "give folders that experiments/studies/held_out.py wrote" in capsys.readouterr().err

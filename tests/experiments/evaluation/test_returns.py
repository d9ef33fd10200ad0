import json

import numpy as np
import pytest

from experiments.evaluation import returns


@pytest.fixture
def ours(tmp_path):
    folder = tmp_path / "ppo-s1"
    folder.mkdir()
    rows = ["step,return", "5000,", "10000,1", "30000,3"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "versions.json").write_text(
        json.dumps({"commit": "abc", "dirty": False}), encoding="utf-8"
    )
    return folder


@pytest.fixture
def theirs(tmp_path):
    folder = tmp_path / "cleanrl-s1"
    folder.mkdir()
    # 150 games, one every 200 steps; game k scores k.
    games = [f"{200 * game},1.0,{game},7" for game in range(1, 151)]
    lines = ["step,seconds,return,length", *games]
    (folder / "episodes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_mean_is_over_the_latest_100_games(theirs):
    step, value = returns.of_cleanrl(theirs)
    assert value[0] == 1.0
    assert value[step == 20_000] == 50.5  # games 1 to 100
    assert value[step == 30_000] == 100.5  # games 51 to 150


def test_rows_without_a_finished_game_are_left_out(ours):
    step, value = returns.of_train(ours)
    assert step.tolist() == [10_000, 30_000]
    assert value.tolist() == [1, 3]


def test_all_runs_are_on_one_grid_as_far_as_the_shortest_goes(ours, theirs, tmp_path):
    output = tmp_path / "out"
    returns.main(returns.Options((ours,), (theirs,), output))
    lines = (output / "returns.csv").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if not line.startswith("#")]
    assert table[0] == "step,auxgate ppo-s1,CleanRL cleanrl-s1"
    # Ours halfway between 1 and 3; theirs: games 1 to 50, 1 to 100, 51 to 150.
    rows = [[float(cell) for cell in line.split(",")] for line in table[1:]]
    assert np.allclose(rows, [[10_000, 1, 25.5], [20_000, 2, 50.5], [30_000, 3, 100.5]])
    assert "# ours trained at: abc" in lines
    assert (output / "returns.png").stat().st_size > 0

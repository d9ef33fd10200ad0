import csv
import json
from dataclasses import replace

import pytest
from rich.console import Console

from agents.rollout.evaluation import Scores
from experiments.evaluation.scoreboard import Result, Scoreboard, write_all, write_one

SCORES = Scores((10.0, 20.0), (100, 200))


@pytest.fixture
def result():
    return Result("runs/x", "Breakout", "baselines", 10_000_000, 1, "fp32", SCORES)


def build(run="runs/x", env="Catch", returns=(1.0,), steps=1, protocol="raw"):
    return Result(run, env, protocol, steps, 1, "fp32", Scores(returns, (9,) * len(returns)))


def printed(results, width):
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(Scoreboard(results))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_summary_has_the_protocol_beside_the_score(result):
    # Wang et al. 2016: 1.7 for the random player, 30.5 for the human; (15 - 1.7) / 28.8 = 0.4618.
    assert result.summary() == (
        "Breakout (baselines protocol), 2 episodes after 10,000,000 steps: mean 15.00 "
        "(95 % interval 10.00 to 20.00), median 15.00, human-normalised 46 %."
    )
    assert build().summary() == (
        "Catch (raw protocol), 1 episodes after 1 steps: mean 1.00 "
        "(95 % interval 1.00 to 1.00), median 1.00."
    )


def test_a_score_is_human_normalised_where_there_is_a_human():
    for score, normalised in ((1.7, 0), (30.5, 1), (16.1, 0.5)):
        assert build(env="Breakout", returns=(score,)).human_normalised == pytest.approx(normalised)
    assert build().human_normalised is None


def test_the_score_of_episodes_that_were_cut_is_not_human_normalised():
    whole = build(env="Breakout", returns=(16.1,))
    cut = replace(whole, scores=replace(whole.scores, unfinished=1))
    assert whole.human_normalised is not None
    assert cut.human_normalised is None


def test_the_table_has_two_lines_for_each_run_in_the_order_given(result):
    other = build("runs/a", "CartPole-v1", (500.0, 1.0), 12_345)
    lines = printed([result, other], 100)
    # Means 15 and 250.5; the interval of two episodes is that of their resamples.
    heading = "env (protocol)          trained  episodes   mean   95 % interval  median  human"
    assert lines == [
        heading,
        "-" * len(heading),
        "runs/x",
        "  Breakout (baselines)      10M         2  15.00  10.00 to 20.00   15.00   46 %",
        "runs/a",
        "  CartPole-v1 (raw)       12.3k         2  250.5   1.00 to 500.0   250.5      -",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_no_number_is_cut_and_no_line_too_long(width):
    name = "a-folder/" * 20 + "run"
    lines = printed(
        [
            build(name, "MiniGrid-Empty-8x8-v0", (0.25,), 500_000, "raw+observation_key=image"),
            build("b", "VideoPinball", (123456.0, -17098.1), 123_456_789, "baselines"),
        ],
        width,
    )
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for number in ("500k", "0.25 to 0.25", "123M", "53,179", "-17,098 to 123,456"):
        assert number in text
    folded = "".join(line for line in lines if not line.startswith((" ", "env", "-")))
    assert folded == name + "b"


def of_worlds(run="runs/w"):
    # Means 3 and 6: a half.
    scores = Scores((1.0, 5.0), (7, 8), (4.0, 8.0))
    return Result(run, "Gridworld", "raw+held-out", 1, 1, "fp32", scores)


def test_where_the_optimum_is_known_the_score_is_compared_with_it(tmp_path):
    assert of_worlds().of_optimum == 0.5
    assert of_worlds().summary().endswith("median 3.00, 50 % of the optimum 6.00.")
    write_one(tmp_path / "one.json", of_worlds())
    assert json.loads((tmp_path / "one.json").read_text())["optimum"] == 6.0
    assert build().of_optimum is None


@pytest.mark.parametrize(
    ("others", "heading"),
    [([], "optimum"), ([build("runs/c")], "optimum"), ([build(env="Pong")], "ratio")],
)
def test_the_last_column_compares_with_whatever_is_known(others, heading):
    lines = printed([of_worlds(), *others], 100)
    assert lines[0].split()[-1] == heading
    assert lines[3].endswith(" 50 %")


def test_a_narrow_screen_folds_the_protocol_not_the_numbers():
    lines = printed([build("run", "Breakout", (45000.0,) * 2, 1, "baselines+noop_max=1")], 80)
    assert max(map(len, lines)) <= 80
    assert lines[3].startswith("  Breakout ")
    assert lines[3].endswith(" %")
    assert "45,000 to 45,000" in lines[3]
    assert "".join(line.strip() for line in lines[4:]) == "(baselines+noop_max=1)"


def test_one_result_is_a_json_object_and_several_are_a_list_that_names_the_runs(tmp_path, result):
    write_one(tmp_path / "one.json", result)
    one = json.loads((tmp_path / "one.json").read_text())
    assert one == {
        "env": "Breakout",
        "protocol": "baselines",
        "trained_steps": 10_000_000,
        "episodes": 2,
        "seed": 1,
        "precision": "fp32",
        "mean": 15.0,
        "median": 15.0,
        "interval_95": [10.0, 20.0],
        "human_normalised": pytest.approx(0.4618, abs=1e-4),
        "optimum": None,
        "returns": [10.0, 20.0],
        "lengths": [100, 200],
    }
    write_all(tmp_path / "all.json", [result, build("b")])
    first, second = json.loads((tmp_path / "all.json").read_text())
    assert first == {"run": "runs/x"} | one
    assert (second["run"], second["env"], second["human_normalised"]) == ("b", "Catch", None)


def test_a_csv_has_a_line_for_each_run(tmp_path, result):
    write_all(tmp_path / "all.CSV", [result, build("b, c")])
    with (tmp_path / "all.CSV").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "run": "runs/x",
        "env": "Breakout",
        "protocol": "baselines",
        "trained_steps": "10000000",
        "episodes": "2",
        "seed": "1",
        "precision": "fp32",
        "mean": "15.0",
        "interval_low": "10.0",
        "interval_high": "20.0",
        "median": "15.0",
        "human_normalised": str(result.human_normalised),
        "optimum": "",
    }
    assert (second["run"], second["human_normalised"]) == ("b, c", "")
    write_one(tmp_path / "one.csv", result)
    assert len((tmp_path / "one.csv").read_text().splitlines()) == 2


def test_a_run_whose_path_is_no_utf8_is_written_with_the_same_bytes(tmp_path):
    path = tmp_path / "scores.csv"
    write_all(path, [build("runs/\udcff")])
    assert path.read_bytes().splitlines()[1].startswith(b"runs/\xff,")

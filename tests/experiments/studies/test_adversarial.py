import csv

import numpy as np
import pytest

from experiments.results import read_table
from experiments.statistics import Interval
from experiments.studies.adversarial import (
    COLUMNS,
    Result,
    Verdict,
    compare,
    draw,
    main,
    parse_result,
    redraw,
    result,
    summary,
)
from experiments.studies.engine import ALONE, trained

NAN = float("nan")
LINES = ["step,seconds,return,adversarial/cosine,adversarial/passed"]
LINES += ["50,1,-1.0,-0.5,0.0", "85,2,-0.8,,", "90,3,0.25,-1.0,0.5", "100,4,0.75,,"]


def test_a_run_is_its_mean_return_in_the_last_tenth(made_up):
    folder = made_up("--env Catch --aux adversarial --gate cosine --seed 3 --steps 100", LINES)
    (run,) = trained(folder).values()
    assert result(run) == Result("cosine", 3, final=0.5, cosine=-0.75, passed=0.25)


def test_a_run_survives_its_line():
    for held in (Result("sum", 1, 0.5, NAN, NAN), Result("cosine", 2, -0.25, -0.75, 0.125)):
        row = dict(zip(COLUMNS, (held.arm, str(held.seed), *held.cells()), strict=True))
        assert str(parse_result(row)) == str(held)


def read(path):
    remarks, rows = read_table(path)
    return remarks, [parse_result(row) for row in rows]


def test_everything_is_written_and_what_is_there_is_kept(made_up, tmp_path):
    line = "--env Catch --aux none adversarial --gate sum --seed 1 2 --steps 100"
    folder = tmp_path / "probed"
    assert main([str(made_up(line, LINES)), "--output", str(folder)]) == 0
    before, runs = read(folder / "runs.csv")
    assert [(run.arm, run.seed) for run in runs] == [
        (ALONE, 1),
        ("sum", 1),
        (ALONE, 2),
        ("sum", 2),
    ]
    assert any(
        line.startswith("# command: python -m experiments.studies.adversarial") for line in before
    )
    # A gate more: only its rows are added.
    more = made_up(line.replace("sum", "sum cosine"), LINES, "more")
    title = "Catch, 100 steps, 2 seeds: a harmful head (adversarial)"
    assert f"# title: {title}" in before
    assert main([str(more), "--output", str(folder), "--keep", "--title", "two gates"]) == 0
    after, all_runs = read(folder / "runs.csv")
    assert list(map(str, all_runs[:4])) == list(map(str, runs))
    assert [(run.arm, run.seed) for run in all_runs[4:]] == [("cosine", 1), ("cosine", 2)]
    assert after[: len(before)] == before
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert {row["arm"] for row in rows} == {ALONE, "sum", "cosine"}
    drawn = (folder / "probe.png").read_bytes()
    assert main(["--output", str(folder), "--title", "another"]) == 0
    assert (folder / "probe.png").read_bytes() != drawn
    # The title is that of the table.
    redraw(folder / "probe.png")
    assert (folder / "probe.png").read_bytes() == drawn


def test_a_study_of_two_heads_is_refused(made_up, tmp_path, capsys):
    folder = made_up("--env Catch --aux inverse adversarial --steps 100", LINES)
    assert main([str(folder), "--output", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == f"adversarial: {folder} has 2 heads: give a study of one.\n"


def results(arm, *finals):
    return [Result(arm, seed, final, -0.5, 0.25) for seed, final in enumerate(finals)]


def verdict_of(arm, verdicts):
    (found,) = (verdict for verdict in verdicts if verdict.arm == arm)
    return found


def test_an_arm_is_compared_with_the_one_without_a_head_seed_by_seed():
    verdicts = compare(
        [
            *results(ALONE, 0.5, 0.7, 0.9),
            # Differences -1.5, -1.6, -1.4: every resampled mean is below zero.
            *results("sum", -1.0, -0.9, -0.5),
            # 0.2, -0.1, 0: on either side.
            *results("cosine", 0.7, 0.6, 0.9),
            # 0.2, 0.1, 0.3.
            *results("nash", 0.7, 0.8, 1.2),
        ]
    )
    assert [verdict.arm for verdict in verdicts] == ["nash", "cosine", ALONE, "sum"]
    assert {verdict.arm: verdict.word for verdict in verdicts} == {
        "nash": "helped",
        "cosine": "unharmed",
        ALONE: "-",
        "sum": "harmed",
    }
    harmed = verdict_of("sum", verdicts)
    assert harmed.difference == pytest.approx(-1.5)
    # Three draws of the same seed come 1 time in 27, which is more than 2.5 %.
    assert (harmed.interval.low, harmed.interval.high) == pytest.approx((-1.6, -1.4))
    assert (harmed.cosine, harmed.passed) == (-0.5, 0.25)


def test_a_gate_that_was_closed_throughout_is_unharmed_for_certain():
    verdicts = compare([*results(ALONE, 0.5, 0.7), *results("cosine", 0.5, 0.7)])
    assert verdict_of(ALONE, verdicts).interval is None
    closed = verdict_of("cosine", verdicts)
    assert closed.interval == Interval(0.0, 0.0)
    assert closed.word == "unharmed"


def test_a_single_seed_tells_nothing():
    verdicts = compare([*results(ALONE, 0.5), *results("sum", -1.0)])
    assert verdict_of("sum", verdicts).word == "unknown"


def test_arms_with_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match="sum has other seeds than main only"):
        compare([*results(ALONE, 0.5, 0.7), *results("sum", -1.0)])


def test_the_table_has_a_line_for_each_arm_and_blanks_where_nothing_was_measured():
    compared = [
        Verdict("sum", np.array([-0.9, -1.0]), -1.5, Interval(-1.6, -1.4), NAN, 1.0),
        Verdict(ALONE, np.array([0.5, 0.6]), 0.0, None, NAN, NAN),
    ]
    assert summary(compared)[1:] == [
        "sum,2,-0.950,-1.500,-1.600,-1.400,harmed,,1.000",
        "main only,2,0.550,0.000,,,-,,",
    ]


def test_every_arm_is_drawn_with_its_verdict():
    verdicts = [
        Verdict("cosine", np.array([0.5, 0.6]), 0.0, Interval(-0.1, 0.1), -1.0, 0.0),
        Verdict(ALONE, np.array([0.5, 0.6]), 0.0, None, NAN, NAN),
        Verdict("sum", np.array([-0.9, -1.0]), -1.5, Interval(-1.6, -1.4), NAN, 1.0),
    ]
    (axes,) = draw(verdicts, "a title").axes
    seen = [label.get_text() for label in axes.get_yticklabels()]
    assert seen == ["sum: harmed", ALONE, "cosine: unharmed"]  # from below

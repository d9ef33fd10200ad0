import csv

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.results import remark
from experiments.studies.engine import ALONE, trained
from experiments.studies.heads import (
    POINTS,
    Outcome,
    draw,
    main,
    name,
    outcome,
    read,
    redraw,
    summary,
    tables_in,
    verdicts,
)

NAN = float("nan")


def test_a_run_is_its_late_return_its_mean_and_its_curve(made_up):
    lines = ["step,seconds,return,inverse/cosine,inverse/passed"]
    lines += ["1,1,,,", "50,2,-1.0,-0.5,0.0", "90,3,0.25,-1.0,0.5", "100,4,0.75,,"]
    folder = made_up("--env Catch --aux inverse --gate cosine --seed 3 --steps 100", lines)
    (run,) = trained(folder).values()
    found = outcome(run)
    assert (found.head, found.gate, found.seed) == ("inverse", "cosine", 3)
    assert (found.final, found.whole) == (0.5, 0.0)
    assert (found.cosine, found.passed, found.seconds) == (-0.75, 0.25, 4.0)
    # Steps 49 and 50 are in the 25th part of 50 if counted from 0: part = 50 * step // 101.
    assert np.flatnonzero(~np.isnan(found.curve)).tolist() == [24, 44, 49]
    assert found.curve[[24, 44, 49]].tolist() == [-1.0, 0.25, 0.75]


def test_a_run_survives_its_lines(tmp_path):
    curve = np.full(POINTS, NAN)
    curve[3:] = np.arange(POINTS - 3) / 4
    first = Outcome(ALONE, "", 1, 0.5, 0.25, NAN, NAN, 3.0, curve)
    second = Outcome("curl", "cosine", 2, -0.5, 0.125, -0.75, 0.5, 4.0, curve)
    runs = {(each.head, each.gate, str(each.seed)): each for each in (first, second)}
    study = tables_in(tmp_path / "new")
    study.complete(list(runs), lambda key: runs[key].cells(), [], keep=False)
    remarks, found = read(study)
    assert remarks[0].startswith("# command: python -m experiments.studies.heads")
    assert (found[1].head, found[1].gate, found[1].seed) == ("curl", "cosine", 2)
    assert (found[1].final, found[1].whole, found[1].cosine) == (-0.5, 0.125, -0.75)
    np.testing.assert_array_equal(found[1].curve, curve)
    assert np.isnan(found[0].cosine)


def test_everything_is_written_and_what_is_there_is_kept(made_up, tmp_path):
    lines = ["step,seconds,return", "50,1,-1.0", "100,2,0.5"]
    line = "--env Catch --aux none inverse --gate sum --seed 1 2 --steps 100"
    folder = tmp_path / "x"
    assert main([str(made_up(line, lines)), "--output", str(folder)]) == 0
    _, runs = read(tables_in(folder))
    names = [(run.head, run.gate, run.seed) for run in runs]
    assert names == [(ALONE, "", 1), ("inverse", "sum", 1), (ALONE, "", 2), ("inverse", "sum", 2)]
    # A head more: only its rows are added.
    more = made_up(line.replace("inverse", "termination"), lines, "more")
    assert remark(read(tables_in(folder))[0], "title") == "Catch, 100 steps, 2 seeds"
    assert main([str(more), "--output", str(folder), "--keep", "--title", "both heads"]) == 0
    _, after = read(tables_in(folder))
    assert [each.final for each in after[:4]] == [each.final for each in runs]
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["head"] for row in rows] == [ALONE, "inverse", "termination"]
    before = (folder / "summary.csv").read_bytes()
    drawn = (folder / "heads.png").read_bytes()
    assert main(["--output", str(folder), "--title", "another"]) == 0
    assert (folder / "summary.csv").read_bytes() == before
    assert (folder / "heads.png").read_bytes() != drawn
    # Title and steps are those of the tables.
    redraw(folder / "heads.png")
    assert (folder / "heads.png").read_bytes() == drawn


def test_tables_that_do_not_say_their_steps_are_not_drawn(tmp_path):
    run = Outcome(ALONE, "", 1, 0.5, 0.25, NAN, NAN, 3.0, np.zeros(POINTS))
    tables_in(tmp_path).complete([(ALONE, "", "1")], lambda _: run.cells(), [], keep=False)
    with pytest.raises(ValueError, match="has no line '# steps: '"):
        redraw(tmp_path / "heads.png")


def test_what_cannot_be_compared_is_one_sentence(made_up, tmp_path, capsys):
    output = ["--output", str(tmp_path / "x")]
    lines = ["step,seconds,return", "100,2,0.5"]
    assert main(output) == 2
    assert main([str(tmp_path), *output]) == 2
    twice = made_up("--env Catch --discount 0.9 0.8 --steps 100", lines)
    assert main([str(twice), *output]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"heads: {tmp_path / 'x'} has no runs: give the folder of a STUDY."
    assert told[1] == f"heads: {tmp_path} is not a study's folder: it has no study.json."
    assert "has two runs with main only and seed 1: give a study whose runs differ" in told[2]
    assert len(told) == 3


def made(head, gate, seed, final, whole):
    gated = gate == "cosine"
    curve = np.linspace(0, final, POINTS)
    curve[0] = NAN
    return Outcome(
        head, gate, seed, final, whole, 0.5 if gated else NAN, 0.25 if gated else NAN, 1.0, curve
    )


SEEDS = range(1, 8)
"""With two arms, 2 / 2^7 = 0.016 for seven of one sign, times two: below 0.05."""


@pytest.fixture
def outcomes():
    """A head that helps everywhere when added, and only in the end when gated."""
    runs = [made(ALONE, "", seed, float(seed), seed / 2) for seed in SEEDS]
    runs += [made("spr", "sum", seed, seed + 1.0, seed / 2 + 1) for seed in SEEDS]
    runs += [made("spr", "cosine", seed, seed + seed / 4, seed / 2) for seed in SEEDS]
    return runs


def test_an_arm_is_its_head_and_its_gate():
    assert (name("spr", "sum"), name(ALONE, "")) == ("spr, sum", ALONE)


def test_arms_are_compared_seed_by_seed_in_both_measures(outcomes):
    final, whole = (verdicts(outcomes, measure) for measure in ("final", "whole"))
    assert list(final) == [("spr", "sum"), ("spr", "cosine")]
    assert final["spr", "sum"].difference.value == pytest.approx(1.0)
    # The mean of 1 / 4 to 7 / 4.
    assert final["spr", "cosine"].difference.value == pytest.approx(1.0)
    assert final["spr", "cosine"].word == "helped"
    assert whole["spr", "cosine"].word == "open"


def test_what_lies_below_was_harmed(outcomes):
    worse = [
        made("spr", "sum", x.seed, x.final - 2, x.whole) if x.gate == "sum" else x for x in outcomes
    ]
    assert verdicts(worse, "final")["spr", "sum"].word == "harmed"


def test_few_seeds_give_no_verdict_however_far_apart(outcomes):
    few = [each for each in outcomes if each.seed <= 6]
    # 2 / 2^6 = 0.031 is below 0.05, but there are two arms.
    assert verdicts(few, "final")["spr", "sum"].p == pytest.approx(2 * 2 / 2**6)
    assert verdicts(few, "final")["spr", "sum"].word == "open"


def test_the_table_has_a_line_per_arm(outcomes):
    columns, alone, added, gated = summary(outcomes)
    assert columns.startswith("head,gate,seeds,final,final_difference,final_low,final_high,final_p")
    assert alone == f"{ALONE},,7,4.000,,,,,,2.000,,,,,,,"
    assert added == (
        "spr,sum,7,5.000,1.000,1.000,1.000,0.0312,helped,3.000,1.000,1.000,1.000,0.0312,helped,,"
    )
    assert gated.endswith(",2.000,0.000,0.000,0.000,1.0000,open,0.500,0.250")
    assert {line.count(",") for line in (columns, alone, added, gated)} == {16}


def test_a_missing_seed_is_refused(outcomes):
    with pytest.raises(ValueError, match="spr, cosine has other seeds than main only"):
        summary(outcomes[:-1])


def test_every_head_has_a_panel(outcomes, tmp_path):
    many = outcomes + [made(head, "sum", seed, 1.0, 0.5) for head in "abcd" for seed in SEEDS]
    draw(many, 1000, "title").savefig(tmp_path / "x.png")
    height, width, _ = imread(tmp_path / "x.png").shape
    # Two rows of four.
    assert 1.5 < width / height < 2.5

"""The files of a report and its table for the terminal."""

import csv
import io
import json

import pytest
from rich.console import Console

from experiments.report.scores import compare, summarise
from experiments.report.tables import Report, for_terminal, write


@pytest.fixture
def report(build_arm):
    arms = [
        build_arm("main only", Breakout=(1.7, 16.1)),
        build_arm("distill, sum", "--aux distill --gate sum", Breakout=(30.5,)),
    ]
    return Report(arms, summarise(arms), compare(arms))


def rows_of(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def said(report, env, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(for_terminal(report, env))
    return console.export_text()


def test_the_summary_has_every_number_and_leaves_empty_what_is_not_known(report, tmp_path):
    write(report, [], tmp_path)
    found = {
        (row["arm"], row["unit"], row["measure"]): row for row in rows_of(tmp_path / "summary.csv")
    }
    assert len(found) == 8
    main = found["main only", "score", "final"]
    assert (main["env"], main["runs"], main["steps"]) == ("Breakout", "2", "100")
    assert (main["iqm"], main["iqm_low"], main["iqm_high"]) == ("8.9", "1.7", "16.1")
    assert (main["mean"], main["median"], main["values"]) == ("8.9", "8.9", "1.7 16.1")
    assert main["optimality_gap"] == ""
    # 1 - (0 + 1/2) / 2, and the range of 1 - 0 and 1 - 1/2.
    human = found["main only", "human-normalised", "final"]
    gaps = [human[f"optimality_gap{end}"] for end in ("", "_low", "_high")]
    assert gaps == ["0.75", "0.5", "1"]
    alone = found["distill, sum", "score", "final"]
    assert (alone["iqm"], alone["iqm_low"], alone["iqm_high"]) == ("30.5", "", "")


def test_the_comparison_has_both_measures_of_every_pair(report, tmp_path):
    write(report, [], tmp_path)
    final, area = rows_of(tmp_path / "comparison.csv")
    assert (final["arm"], final["against"]) == ("distill, sum", "main only")
    assert (final["probability"], final["probability_low"]) == ("1", "")
    # Seed 1: 30.5 - 1.7; one pair gives no interval and p = 1.
    assert (final["pairs"], final["difference"], final["p_value"]) == ("1", "28.8", "1")
    assert (final["difference_low"], final["unit"]) == ("", "score")
    assert area["measure"] == "area"


def test_the_json_says_where_every_number_comes_from(report, tmp_path):
    write(report, ["A sentence."], tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["final_is"] == "last tenth of the curve"
    assert content["words"] == ["A sentence."]
    run = content["runs"][1]
    assert (run["arm"], run["env"], run["seed"], run["final"]) == ("main only", "Breakout", 2, 16.1)
    assert (run["commit"], run["hardware"], run["finished"]) == ("c0ffee", "a machine", True)
    assert len(content["summary"]) == 8
    assert content["comparison"][0]["probability"] == {"value": 1.0, "interval": None}


def test_with_one_arm_there_is_nothing_to_compare(report, build_arm, tmp_path):
    write(report, [], tmp_path)
    arms = [build_arm("a", Catch=(1.0,))]
    write(Report(arms, summarise(arms), compare(arms)), [], tmp_path)
    assert not (tmp_path / "comparison.csv").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(report, width):
    text = said(report, "Breakout", width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("8.90", "1.70 to 16.10", "25 %", "30.50", "1.00", "above 'main only'"):
        assert word in text


def test_the_table_has_no_column_that_would_be_empty(build_arm):
    arms = [build_arm("a", Catch=(1.0, 2))]
    text = said(Report(arms, summarise(arms), compare(arms)), "Catch")
    assert "human" not in text
    assert "P:" not in text

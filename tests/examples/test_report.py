import csv

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from configs.errors import UsageError
from examples.figures import Line, panels_of
from examples.report import Verdict, folder_of, no_less, positive, publish, redraw_courses, run
from experiments.results import read_table

ABOVE = np.array([1.0, 2.0, 3.0, 2.0, 1.0, 3.0])
"""The least of 2^6 choices of signs, and its opposite: p = 2 / 64."""


def test_a_claim_is_shown_not_shown_or_reversed():
    assert positive("claim", ABOVE, "gain").outcome == "shown"
    assert positive("claim", -ABOVE, "gain").outcome == "reversed"
    assert positive("claim", ABOVE - 2, "gain").outcome == "not shown"


def test_a_verdict_says_its_statistics():
    said = str(positive("claim", ABOVE, "gain"))
    assert said.startswith("claim: shown. gain: +2 (95 % +")
    assert said.endswith("p = 0.031, 6 pairs).")


def test_five_pairs_show_nothing_and_the_verdict_says_so():
    verdict = positive("claim", ABOVE[:5], "gain")
    assert verdict.outcome == "not shown"
    assert "too few pairs" in verdict.evidence


def test_narrow_numbers_are_no_more_certain():
    # The mean of float32 differs in its last digits with the order of the sum.
    pairs = (ABOVE / 7).astype(np.float32)
    assert "p = 0.031," in positive("claim", pairs, "gain").evidence


def test_no_loss_is_shown_only_by_an_interval_above_the_margin():
    around = ABOVE - 2
    # Bootstrap means of six numbers from -1 to 1 lie in that range.
    assert no_less("claim", around, "gain", margin=1.1).outcome == "shown"
    assert no_less("claim", around, "gain", margin=0.1).outcome == "not shown"
    assert no_less("claim", around - 9, "gain", margin=0.1).outcome == "reversed"
    # A small loss may be sure and yet within the margin.
    assert no_less("claim", -ABOVE, "gain", margin=4.0).outcome == "shown"


def test_a_table_says_how_it_was_made_and_what_came_out(tmp_path, capsys):
    rows = [{"gate": "sum", "loss": "0.5"}, {"gate": "nash", "loss": "0.25"}]
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    command = ["script.py", "--output", "a folder"]
    publish(tmp_path, "table", command, rows, {"picture": figure}, [Verdict("it", "shown", "Yes.")])
    lines = (tmp_path / "table.csv").read_text("utf-8").splitlines()
    above = [line for line in lines if line.startswith("#")]
    assert above[0] == "# command: python examples/script.py --output 'a folder'"
    assert above[1].startswith("# commit: ")
    assert above[-1] == "# it: shown. Yes."
    assert list(csv.DictReader(lines[len(above) :])) == rows
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (180, 90)
    assert capsys.readouterr().out.splitlines()[0] == "- it: shown. Yes."


def test_courses_have_a_table_from_which_they_are_drawn_again(tmp_path):
    places, values = [5.0, 15.0], np.array([[0.5, -0.25], [0.75, 0.125]])
    courses = {"turned": {"angle": [Line("0", places, values), Line("90", places, -values)]}}
    publish(tmp_path, "table", ["script.py"], [{"gate": "sum"}], {}, [], courses)
    _, rows = read_table(tmp_path / "turned.csv")
    [(panel, [first, second])] = panels_of(rows).items()
    assert (panel, first.name, second.name, first.place) == ("angle", "0", "90", places)
    np.testing.assert_array_equal(first.values, values)
    np.testing.assert_array_equal(second.values, -values)
    drawn = (tmp_path / "turned.png").read_bytes()
    (tmp_path / "turned.png").unlink()
    redraw_courses(tmp_path / "turned.png")
    assert (tmp_path / "turned.png").read_bytes() == drawn


def test_a_folder_is_made_or_refused_in_one_sentence(tmp_path):
    assert folder_of(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--output .* cannot be made .* choose another folder"):
        folder_of(str(tmp_path / "file" / "below"))


def test_mistakes_are_one_sentence_and_faults_are_not_hidden(capsys):
    def mistaken():
        raise UsageError("give a folder.")

    def faulty():
        raise ValueError("shapes differ")

    assert run("script.py", mistaken) == 2
    assert capsys.readouterr().err == "script.py: give a folder.\n"
    assert run("script.py", lambda: None) == 0
    with pytest.raises(ValueError, match="shapes differ"):
        run("script.py", faulty)

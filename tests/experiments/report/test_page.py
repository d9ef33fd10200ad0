import base64
import re
from html.parser import HTMLParser

import pytest

from experiments.report.arms import differing_settings, group
from experiments.report.page import draw_pictures, page
from experiments.report.scores import compare, corrected, summarise
from experiments.report.tables import Report

COSINE = "--aux distill --gate cosine"


@pytest.fixture
def make(build_run):
    """A report of finals by command line and game, with seeds from 1."""

    def make(finals, **options):
        runs = [
            build_run(line, (final / 2, final), seed, env, **options)
            for (line, env), of_arm in finals.items()
            for seed, final in enumerate(of_arm, start=1)
        ]
        arms = group(runs)
        return Report(arms, summarise(arms), compare(arms))

    return make


class Reader(HTMLParser):
    """The rows of all tables, the addresses of all pictures, and the text."""

    def __init__(self):
        super().__init__()
        self.rows, self.pictures, self.links, self.text = [], [], [], ""
        self.in_cell = False

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        self.in_cell = tag in ("td", "th")
        if self.in_cell:
            self.rows[-1].append("")
        if tag in ("img", "source"):
            self.pictures.append(given.get("src") or given.get("srcset"))
        if tag in ("script", "link", "iframe") or "href" in given:
            self.links.append(tag)

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data.strip()


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.text = " ".join(reader.text.split())
    return reader


SIX = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def test_the_page_holds_its_figures_and_needs_no_network(make):
    report = make({("", "Breakout"): SIX, (COSINE, "Breakout"): SIX})
    drawn = draw_pictures(report)
    assert draw_pictures(report) == drawn  # the same report is the same page
    html = page(report, ["A sentence."], [], drawn)
    found = read(html)
    # Curves and improvement, each for wide screens and for phones.
    assert len(found.pictures) == 4
    for address in found.pictures:
        head, data = address.split(",")
        assert head == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data)
    assert found.links == []
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", html)
    assert "A sentence." in found.text
    assert html.index("<figure>") < html.index("<table>")


def test_tests_are_corrected_for_their_number(make):
    higher = tuple(final + 5 for final in SIX)
    report = make(
        {("", "Breakout"): SIX, (COSINE, "Breakout"): higher}
        | {("--aux inverse --gate cosine", "Breakout"): (6.0, 5.0, 4.0, 3.0, 2.0, 1.0)}
    )
    found = {row.arm: p_value for row, p_value in corrected(report.comparisons, "main only")}
    # 6 pairs of one sign: 2 / 2^6, times the two tests; the other difference is 0 on average.
    assert found == {"distill, cosine": pytest.approx(2 * 2 / 64), "inverse, cosine": 1.0}
    rows = {row[0]: row for row in read(page(report, [], [], {})).rows if len(row) == 10}
    assert rows["distill, cosine"][-3:] == ["0.031", "0.062", "not shown"]
    assert rows["distill, cosine"][4] == "+5.00"


def test_a_difference_is_shown_where_the_corrected_test_says_so(make):
    lower = tuple(final - 5 for final in SIX)
    report = make({("", "Breakout"): SIX, (COSINE, "Breakout"): lower})
    [row] = [
        row for row in read(page(report, [], [], {})).rows if len(row) == 10 and row[0] != "arm"
    ]
    assert row[-3:] == ["0.031", "0.031", "lower"]


def test_games_are_one_family_of_tests_and_all_games_together_another(make):
    higher = tuple(final + 5 for final in SIX)
    finals = {
        (line, env): values
        for env in ("Breakout", "Pong")
        for line, values in (("", SIX), (COSINE, higher))
    }
    report = make(finals)
    found = {row.env: p_value for row, p_value in corrected(report.comparisons, "main only")}
    # 12 pairs for both games: 2 / 2^12.
    assert found == {
        "Breakout": pytest.approx(2 * 2 / 64),
        "Pong": pytest.approx(2 * 2 / 64),
        "all games": pytest.approx(2 / 4096),
    }
    text = read(page(report, [], [], {})).text
    assert "2 arms on Breakout, Pong; 24 runs, 6 seeds per arm" in text


def test_what_was_left_out_is_said_and_nothing_is_markup(make):
    report = make({("", "Breakout"): SIX})
    found = read(page(report, [], ["runs/<b>x</b> is no run"], {}))
    assert "runs/<b>x</b> is no run." in found.text
    assert "Nothing: every run" in read(page(report, [], [], {})).text


def test_runs_that_still_train_are_named_with_how_far_they_are(make, build_run):
    run = build_run("", (1.0, 2.0), 1)
    run.config["run"]["steps"] = 400
    arms = group([run])
    text = read(page(Report(arms, summarise(arms), compare(arms)), [], [], {})).text
    assert "Not finished: 1 of the runs" in text
    assert "25%" in text
    assert "Not finished" not in read(page(make({("", "Breakout"): SIX}), [], [], {})).text


def test_settings_that_differ_have_a_column_each(make, build_run):
    runs = [
        build_run("--num-envs 64 --unroll-length 4"),
        build_run(f"{COSINE} --num-envs 32 --unroll-length 4"),
    ]
    assert differing_settings(runs) == {
        "heads": ("none", "distill"),
        "gate": ("none", "cosine"),
        "num_envs": ("64", "32"),
    }
    arms = group(runs)
    rows = read(page(Report(arms, summarise(arms), compare(arms)), [], [], {})).rows
    assert ["arm", "heads", "gate", "num envs"] in rows
    assert [row[1:] for row in rows if row[1:] == ["distill", "cosine", "32"]]


def test_commit_and_hardware_are_counted(make):
    text = read(page(make({("", "Breakout"): SIX}), [], [], {})).text
    assert "c0ffee (6 runs)" in text
    assert "a machine (6 runs)" in text

"""What is drawn of the runs, read back from the figure."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.figures import colour
from experiments.report.arms import group
from experiments.report.figures import BAND_REPLICATES, POINTS, band, draw_curves, explain_bands
from experiments.statistics import bootstrap_means

COSINE = "--aux distill --gate cosine"
NAN = float("nan")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_curve_of_an_arm_is_the_mean_over_its_runs_on_their_common_steps(build_run):
    # Points at 50 and 100 steps, and at 25, 50, 75, 100: both have 50 to 100.
    runs = [build_run(returns=(0.0, 10)), build_run(returns=(9.0, 2, 2, 2), seed=2)]
    curve = band(runs, "return")
    assert (curve.step[0], curve.step[-1], len(curve.step)) == (50, 100, POINTS)
    # (0 + 2) / 2 to (10 + 2) / 2, straight in between.
    assert curve.mean == pytest.approx(np.linspace(1, 6, POINTS))


def test_two_runs_have_their_range_around_them(build_run):
    curve = band([build_run(returns=(0.0, 4)), build_run(returns=(3.0, 1), seed=2)], "return")
    assert (curve.low[0], curve.high[0]) == (0, 3)
    assert (curve.low[-1], curve.high[-1]) == (1, 4)


def test_three_runs_have_the_interval_of_their_mean_around_them(build_run):
    finals = np.array([[1.0], [2.0], [6.0]])
    runs = [build_run(returns=(0.0, *final), seed=seed) for seed, final in enumerate(finals)]
    curve = band(runs, "return")
    low, high = bootstrap_means(finals, BAND_REPLICATES)
    assert (curve.low[-1], curve.high[-1]) == (low[0], high[0])


def test_what_no_run_has_measured_has_no_curve(build_run):
    assert band([build_run(returns=(1.0, 2), **{"distill/cosine": (NAN, NAN)})], "x") is None
    assert band([], "return") is None


def test_the_figure_says_what_its_bands_are(build_run):
    runs = [build_run(COSINE, seed=seed) for seed in (1, 2, 3)]
    assert explain_bands(group(runs[:1])).endswith("Band: none with one run.")
    assert explain_bands(group(runs[:2])).endswith("Band: range of two runs.")
    mixed = group([*runs, build_run(seed=1), build_run(seed=2)])
    assert explain_bands(mixed) == (
        "Line: mean over seeds. Band: 95 % bootstrap interval of the mean; range of two runs."
    )


def test_arms_are_labelled_beside_their_lines_in_their_colours(build_run):
    runs = [build_run(returns=(1.0, 2)), build_run(COSINE, returns=(1.0, 8), seed=1)]
    runs.append(build_run(COSINE, returns=(1.0, 8), seed=2))
    (axes,) = draw_curves(group(runs)).axes
    labels = {text.get_text(): text for text in axes.texts}
    assert set(labels) == {"main only\n1 seed", "distill, cosine\n2 seeds"}
    assert labels["main only\n1 seed"].get_color() == colour(0)
    assert labels["distill, cosine\n2 seeds"].get_color() == colour(1)
    assert [line.get_color() for line in axes.lines] == [colour(0), colour(1)]
    assert axes.get_title() == "Breakout, baselines protocol: return while training"


def test_many_arms_have_a_legend_and_dashes_that_tell_them_apart(build_run):
    runs = [build_run(returns=(1.0, 2))]
    for number in range(9):
        flags = f"--learning-rate 1e-{number + 1}" + " --aux.distill.mirror" * (number % 2)
        runs.append(build_run(f"{COSINE} {flags}", returns=(1.0, number)))
    figure = draw_curves(group(runs))
    (axes,) = figure.axes
    assert not axes.texts
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert len(said) == len(set(said)) == 10
    assert said[0].replace("\n", " ").startswith("main only")
    assert sum(" mirror" in text.replace("\n", " ") for text in said) == 9
    assert sum("no mirror" in text.replace("\n", " ") for text in said) == 5
    drawn = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(drawn) == 10


def test_cosine_and_passed_are_drawn_where_they_were_measured(build_run):
    measured = {"distill/cosine": (0.1, -0.2), "distill/passed": (0.5, 1.0)}
    runs = [build_run(), build_run(COSINE, returns=(1.0, 2), **measured)]
    top, middle, bottom = draw_curves(group(runs)).axes
    assert middle.get_ylabel() == "cosine(main, distill)"
    assert middle.lines[0].get_ydata()[[0, -1]].tolist() == [0.1, -0.2]
    assert bottom.lines[0].get_ydata()[[0, -1]].tolist() == [0.5, 1.0]
    assert bottom.get_ylim()[0] == 0
    # Only the lowest panel names the steps.
    assert (top.get_xlabel(), bottom.get_xlabel()) == ("", "agent steps (4 frames each)")


def test_each_game_has_a_column(build_run):
    runs = [build_run(env=env) for env in ("Catch", "Breakout")]
    left, right = draw_curves(group(runs)).axes
    assert left.get_title().startswith("Breakout, ")
    assert right.get_title().startswith("Catch, ")
    assert right.get_xlabel() == "agent steps"


def test_steps_are_written_with_thousands(build_run):
    (axes,) = draw_curves(group([build_run(returns=(1.0, 2))])).axes
    assert axes.xaxis.get_major_formatter()(10_000_000) == "10,000,000"


def test_teachers_have_a_line_at_their_score(build_run):
    runs = [replace(build_run(COSINE, seed=seed), teacher=50.87) for seed in (1, 2)]
    (axes,) = draw_curves(group(runs), teacher=20.0).axes
    assert texts(axes)[:2] == ["teacher 20", "teacher 50.9"]
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert levels == [20, 50.87]

import io
import math
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from agents.logs.terminal import Progress, Split, Terminal, duration, plain_line
from envs.episodes import EpisodeSummary

TOTAL = 500_000


def line(step=20480, seconds=20.0, episodes=97, mean_return=1.3, sps=1034.4, gate="cosine", **more):
    return Progress(
        step=step,
        seconds=seconds,
        steps_per_second=sps,
        split=Split(environment=0.25, acting=0.125, learning=0.625),
        episodes=EpisodeSummary(episodes, episodes, mean_return, 30.0),
        learning_rate=0.5,
        metrics={"entropy": 1.0} | {name.replace("__", "/"): value for name, value in more.items()},
        gate=gate,
    )


DISTILL = {"distill__cosine": 0.123, "distill__passed": 0.118}
INVERSE = {"inverse__cosine": -0.4, "inverse__passed": 0.0}


def plain(width=80):
    """A console that nobody watches, and what is written to it."""
    file = io.StringIO()
    return Console(file=file, width=width), file


def watched(width=80):
    """A terminal of some width, and what is written to it."""
    file = io.StringIO()
    # Not from the environment, where TERM and COLUMNS may be anything.
    environment = {"TERM": "xterm"}
    console = Console(file=file, width=width, height=24, force_terminal=True, _environ=environment)
    return console, file


def picture(width, progress):
    """The live lines at one moment, without colours."""
    console, file = watched(width)
    terminal = Terminal(TOTAL, console)
    terminal.show(progress)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    terminal.close()
    return [part.strip("\r") for part in text.split("\n") if part.strip()]


def test_a_plain_line_says_all_that_matters():
    # (500,000 - 20,480) / 1034.4 = 463.6 s
    assert plain_line(line(**DISTILL), TOTAL) == (
        "step 20,480/500,000 (4%)  1,034 steps/s  ETA 7:44  return 1.30 (97 episodes)  "
        "cosine distill +0.12  passed 0.12"
    )


def test_what_was_not_measured_is_a_dash():
    nothing = {"distill__cosine": math.nan, "distill__passed": math.nan}
    start = line(step=0, episodes=0, mean_return=math.nan, sps=0.0, **nothing)
    assert plain_line(start, TOTAL) == (
        "step 0/500,000 (0%)  0 steps/s  ETA -  return - (0 episodes)  cosine distill -  passed -"
    )


def test_without_a_gate_nothing_is_said_of_it():
    text = plain_line(line(gate=None, episodes=1, mean_return=-20.55, **DISTILL), TOTAL)
    assert text.endswith("  return -20.6 (1 episode)")


def test_every_head_is_named():
    text = plain_line(line(**DISTILL, **INVERSE), TOTAL)
    assert "cosine distill +0.12  passed 0.12  cosine inverse -0.40  passed 0.00" in text


def test_only_a_finished_run_says_100_percent():
    assert "(99%)" in plain_line(line(step=TOTAL - 1), TOTAL)
    assert "(100%)" in plain_line(line(step=TOTAL), TOTAL)


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (-20.54, "-20.5"), (1234.5, "1,234"), (9.999, "10.00")]
)
def test_returns_of_every_scale_stay_short(value, text):
    assert f"return {text} (" in plain_line(line(mean_return=value), TOTAL)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0:00"), (59.6, "1:00"), (465.0, "7:45"), (7665.0, "2:07:45"), (266825.0, "3d 02:07")],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_come_first_at_most_every_ten_seconds_and_last():
    console, file = plain()
    terminal = Terminal(TOTAL, console)
    for second in range(1, 25):
        terminal.show(line(step=1000 * second, seconds=float(second)))
    terminal.close()
    steps = re.findall(r"^step ([\d,]+)/", file.getvalue(), re.MULTILINE)
    assert steps == ["1,000", "11,000", "21,000", "24,000"]


def test_lines_that_were_passed_over_are_not_printed_after_a_later_one():
    console, file = plain()
    terminal = Terminal(TOTAL, console)
    for second in (1.0, 5.0, 11.0):
        terminal.show(line(seconds=second, step=round(1000 * second)))
    terminal.close()
    steps = re.findall(r"^step ([\d,]+)/", file.getvalue(), re.MULTILINE)
    assert steps == ["1,000", "11,000"]


def test_a_last_line_that_is_already_there_is_not_repeated():
    console, file = plain()
    terminal = Terminal(TOTAL, console)
    terminal.show(line())
    terminal.close()
    terminal.close()
    assert file.getvalue().count("step ") == 1


def test_plain_text_is_neither_wrapped_nor_marked_up():
    console, file = plain(width=40)
    terminal = Terminal(TOTAL, console)
    note = "no [bold]mark-up[/bold] in /a/path/that/is/longer/than/the/forty/columns/of/this/screen"
    terminal.note(note)
    terminal.show(line(**DISTILL))
    terminal.close()
    assert file.getvalue() == f"{note}\n{plain_line(line(**DISTILL), TOTAL)}\n"


@pytest.mark.parametrize("width", [30, 50, 79, 80, 120])
def test_the_live_picture_never_exceeds_the_screen(width):
    parts = picture(width, line(step=499_999, mean_return=-12345.6, **DISTILL, **INVERSE))
    assert len(parts) == 2
    assert all(cell_len(part) <= width for part in parts)
    assert parts[0].strip().startswith("99%") or "━" in parts[0]


def test_the_live_picture_says_all_that_matters_on_80_columns():
    first, second = picture(80, line(**DISTILL, **INVERSE))
    assert re.fullmatch(r"[━╸╺]+ +4%  20,480/500,000  return 1\.30  1,034 steps/s  ETA 7:44", first)
    assert second.rstrip() == (
        "distill  cosine +0.12  passed 0.12   inverse  cosine -0.40  passed 0.00"
    )


def test_a_narrow_screen_loses_the_bar_before_the_numbers():
    first, _ = picture(64, line(**DISTILL))
    assert first.strip() == "4%  20,480/500,000  return 1.30  1,034 steps/s  ETA 7:44"


def test_without_a_gate_there_is_one_live_line():
    assert len(picture(80, line(gate=None, **DISTILL))) == 1


def test_notes_stand_above_the_live_line_and_the_last_one_stays():
    console, file = watched()
    terminal = Terminal(TOTAL, console)
    terminal.show(line(step=1000, gate=None))
    terminal.note("a checkpoint was written")
    terminal.show(line(step=2000, gate=None))
    terminal.close()
    text = file.getvalue()
    assert text.rindex("1,000/500,000") > text.index("a checkpoint was written")
    assert text.rindex("2,000/500,000") > text.rindex("a checkpoint was written")
    assert text.endswith("\x1b[?25h")  # the cursor is back
    assert "step 1,000" not in text


def ticked(*moments, shown=None, start_step=0):
    """All pictures of a watched terminal that shows a line and then ticks."""
    console, file = watched()
    terminal = Terminal(TOTAL, console, start_step)
    if shown is not None:
        terminal.show(shown)
    for step, seconds in moments:
        terminal.tick(step, seconds)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    terminal.close()
    return re.findall(r"([\d,]+)/500,000  return +(\S+) +(\S+) steps/s  ETA (\S+)", text)


def test_the_live_line_moves_on_between_two_lines_of_the_log():
    # At the speed and with the return of the last line: (500,000 - 21,000) / 1034.4 = 463.1 s.
    shown = line(gate=None)
    assert ticked((21_000, 20.6), shown=shown)[-1] == ("21,000", "1.30", "1,034", "7:43")


def test_the_live_line_is_drawn_at_most_twice_a_second():
    moments = [(1000 * tenth, tenth / 10) for tenth in range(1, 13)]
    steps = [step for step, *_ in ticked(*moments)]
    assert steps == ["1,000", "6,000", "11,000"]  # after 0.1, 0.6 and 1.1 seconds


def test_a_line_of_the_log_counts_as_a_picture():
    shown = line(seconds=20.0, gate=None)
    steps = [step for step, *_ in ticked((20_900, 20.4), (21_000, 20.5), shown=shown)]
    assert steps == ["20,480", "21,000"]


def test_before_the_first_line_the_speed_is_that_since_the_start():
    # A run that goes on from step 100,000: 4,000 steps in two seconds, 396,000 are left.
    assert ticked((104_000, 2.0), start_step=100_000) == [("104,000", "-", "2,000", "3:18")]


def test_where_nobody_watches_nothing_is_said_between_two_lines():
    console, file = plain()
    terminal = Terminal(TOTAL, console)
    terminal.tick(1000, 60.0)
    terminal.close()
    assert file.getvalue() == ""


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines():
    file = io.StringIO()
    terminal = Terminal(
        TOTAL, Console(file=file, width=80, force_terminal=True, _environ={"TERM": "dumb"})
    )
    terminal.show(line(gate=None))
    terminal.close()
    assert "step 20,480/500,000 (4%)" in file.getvalue()
    assert "\x1b[" not in file.getvalue()

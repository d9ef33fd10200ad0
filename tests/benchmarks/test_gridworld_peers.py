import csv
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from benchmarks import gridworld_peers
from benchmarks.gridworld_peers import COLUMNS, Options, SteppingArm, kept, main, rows, table
from benchmarks.stepping.protocol import Burst

OLD = dict.fromkeys(COLUMNS, "1") | {"date": "2001-02-03", "runs": "4 5"}


@dataclass
class Player:
    """A worker whose bursts are told beforehand, by form."""

    views: dict[str, str]
    bursts: dict[str, list[Burst]]
    versions: str = "package 1"
    asked: list[tuple[str, float]] = field(default_factory=list)

    def play(self, form, seconds):
        self.asked.append((form, seconds))
        return self.bursts[form].pop(0)


@pytest.fixture
def players(monkeypatch):
    """Ours and two peers: 3 rounds each."""
    players = {
        "ours": Player(
            {"5x5": "5x5 uint8", "11x11": "11x11 uint8"},
            # 600, 500 and 700 steps per second; 300, 300 and 200.
            {
                "5x5": [Burst(1200, 2.0), Burst(500, 1.0), Burst(700, 1.0)],
                "11x11": [Burst(300, 1.0), Burst(300, 1.0), Burst(400, 2.0)],
            },
        ),
        "xland": Player({"scan": "5x5x2 uint8"}, {"scan": [Burst(n, 2.0) for n in (8, 4, 16)]}),
        "pufferlib": Player({"C": "11x11 uint8"}, {"C": [Burst(n, 1.0) for n in (99, 90, 120)]}),
    }
    started = []

    @contextmanager
    def working(program, python, num_envs, core):
        started.append((program, python, num_envs, core))
        if python == "broken":
            raise ValueError("broken failed: no cheese")
        yield players[program]

    monkeypatch.setattr(gridworld_peers, "working", working)
    return players, started


def read(text):
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def test_everybody_plays_in_turns_and_the_middle_round_counts(players, tmp_path, capsys):
    file = tmp_path / "table.csv"
    flags = "--xland a/python --pufferlib b/python --rounds 3 --seconds 0.5 --num-envs 7"
    assert main([*flags.split(), "--output", str(file)]) == 0
    found, started = players
    assert started == [
        ("ours", sys.executable, 7, 0),
        ("xland", "a/python", 7, 0),
        ("pufferlib", "b/python", 7, 0),
    ]
    assert found["ours"].asked == [("5x5", 0.5), ("11x11", 0.5)] * 3
    text = file.read_text("utf-8")
    assert "--xland PYTHON --pufferlib PYTHON --rounds 3" in text.splitlines()[0]
    assert text in capsys.readouterr().out
    # XLand-MiniGrid: 4, 2 and 8 steps per second.
    assert [
        (row["program"], row["form"], row["steps_per_second"], row["runs"]) for row in read(text)
    ] == [
        ("auxgate", "5x5", "600", "600 500 700"),
        ("auxgate", "11x11", "300", "300 300 200"),
        ("XLand-MiniGrid", "scan", "4", "4 2 8"),
        ("PufferLib", "C", "99", "99 90 120"),
    ]


def test_ratios_are_to_the_usual_window_and_to_the_same():
    arms = [
        SteppingArm("ours", "5x5", "5x5 uint8", "", [600.0]),
        SteppingArm("ours", "11x11", "11x11 uint8", "", [300.0]),
        SteppingArm("navix", "loop", "5x5x3 uint8", "", [4.0]),
        SteppingArm("pufferlib", "C", "11x11 uint8", "", [100.0]),
    ]
    found = [(row["ratio"], row["ratio_same_view"]) for row in rows(arms, "cpu", "day")]
    assert found == [("1.00", "1.00"), ("2.00", "1.00"), ("150.00", "150.00"), ("6.00", "3.00")]


def test_a_peer_that_is_not_measured_keeps_its_line(players, tmp_path):
    file = tmp_path / "table.csv"
    earlier = [OLD | {"program": name} for name in ("auxgate", "XLand-MiniGrid", "PufferLib")]
    file.write_text("\n".join(["# old", *table(earlier)]), "utf-8")
    flags = ["--pufferlib", "b/python", "--rounds", "3", "--output", str(file)]
    assert main(flags) == 0
    found = read(file.read_text("utf-8"))
    assert [row["program"] for row in found] == [
        *("auxgate", "auxgate", "XLand-MiniGrid", "PufferLib")
    ]
    assert found[2] == OLD | {"program": "XLand-MiniGrid"}
    assert "2001-02-03" not in {found[0]["date"], found[1]["date"], found[3]["date"]}


def test_a_file_that_is_no_such_table_is_not_overwritten(players, tmp_path, capsys):
    file = tmp_path / "table.csv"
    file.write_text("a,b\n1,2\n", "utf-8")
    assert main(["--output", str(file)]) == 2
    assert "is not a table of this script: name another file" in capsys.readouterr().err
    assert file.read_text("utf-8") == "a,b\n1,2\n"
    assert kept(tmp_path / "none.csv", {"ours"}) == []


def test_the_flag_of_a_peer_that_fails_is_named(players, capsys):
    assert main(["--xland", "broken"]) == 2
    expected = "gridworld_peers.py: --xland: broken failed: no cheese\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"rounds": 0}, "must be above 0"),
        ({"num_envs": 0}, "must be above 0"),
        ({"seconds": 0.0}, "must be above 0"),
        ({"core": -1}, "--core must be from 0 to"),
        ({"core": 10_000}, "--core must be from 0 to"),
    ],
)
def test_senseless_options_are_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        Options(**given).interpreters()

"""What stands above every result, and programs in processes of their own."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.results import (
    Table,
    arguments_of,
    header,
    publish,
    remark,
    run_alone,
    split_flags,
)

ROOT = Path(__file__).resolve().parents[2]


def test_a_command_that_fails_is_told_with_its_last_words():
    with pytest.raises(ValueError, match=r"raise OSError.* failed: OSError: no cheese$"):
        run_alone([sys.executable, "-c", "raise OSError('no cheese')"])


def test_memory_is_counted_in_mebibytes():
    # Touched, so that it is really there; the interpreter itself comes on top.
    hold = "held = bytearray(b'x') * (256 * 2**20)"
    assert 256 < run_alone([sys.executable, "-c", hold]) < 64 * 1024


def test_the_header_tells_how_and_where_a_result_was_made():
    lines = header("speed.py", ["--arms", "main only"], ["peer: it"])
    assert lines[0] == "# command: python speed.py --arms 'main only'"
    names = [line.removeprefix("# ").split(": ")[0] for line in lines]
    assert names == ["command", "commit", "hardware", "packages", "peer"]
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    commit = lines[1].removeprefix("# commit: ").removesuffix(" (dirty)")
    assert commit == head


def test_a_remark_is_found_by_its_name_and_the_last_one_counts():
    remarks = ["# title: old", "# command: python speed.py --arms 'main only'", "# title: a: b"]
    assert (remark(remarks, "title"), remark(remarks, "hardware")) == ("a: b", "")
    assert arguments_of(remarks) == ["--arms", "main only"]
    remarks.append("# command: python -m experiments.speed --fast")
    assert arguments_of(remarks) == ["--fast"]


def test_flags_of_another_program_come_after_two_dashes():
    assert split_flags(["--a", "1", "--", "--b", "--", "2"]) == (["--a", "1"], ["--b", "--", "2"])
    assert split_flags(["--a"]) == (["--a"], [])


def test_a_result_is_printed_and_written(tmp_path, capsys):
    publish(["# a: b", "x,y", "1,2"], str(tmp_path / "result.csv"))
    text = (tmp_path / "result.csv").read_text("utf-8")
    assert capsys.readouterr().out == text == "# a: b\nx,y\n1,2\n"
    assert list(csv.DictReader(text.splitlines()[1:])) == [{"x": "1", "y": "2"}]


def test_a_result_is_only_printed_where_no_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    publish(["x"], "")
    assert capsys.readouterr().out == "x\n"
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_was_cut_short_or_killed_keeps_its_whole_rows(tmp_path):
    table = Table(tmp_path / "runs.csv", ("arm", "seed", "score"))
    table.start(["# command: x"])
    table.append(("main", "1", "0.5"))
    table.append(("main", "2", "0.75"))
    whole = table.path.read_bytes()
    for cut in range(1, len("main,2,0.75\n") + 1):
        table.path.write_bytes(whole[:-cut])
        assert table.read() == (
            ["# command: x"],
            [{"arm": "main", "seed": "1", "score": "0.5"}],
        )


def test_a_table_is_written_anew_as_a_whole_or_not_at_all(tmp_path):
    table = Table(tmp_path / "runs.csv", ("arm",))
    table.start([])
    table.append(("main",))
    before = table.path.read_bytes()

    def rows():
        yield {"arm": "main"}
        raise KeyboardInterrupt  # as a kill would end it here

    with pytest.raises(KeyboardInterrupt):
        table.start(["# remark"], rows())
    assert table.path.read_bytes() == before

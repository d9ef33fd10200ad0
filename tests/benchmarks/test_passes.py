import csv

import pytest
import torch

from benchmarks import passes
from benchmarks.passes import Options, main, measure, ways


def test_both_ways_to_two_gradients_agree():
    timed = ways(3, torch.float32)
    one_by_one, together = timed["two"](), timed["batched"]()
    for index, both in enumerate(together):
        torch.testing.assert_close(both, torch.stack([row[index] for row in one_by_one]))


def test_the_first_round_does_not_count_and_the_floor_has_two_backward_passes(monkeypatch):
    # Read once before and once after each way; the first round is read before alone.
    times = iter([0, 0, 0, 0, *(0, 1), *(0, 3), *(0, 9), *(0, 8)])
    monkeypatch.setattr(passes.time, "process_time", lambda: next(times))
    names = ("forward", "summed", "two", "batched")
    monkeypatch.setattr(passes, "ways", lambda *_: {name: lambda: None for name in names})
    assert measure(Options(rounds=1), torch.float32) == {
        "forward": 1000.0,
        "summed": 3000.0,
        "two": 9000.0,
        "batched": 8000.0,
        "floor": 5000.0,
    }


def test_a_table_is_written(tmp_path, capsys):
    assert main(f"--observations 2 --rounds 1 --output {tmp_path / 'x.csv'}".split()) == 0
    lines = (tmp_path / "x.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [row["precision"] for row in rows] == ["fp32"] * 5 + ["bf16"] * 5
    assert all(float(row["milliseconds"]) > 0 for row in rows)
    assert {row["ratio"] for row in rows if row["way"] == "summed"} == {"1.00"}


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="--rounds must be at least 1"):
        Options(rounds=0)

import csv

import pytest
import torch

from agents.gates import Gates
from benchmarks import gates
from benchmarks.gates import ARMS, Options, Setting, judgement, main, measure, milliseconds, report


def test_a_ratio_is_to_the_sum_of_as_many_losses_and_columns():
    results = {
        Setting("sum", 2, 10): 0.5,
        Setting("nash", 2, 10): 2.0,
        Setting("sum", 5, 10): 1.0,
        Setting("attittud, refreshing", 5, 10): 1.25,
    }
    assert list(csv.DictReader(report(results)))[1::2] == [
        {"gate": "nash", "losses": "2", "columns": "10", "milliseconds": "2.0000", "ratio": "4.00"},
        {
            "gate": "attittud, refreshing",
            "losses": "5",
            "columns": "10",
            "milliseconds": "1.2500",
            "ratio": "1.25",
        },
    ]


def test_every_gate_is_measured():
    assert set(vars(Gates())) < set(ARMS)
    options = Options(num_losses=(2,), columns=(7,), rounds=1, seconds=0.0)
    results = measure(options)
    assert [setting.gate for setting in results] == list(ARMS)
    assert all(spent > 0 for spent in results.values())


def test_a_judgement_is_one_of_the_gate_and_the_size_asked_for():
    found = judgement(Setting("nash", 3, 7), "cpu")()
    assert found.direction.shape == (7,)
    # Nash: |d|^2 is the number of losses.
    torch.testing.assert_close(found.direction.square().sum(), torch.tensor(3.0))


def test_it_judges_until_the_time_is_up(monkeypatch):
    now, judged = 0.0, 0

    def judge():
        nonlocal now, judged
        now, judged = now + 0.25, judged + 1

    monkeypatch.setattr(gates.time, "process_time", lambda: now)
    # Four judgements of 250 ms fill a second; an own start of the clock is not counted.
    assert milliseconds(judge, Options(seconds=1.0)) == 250.0
    assert judged == 4


def test_the_table_is_printed_and_written_with_its_header(tmp_path, capsys):
    file = tmp_path / "gates.csv"
    flags = f"--gates pcgrad --num-losses 2 --columns 9 --rounds 1 --seconds 0 --output {file}"
    assert main(flags.split()) == 0
    assert capsys.readouterr().out == file.read_text()
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# command: python benchmarks/gates.py --gates pcgrad")
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [line["gate"] for line in table] == ["sum", "pcgrad"]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="--gates 'pcgrab' is unknown: choose from sum, cosine,"):
        Options(gates=("pcgrab",))
    with pytest.raises(ValueError, match="--num-losses must be at least 2, not 1"):
        Options(num_losses=(5, 1))
    with pytest.raises(ValueError, match="--rounds must be at least 1, not 0"):
        Options(rounds=0)

import csv

import pytest
import torch

from agents.gates import make
from examples.arms import MAIN
from examples.vectors import Options, directions, draw, judge, main, measure, pairs


@pytest.fixture(scope="module")
def rows():
    return pairs(Options(length=2.0, angles=36))


def test_the_auxiliary_turns_and_the_main_gradient_does_not(rows):
    assert rows.shape == (36, 2, 2)
    torch.testing.assert_close(rows[:, 0], torch.tensor([[1.0, 0.0]]).double().expand(36, 2))
    torch.testing.assert_close(rows[9, 1], torch.tensor([0.0, 2.0]).double())
    torch.testing.assert_close(rows[18, 1], torch.tensor([-2.0, 0.0]).double())


def test_what_comes_out_is_the_gates_direction(rows):
    torch.testing.assert_close(directions(None, rows, 3), rows[:, 0])
    torch.testing.assert_close(directions(make("sum"), rows, 3), rows.sum(1))
    # At 60 degrees the cosine is 1/2.
    sixty = directions(make("cosine"), rows, 0)[6]
    torch.testing.assert_close(sixty, rows[6, 0] + 0.5 * rows[6, 1])


def test_memory_is_of_the_pair_itself(rows):
    # A usual cosine that is the pair's own leaves gradvac nothing to change.
    settled = directions(make("gradvac", decay=0.5), rows, 60)
    torch.testing.assert_close(settled, rows.sum(1), rtol=1e-6, atol=1e-6)
    assert (directions(make("gradvac", decay=0.5), rows, 1) - settled).abs().max() > 0.1


def test_a_row_holds_what_both_losses_gain(rows):
    first, *_, last = measure("sum", rows, rows.sum(1))
    assert first == {
        "gate": "sum",
        "degrees": 0,
        "x": "3.00000",
        "y": "0.00000",
        "main_gain": "3.00000",
        "auxiliary_gain": "6.00000",
    }
    assert last["degrees"] == 350


def test_promises_are_counted(rows):
    found = {MAIN: rows[:, 0], **{name: rows.sum(1) for name in PROMISED}}
    sums = [verdict.outcome for verdict in judge(found, rows)]
    assert sums == ["not shown"] * 7
    kept = {MAIN: rows[:, 0], **{name: directions(make(name), rows, 2) for name in PROMISED}}
    assert [verdict.outcome for verdict in judge(kept, rows)] == ["not shown"] + ["shown"] * 6
    # Longer than 1 and opposed: from 100 to 260 degrees the sum is slower.
    assert judge(kept, rows)[0].evidence == f"At {19 / 36:.0%} of all angles."


PROMISED = ("sum", "cosine", "projection", "pcgrad", "mgda", "upgrad", "nash")


def test_every_gate_has_a_panel(rows):
    found = dict.fromkeys("abcdefg", rows[:, 0])
    titles = [axes.get_title() for axes in draw(found, rows).axes]
    assert titles[:7] == list("abcdefg")
    assert titles[7:] == [""] * 5


def test_a_table_and_a_figure_are_left(tmp_path, capsys):
    assert main(["--angles", "36", "--judgements", "1", "--output", str(tmp_path)]) == 0
    lines = (tmp_path / "vectors.csv").read_text("utf-8").splitlines()
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {row["gate"] for row in table} >= {MAIN, "cosine", "attittud"}
    assert (tmp_path / "vectors.png").stat().st_size > 1000
    assert "cosine: the main loss falls at least as fast as alone" in capsys.readouterr().out


@pytest.mark.parametrize("flags", ["--length 0", "--angles 40", "--angles 0", "--judgements -1"])
def test_bad_options_are_refused(flags):
    with pytest.raises(SystemExit) as caught:
        main(flags.split())
    assert caught.value.code == 2

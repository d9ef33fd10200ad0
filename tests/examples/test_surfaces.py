import csv

import pytest
import torch

from agents.gates import make
from examples import surfaces
from examples.arms import arms
from examples.report import Verdict
from examples.scenes import SCENES
from examples.surfaces import SINGLE_SAMPLE, Options, descend, judge, main, measure


def test_without_a_gate_the_main_loss_alone_is_descended():
    # The gradient of the bowl is 2 p: a step of 0.01 leaves 0.98 p.
    starts = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)
    path = descend(SCENES["conflicting"], None, starts, steps=3)
    assert path.shape == (4, 2, 2)
    torch.testing.assert_close(path[3], 0.98**3 * starts)


def test_the_sum_rests_where_the_gate_goes_on():
    # At 5 the gradients are -10 and 10.
    start = torch.tensor([[5.0]], dtype=torch.float64)
    for gate, end in ((make("sum"), 5.0), (make("cosine"), 5.1)):
        assert descend(SCENES["line"], gate, start, steps=1)[1].item() == pytest.approx(end)


def test_a_field_that_belongs_to_no_loss_passes_a_gate_that_reads_losses():
    start = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    path = descend(SCENES["rotating"], make("gradnorm"), start, steps=2)
    # The first judgement of gradnorm is the sum: (2, 2) + (-4, -3) at (0, 1) from the centre.
    torch.testing.assert_close(path[1], start - 0.01 * torch.tensor([[-2.0, -1.0]]).double())
    assert path.isfinite().all()


def test_samples_are_the_main_gradient_itself():
    # ATTITTUD with one sample projects, as its special case says.
    start = torch.tensor([[1.0, 1.5]], dtype=torch.float64)
    paths = [
        descend(SCENES["rotating"], gate, start, steps=5)
        for gate in (make("attittud", rank=1, refresh=1), make("projection"))
    ]
    torch.testing.assert_close(*paths)


def test_a_path_is_measured_by_its_end_and_by_when_it_is_low_enough():
    # Losses of the first path: 4, 0.09, 1; of the second always 4.
    path = torch.tensor(
        [[[2.0, 0.0], [0.0, 2.0]], [[0.3, 0.0], [2.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]]
    )
    first, second = measure("conflicting", "sum", path)
    assert first == {
        "surface": "conflicting",
        "gate": "sum",
        "start": "2.000 0.000",
        "main_loss": "1",
        "distance": "1",
        "steps": 1,
    }
    assert second["steps"] == 2


@pytest.fixture
def tell():
    """Rows of six starts in which one gate of each surface does badly."""

    def tell(bad):
        return [
            {
                "surface": surface,
                "gate": gate,
                "main_loss": "0.5" if gate in bad else "0.01",
                "distance": "0.5" if gate in bad else "0.01",
                "steps": 100 if gate in bad else 50,
            }
            for surface in SCENES
            for gate in ("main only", "sum", "cosine", "projection")
            for _ in range(6)
        ]

    return tell


def outcomes(rows):
    return [verdict.outcome for verdict in judge(rows)]


def test_claims_are_shown_where_paths_show_them(tell):
    assert outcomes(tell(bad=("sum", "main only"))) == ["shown"] * 5 + ["not shown"]
    assert outcomes(tell(bad=("cosine", "projection"))) == ["reversed"] * 5 + ["not shown"]
    assert outcomes(tell(bad=())) == ["not shown"] * 6
    assert outcomes(tell(bad=("cosine",)))[-1] == "shown"


@pytest.mark.parametrize(("name", "start"), [("line", -5.0), ("rotating", 0.7), ("circle", 0.7)])
def test_every_gate_finds_a_way(name, start):
    starts = torch.full((2, len(SCENES[name].goal)), start, dtype=torch.float64)
    for gate, make_gate in arms(SINGLE_SAMPLE).items():
        path = descend(SCENES[name], make_gate and make_gate(), starts, steps=2)
        assert path.isfinite().all(), gate
        assert (path[1] != path[0]).any(), gate


def test_a_short_run_leaves_a_table_and_a_figure_of_every_surface(tmp_path, monkeypatch, capsys):
    few = {"main only": None, "sum": lambda: make("sum"), "nash": lambda: make("nash")}
    monkeypatch.setattr(surfaces, "arms", lambda attittud: few)
    monkeypatch.setattr(surfaces, "SCENES", {name: SCENES[name] for name in ("line", "circle")})
    monkeypatch.setattr(surfaces, "judge", lambda rows: [Verdict("claim", "shown", f"{len(rows)}")])
    arguments = ["--starts", "2", "--steps", "3", "--output", str(tmp_path)]
    assert main(arguments) == 0
    lines = (tmp_path / "surfaces.csv").read_text("utf-8").splitlines()
    assert lines[0] == f"# command: python examples/surfaces.py {' '.join(arguments)}"
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    # Two starts of the paper on the line and four on the circle, and two random ones on each.
    assert [row["gate"] for row in rows].count("nash") == 4 + 6
    assert {row["gate"] for row in rows} == set(few)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "surfaces_circle.png",
        "surfaces_line.png",
    ]
    assert "- claim: shown. 30\n" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"starts": 0}, {"steps": 0}])
def test_nothing_to_follow_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        Options(**wrong)

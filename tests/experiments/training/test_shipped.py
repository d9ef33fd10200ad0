"""Teachers by name, their table, and the script that ships them."""

import importlib.util
import json
from pathlib import Path

import pytest

from configs.errors import UsageError
from experiments.evaluation.players import load_player
from experiments.training import teachers
from experiments.training.command import main
from tests.experiments.sessions import HARDWARE, complaint, session_of

SHIP = Path(__file__).resolve().parents[3] / "teachers" / "ship.py"


@pytest.fixture
def shelf(teacher, tmp_path, monkeypatch):
    """A folder of shipped teachers: Catch has its usual one and a weak one."""
    shelf = tmp_path / "shelf"
    for name in ("Catch", "Catch/weak", "toy/Catch-2"):
        (shelf / name).mkdir(parents=True)
        (shelf / name / "policy.safetensors").write_bytes(teacher.read_bytes())
    monkeypatch.setattr(teachers, "SHIPPED_TEACHERS", shelf)
    return shelf


def test_a_teacher_is_found_by_its_name_whatever_the_case(shelf):
    assert teachers.shipped_names() == ("Catch", "Catch/weak", "toy/Catch-2")
    assert teachers.locate_policy("catch/WEAK") == shelf / "Catch" / "weak"
    assert teachers.shipped_for("Catch") == shelf / "Catch"
    assert teachers.shipped_for("toy") is None  # teachers of others lie below it
    session = session_of("--aux distill --teacher Catch/weak")
    assert list(session.learner.heads) == ["distill"]


def test_a_path_goes_before_a_name(shelf, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Catch").mkdir()
    assert teachers.locate_policy("Catch") == shelf / "Catch"  # a folder without a policy is none
    Path("Catch/policy.safetensors").write_bytes(teacher.read_bytes())
    assert teachers.locate_policy("Catch") == Path("Catch")


def test_an_unknown_name_is_answered_with_the_nearest(shelf):
    assert complaint("--aux distill --teacher Catch/waek") == (
        "--teacher Catch/waek: there is no policy at Catch/waek, and no shipped teacher has this "
        "name (did you mean Catch/weak, Catch or toy/Catch-2?); give a run or an exported policy "
        "of Catch."
    )
    with pytest.raises(UsageError, match="Catch/waek cannot be played"):
        load_player("Catch/waek", HARDWARE, render=False)


def test_a_shipped_teacher_is_played_by_its_name(shelf):
    assert load_player("Catch/weak", HARDWARE, render=False).card.env == "Catch"


def test_the_table_has_a_line_for_each_teacher(shelf, capsys):
    score = {"mean": 0.5, "interval_95": [0.25, 0.75]}
    (shelf / "Catch" / "weak" / "evaluation.json").write_text(json.dumps(score))
    assert main(["--list-teachers"]) == 0
    header, usual, weak, _ = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:2] == ["teacher", "environment"]
    assert usual[:3] == ["Catch", "Catch", "-"]
    assert weak[:6] == ["Catch/weak", "Catch", "0.5", "(0.25", "to", "0.75)"]
    assert weak[-1] == usual[-1]  # the same file
    assert len(weak[-1]) == 12


def test_the_table_comes_alone(capsys):
    assert main(["--list-teachers", "--env", "Catch"]) == 2
    assert "--list-teachers trains nothing: drop --env" in capsys.readouterr().err


def test_a_run_is_shipped_under_a_name(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("ship", SHIP)
    ship = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ship)
    shelf = tmp_path / "teachers"
    monkeypatch.setattr(ship, "ROOT", tmp_path)
    monkeypatch.setattr(teachers, "SHIPPED_TEACHERS", shelf)
    run = str(tmp_path / "run")
    assert main(f"--env Catch --steps 1000 --seed 3 --threads 1 --run-dir {run}".split()) == 0
    with pytest.raises(SystemExit, match=r"--name must be Catch or Catch/NAME, not Pong\."):
        ship.main(ship.Options(run, name="Pong"))
    with pytest.raises(SystemExit, match=r"nowhere is no run with a policy"):
        ship.main(ship.Options(str(tmp_path / "nowhere")))
    assert not shelf.exists()
    ship.main(ship.Options(run, episodes=4, name="Catch/weak", about="Says little."))
    folder = shelf / "Catch" / "weak"
    assert teachers.shipped_names() == ("Catch/weak",)
    score = json.loads((folder / "evaluation.json").read_text())
    assert score["episodes"] == 4
    card = (folder / "README.md").read_text()
    for text in ("Catch: Catch/weak", "Says little.", "--seed 3", "evaluate.py Catch/weak"):
        assert text in card
    digest = teachers.teacher_table().split()[-1]
    assert f"`{digest}" in card
    assert (folder / "curve.csv").read_text().startswith("step,return,entropy\n")

    def fails(playing):
        raise UsageError("no")

    monkeypatch.setattr(ship, "evaluate", fails)
    with pytest.raises(SystemExit, match=r"^ship\.py: no$"):
        ship.main(ship.Options(run, name="Catch/weak", about="Another."))
    assert (folder / "README.md").read_text() == card, "a teacher stays whole"

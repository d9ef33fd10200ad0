"""What is missing is made, what is there is kept, and nothing is lost in between."""

import pytest

from configs.errors import UsageError
from experiments.results import Table, read_table
from experiments.studies import engine
from experiments.studies.engine import Tables, average, by_seed, number, parse_number
from experiments.training.lock import FolderLock, InUseError

KEY = ("arm", "seed")


@pytest.fixture
def study(tmp_path):
    tables = (
        Table(tmp_path / "curves.csv", (*KEY, "0", "1")),
        Table(tmp_path / "runs.csv", (*KEY, "x")),
    )
    return Tables("-m study", KEY, tables)


def trained(calls, fails=()):
    def train(key):
        if key in fails:
            raise ValueError("no")
        calls.append(key)
        return [["0.5", ""], [str(len(calls))]]

    return train


def rows(study, table=-1):
    return [tuple(row.values()) for row in study.tables[table].read()[1]]


def test_all_arms_come_with_the_first_seed_before_the_second():
    assert by_seed([("main only",), ("sum",)], [3, 1]) == [
        ("main only", "3"),
        ("sum", "3"),
        ("main only", "1"),
        ("sum", "1"),
    ]


def test_every_run_is_trained_once_and_has_a_row_in_every_table(study):
    calls = []
    wanted = by_seed([("a, b",), ("c",)], [1])
    study.complete(wanted, trained(calls), ["--seeds", "1"], ["title: a study"], keep=False)
    assert calls == wanted
    assert rows(study) == [("a, b", "1", "1"), ("c", "1", "2")]
    assert rows(study, 0) == [("a, b", "1", "0.5", ""), ("c", "1", "0.5", "")]
    remarks, _ = study.tables[0].read()
    assert remarks[0] == "# command: python -m study --seeds 1"
    assert remarks[-1] == "# title: a study"


def test_an_interrupted_study_goes_on_where_it_stopped(study):
    wanted = by_seed([("a",), ("b",), ("c",)], [1])
    with pytest.raises(ValueError, match="no"):
        study.complete(wanted, trained([], fails=[("b", "1")]), ["first"], keep=True)
    # The curve of a run that was cut off before its row in the last table does not stay.
    study.tables[0].append(("b", "1", "9", "9"))
    assert rows(study) == [("a", "1", "1")]
    calls = []
    study.complete(wanted, trained(calls), ["second"], keep=True)
    assert calls == [("b", "1"), ("c", "1")]
    assert [row[0] for row in rows(study)] == [row[0] for row in rows(study, 0)] == ["a", "b", "c"]
    commands = [line for line in study.tables[0].read()[0] if line.startswith("# command")]
    assert [line.split()[-1] for line in commands] == ["first", "second"]


def test_a_complete_study_keeps_its_files_as_they_are(study):
    wanted = by_seed([("a",)], [1, 2])
    study.complete(wanted, trained([]), [], keep=True)
    before = [table.path.read_bytes() for table in study.tables]
    study.complete(wanted[:1], trained([]), ["other"], keep=True)
    assert [table.path.read_bytes() for table in study.tables] == before


def test_without_keep_it_starts_anew(study):
    wanted = by_seed([("a",)], [1])
    study.complete(wanted, trained([]), [], keep=False)
    calls = []
    study.complete(wanted, trained(calls), [], keep=False)
    assert calls == wanted
    assert len(read_table(study.tables[-1].path)[1]) == 1


def test_what_was_not_measured_is_an_empty_cell():
    assert [number(0.123456), number(float("nan")), number(0.5, ".3f")] == ["0.12346", "", "0.500"]
    assert parse_number("0.5") == 0.5
    assert str(parse_number("")) == "nan"


def test_an_average_is_of_what_was_measured():
    rows = [{"a": "1"}, {"a": ""}, {"b": "5"}, {"a": "2"}]
    assert average("a", rows) == 1.5
    assert average("c", rows) != average("c", rows)


def test_the_runs_of_a_study_come_by_seed_without_those_that_are_not_done(made_up, capsys):
    folder = made_up("--env Catch --aux none inverse --seed 1 2 --steps 100", ["step", "100"])
    (folder / "Catch-main-s2" / "policy.safetensors").unlink()
    found = engine.trained(folder)
    assert list(found) == [
        ("main only", "", "1"),
        ("inverse", "cosine", "1"),
        ("inverse", "cosine", "2"),
    ]
    assert found["main only", "", "1"].rows == [{"step": "100"}]
    assert capsys.readouterr().err == f"{folder / 'Catch-main-s2'} is not done: it is left out.\n"


def test_a_second_program_does_not_write_the_same_tables(study, tmp_path):
    with FolderLock(tmp_path), pytest.raises(InUseError, match="is in use by process"):
        study.complete([("a", "1")], trained([]), [], keep=False)
    assert list(tmp_path.glob("*.csv")) == []


def test_a_run_with_two_heads_is_refused(made_up):
    folder = made_up("--env Catch --aux none inverse+spr --steps 100", ["step", "100"])
    with pytest.raises(UsageError, match=r"has the heads inverse\+spr: give a study whose runs"):
        engine.trained(folder)

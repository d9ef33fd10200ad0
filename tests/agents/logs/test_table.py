import csv
import math

import pytest

from agents.logs.report import Table


def write(path, *rows, start_step=0):
    table = Table(path, start_step)
    for step, numbers in rows:
        table.append(step, numbers)
    table.close()


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def test_columns_go_from_step_and_time_to_what_matters_less(path):
    write(path, (5, {"sps": 1.0, "distill/cosine": 2.0, "return": 3.0, "seconds": 4.0}))
    assert path.read_text() == "step,seconds,return,distill/cosine,sps\n5,4,3,2,1\n"


def test_a_row_is_on_the_disk_before_the_next_one(path):
    table = Table(path)
    for step in (1, 2, 3):
        table.append(step, {"return": step / 2})
        assert [row["step"] for row in read(path)] == [str(n) for n in range(1, step + 1)]
    table.close()


def test_cells_are_short_and_empty_where_nothing_was_measured(path):
    numbers = {"return": math.nan, "learning_rate": 1 / 3, "episodes": 12345678.0, "sps": math.inf}
    write(path, (1234567890, numbers))
    assert path.read_text() == (
        "step,return,episodes,learning_rate,sps\n1234567890,,12345678,0.333333,inf\n"
    )


def test_a_metric_that_comes_later_gets_a_column_and_older_rows_an_empty_cell(path):
    write(
        path,
        (1, {"return": 1.0, "entropy": 2.0}),
        (2, {"entropy": 4.0, "distill/cosine": 0.5, "return": 3.0}),
        (3, {"return": 5.0}),
    )
    assert path.read_text() == ("step,return,entropy,distill/cosine\n1,1,2,\n2,3,4,0.5\n3,5,,\n")


def test_a_resumed_run_cuts_the_rows_beyond_its_start_and_keeps_the_columns(path):
    write(path, *((step, {"return": float(step), "entropy": 0.5}) for step in (10, 20, 30, 40)))
    table = Table(path, start_step=20)
    assert [row["step"] for row in read(path)] == ["10", "20"]
    table.append(25, {"entropy": 1.0, "return": 7.0})
    table.close()
    assert path.read_text() == "step,return,entropy\n10,10,0.5\n20,20,0.5\n25,7,1\n"


@pytest.mark.parametrize(
    "tail", ["30,1", "30,1,2", "\n\n", "30,1,2,3,4\n", "x,1,2\n", "\0\0\0\0", "\0\0\n"]
)
def test_what_a_killed_process_left_half_written_is_cut(path, tail):
    write(path, (10, {"return": 1.0, "entropy": 2.0}))
    with path.open("a") as file:
        file.write(tail)
    write(path, (20, {"return": 3.0, "entropy": 4.0}), start_step=100)
    assert path.read_text() == "step,return,entropy\n10,1,2\n20,3,4\n"


@pytest.mark.parametrize("content", ["", "ste", "\n", "\0\0\0\n", "a,b\n1,2\n"])
def test_a_table_without_a_header_is_begun_anew(path, content):
    path.write_text(content)
    write(path, (20, {"return": 3.0}), start_step=10)
    assert path.read_text() == "step,return\n20,3\n"


def test_nothing_but_the_table_is_left_in_the_folder(path):
    write(path, (1, {"return": 1.0}), (2, {"entropy": 1.0}))
    write(path, (2, {"entropy": 1.0}), start_step=1)
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


def test_a_table_whose_header_is_damaged_is_kept_under_another_name(path):
    write(path, (10, {"return": 1.0}))
    damaged = path.read_bytes().replace(b"step", b"st\x00p")
    path.write_bytes(damaged)
    table = Table(path, start_step=10)
    assert table.notes == ["metrics.csv has lost its columns: it is kept as metrics.damaged.csv."]
    table.append(20, {"return": 3.0})
    table.close()
    assert path.read_text() == "step,return\n20,3\n"
    assert (path.parent / "metrics.damaged.csv").read_bytes() == damaged


@pytest.mark.parametrize(
    "damaged", ["7" * 200_000 + ",1", '"20,1', "20,1e", "9" * 5000 + ",1", "\x00,1", "20,1\x00"]
)
def test_a_damaged_line_costs_no_other_line_and_is_told(path, damaged):
    write(path, (10, {"return": 1.0}))
    with path.open("a") as file:
        file.write(f"{damaged}\n30,3\n")
    table = Table(path, start_step=30)
    assert table.notes == ["metrics.csv had 1 damaged lines, which are dropped."]
    assert [row["step"] for row in read(path)] == ["10", "30"]
    table.close()


def test_a_table_that_is_removed_meanwhile_is_written_on(path):
    table = Table(path)
    table.append(1, {"return": 1.0})
    path.unlink()
    table.append(2, {"return": 2.0})
    table.close()
    assert path.read_text() == "step,return\n2,2\n"

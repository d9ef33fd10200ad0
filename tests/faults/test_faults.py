"""A few faults of each kind, drawn by the generator; `python -m tests.faults` draws hundreds."""

import pytest

from tests.faults.damages import damage
from tests.faults.inputs import parse_lines
from tests.faults.kills import JOBS, kill


def test_what_is_killed_again_and_again_ends_as_if_undisturbed(tmp_path):
    assert [said for said in kill(1, 3, tmp_path, JOBS[1:2]) if said] == []


@pytest.mark.slow  # a process for every damage
def test_damaged_files_cost_no_run_and_no_foreign_file(tmp_path):
    assert [said for said in damage(1, 5, tmp_path) if said] == []


def test_a_command_line_is_understood_or_refused_in_one_sentence(tmp_path):
    assert [said for said in parse_lines(1, 20, tmp_path) if said] == []

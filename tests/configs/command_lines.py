"""What a command line is read as, and what is said where it cannot be read."""

import pytest

from configs.cli import parse
from configs.errors import UsageError


def parsed(line):
    return parse(line.split())


def complaint(line, parser=parse):
    with pytest.raises(UsageError) as refused:
        parser(line.split())
    said = str(refused.value)
    assert "\n" not in said
    assert said.endswith((".", "?"))
    return said


def help_of(line, capsys, parser=parse):
    with pytest.raises(SystemExit) as stop:
        parser([*line.split(), "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def all_help_of(line, capsys):
    with pytest.raises(SystemExit):
        parse([*line.split(), "--help-all"])
    return capsys.readouterr().out

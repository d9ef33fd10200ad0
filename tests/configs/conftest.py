"""Fixtures of the tests that build sessions."""

import pytest

from agents.teacher import export_policy
from configs.build import build
from configs.cli import parse
from tests.configs.sessions import HARDWARE, SMALL


@pytest.fixture
def teacher(tmp_path):
    """The path of a policy of Catch, untrained."""
    config = parse(SMALL.split())
    session = build(config, HARDWARE)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    return tmp_path / "teacher"

"""Programs as processes, with a PufferLib that does nothing."""

import subprocess
import sys

import pytest

from benchmarks.stepping import client
from benchmarks.stepping.client import working


def test_a_program_tells_of_itself_and_plays_when_it_is_told(puffer):
    puffer(most_steps=10**9)
    with working("pufferlib", sys.executable, num_envs=3, core=0) as worker:
        assert worker.versions == "pufferlib 9.9"
        assert worker.views == {"C": "11x11 uint8"}
        for seconds in (0.01, 0.02):
            done = worker.play("C", seconds)
            # Whole unrolls: 8 steps of 3 environments.
            assert done.steps > 0
            assert done.steps % 24 == 0
            assert done.seconds >= seconds


def test_a_program_that_fails_at_play_is_told_with_its_last_words(puffer):
    # Three unrolls of 8 steps to warm up.
    puffer(most_steps=3 * 8)
    with (
        working("pufferlib", sys.executable, num_envs=3, core=0) as worker,
        pytest.raises(ValueError, match=r"failed: RuntimeError: the grid is worn out$"),
    ):
        worker.play("C", 0.01)


def test_a_program_that_cannot_start_is_told_with_its_last_words(puffer):
    puffer(most_steps=3 * 8 - 1)
    with (
        pytest.raises(ValueError, match=r"failed: RuntimeError: the grid is worn out$"),
        working("pufferlib", sys.executable, num_envs=3, core=0),
    ):
        pass


def test_an_interpreter_that_is_none_is_refused(tmp_path):
    for python in (str(tmp_path / "python"), "no-such-python"):
        with (
            pytest.raises(ValueError, match="python is not a program that can be run"),
            working("pufferlib", python, num_envs=3, core=0),
        ):
            pass


def test_a_program_ends_with_its_context_whatever_happens(puffer, monkeypatch):
    puffer(most_steps=10**9)
    started = []

    class Watched(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def interrupted():
        with working("pufferlib", sys.executable, num_envs=3, core=0):
            assert started[0].poll() is None
            raise KeyboardInterrupt

    monkeypatch.setattr(client.subprocess, "Popen", Watched)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started[0].returncode is not None

"""The examples in the docstrings of the public packages, run as tests."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("package", ["agents", "agents.gates", "envs", "gridworld"])
def test_the_examples_of_a_public_package_print_what_they_say(package):
    assert doctest.testmod(importlib.import_module(package)).failed == 0


@pytest.mark.parametrize("package", ["agents", "agents.gates", "envs", "gridworld"])
def test_a_public_package_has_an_example(package):
    assert doctest.testmod(importlib.import_module(package)).attempted > 0


def test_everything_that_agents_lists_is_there():
    agents = importlib.import_module("agents")
    assert all(getattr(agents, name).__name__ == name for name in agents.__all__)

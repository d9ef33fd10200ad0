"""In a checkout `auxgate` is another name of the same modules."""

import subprocess
import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "agents.gates",
        "agents.gates.methods.cosine",
        "envs.catch",
        "gridworld",
        "configs.training",
        "experiments.training.run_folder",
    ],
)
def test_there_is_one_copy_of_every_module(name):
    module = import_module(f"auxgate.{name}")
    assert module is import_module(name)
    # So that `importlib.reload` and `pickle` go on finding it.
    assert module.__spec__.name == module.__name__ == name


@pytest.mark.parametrize("first", ["agents.heads", "auxgate.agents.heads"])
def test_whichever_name_comes_first(first):
    check = f"import {first}, agents.heads, auxgate.agents.heads as alias; import sys\n"
    check += "sys.exit(alias is not agents.heads)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_the_gates_are_those_of_agents():
    ours, theirs = import_module("auxgate.gates"), import_module("agents.gates")
    assert {name: getattr(ours, name) for name in theirs.__all__} == {
        name: getattr(theirs, name) for name in theirs.__all__
    }


def test_gates_load_nothing_that_only_training_needs():
    check = "import auxgate.gates, sys; print([n for n in ('tyro', 'rich', 'gymnasium') if n in"
    done = subprocess.run(
        [sys.executable, "-c", f"{check} sys.modules])"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_does_not_exist_is_said_to_be_missing():
    with pytest.raises(ModuleNotFoundError):
        import_module("auxgate.agents.nothing")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = import_module("auxgate").nothing


def test_a_package_of_the_checkout_runs_as_a_program_by_either_name():
    for name in ("experiments.report", "auxgate.experiments.report"):
        done = subprocess.run(
            [sys.executable, "-m", name, "--help"], capture_output=True, text=True, check=True
        )
        assert "usage:" in done.stdout, name

"""Fixtures: an untrained teacher, and runs as the report reads them, made up but real."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agents.teachers import export_policy
from configs.cli import parse
from experiments.report.arms import Arm
from experiments.report.runs import Run
from experiments.training.build import build
from tests.experiments.sessions import HARDWARE, SMALL


@pytest.fixture
def teacher(tmp_path):
    """The path of a policy of Catch, untrained."""
    config = parse(SMALL.split())
    session = build(config, HARDWARE)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    return tmp_path / "teacher"


@cache
def parsed(line):
    """Parsing takes a while, and many runs share a line."""
    return json.dumps(parse(line.split()).to_json())


@pytest.fixture
def config_of():
    """The config.json of a command line, as it is read back."""

    def config_of(line, seed=None):
        config = json.loads(parsed(line))
        if seed is not None:
            config["run"]["seed"] = seed
        return config

    return config_of


@pytest.fixture
def build_run(config_of):
    """Builds a run of 100 steps whose points are evenly spaced."""

    def build_run(line="", returns=(0.0,), seed=1, env="Breakout", evaluation=None, **columns):
        config = config_of(f"--env {env} --steps 100 {line}", seed)
        values = {"return": returns} | columns
        return Run(
            path=Path(f"{env} {line} {seed}.csv"),
            about={"protocol": "baselines", "commit": "c0ffee", "hardware": "a machine"},
            config=config,
            step=np.linspace(100 / len(returns), 100, len(returns)),
            columns={name: np.array(column, dtype=float) for name, column in values.items()},
            evaluation=evaluation and {"episodes": 7, "trained_steps": 100, **evaluation},
        )

    return build_run


@pytest.fixture
def build_arm(build_run):
    """Builds an arm from the final returns of its runs by game; seeds count from 1."""

    def build_arm(name, line="", **finals):
        return Arm(
            name,
            {
                env: tuple(
                    build_run(line, (final,), seed, env)
                    for seed, final in enumerate(of_game, start=1)
                )
                for env, of_game in finals.items()
            },
        )

    return build_arm


@pytest.fixture
def write_run(config_of):
    """Writes a run's folder as train.py leaves it; `rows` are (step, return), None unmeasured."""

    def write_run(folder, line="--env Breakout --steps 100", rows=((50, 1.0), (100, 3.0)), **extra):
        folder.mkdir(parents=True)
        config = config_of(line)
        config["run"]["run_dir"] = str(folder)
        versions = {
            "commit": "c0ffee",
            "dirty": False,
            "packages": {"torch": "2.13", "envpool": None},
            "cpu": "a machine",
            "cores": 2,
            "gpu": None,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "versions.json").write_text(json.dumps(versions | extra))
        lines = [f"{step},{'' if value is None else value},0.5" for step, value in rows]
        (folder / "metrics.csv").write_text("\n".join(["step,return,entropy", *lines]) + "\n")
        return folder

    return write_run

"""A study whose runs take a second, and folders of runs that look trained."""

import pytest
from safetensors.numpy import save_file

from agents.runtime.checkpoint import CONTENT
from agents.teachers import POLICY_FILE
from configs.study import own_flags, split
from experiments.running import command
from experiments.running.folder import Grid, Study

PINS = {"device": "cpu", "precision": "fp32", "threads": "1"}


@pytest.fixture
def study(tmp_path):
    """Makes a study of Catch from a line of flags."""

    def study(line="--aux none inverse --seed 1 2", steps=100):
        _, axes = split(f"--env Catch --steps {steps} {line}".split(), own_flags())
        return Study(tmp_path / "study", (Grid(axes),), PINS)

    return study


@pytest.fixture
def trained():
    """Makes what is left of a run: its config, checkpoints at steps, and a policy of one step."""

    def trained(folder, checkpoints=(), policy=None):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        for step in checkpoints:
            (folder / "checkpoints" / f"step-{step:012d}.safetensors").touch()
        if policy is not None:
            save_file({}, folder / POLICY_FILE, {CONTENT: f'{{"steps": {policy}}}'})
        return folder

    return trained


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """What `study.py` says of a line about Catch that it refuses: one sentence, and no folder."""
    monkeypatch.chdir(tmp_path)

    def said(line):
        assert command.main(["--env", "Catch", *line.split()]) == command.MISTAKEN
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
        return error

    return said

"""A study that looks trained."""

import pytest
from safetensors.numpy import save_file

from agents.runtime.checkpoint import CONTENT
from agents.teachers import POLICY_FILE
from configs.study import own_flags, split
from experiments.running.folder import Grid, Study


@pytest.fixture
def made_up(tmp_path):
    """Makes the folder of a study from a line of flags, all its runs done with the same log."""

    def made_up(line, log, name="study"):
        study = Study(tmp_path / name, (Grid(split(line.split(), own_flags())[1]),), {})
        study.save()
        for run in study.runs():
            folder = study.folder / run.name
            (folder / "checkpoints").mkdir(parents=True)
            (folder / "checkpoints" / "step-000000000100.safetensors").touch()
            save_file({}, folder / POLICY_FILE, {CONTENT: '{"steps": 100}'})
            (folder / "metrics.csv").write_text("\n".join(log) + "\n")
        return study.folder

    return made_up

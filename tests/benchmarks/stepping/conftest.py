"""A peer that is cheap to have: a package of PufferLib's name, and of the parts that are used."""

import pytest

GRID = """
import sys
from types import SimpleNamespace

import numpy as np

print("What a library prints is no answer.")


class Grid:
    single_action_space = SimpleNamespace(n=5)
    obs_size = 11

    def __init__(self, num_envs, map_size, max_size):
        assert (map_size, max_size) == (15, 15)
        self.observations = np.zeros((num_envs, 121), dtype=np.uint8)
        self.played = 0
        self.is_reset = False

    def reset(self, seed):
        self.is_reset = True

    def step(self, actions):
        assert self.is_reset
        assert actions.shape == (len(self.observations),)
        assert set(actions) <= set(range(5))
        self.played += 1
        if self.played > MOST_STEPS:
            raise RuntimeError("the grid is worn out")
"""


@pytest.fixture
def puffer(tmp_path, monkeypatch):
    """Installs the package for all processes; it serves so many steps."""

    def puffer(most_steps):
        folder = tmp_path / "pufferlib" / "ocean" / "grid"
        folder.mkdir(parents=True)
        for package in (folder, folder.parent):
            (package / "__init__.py").write_text("", "utf-8")
        (folder.parent.parent / "__init__.py").write_text('__version__ = "9.9"\n', "utf-8")
        (folder / "grid.py").write_text(f"MOST_STEPS = {most_steps}\n{GRID}", "utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return puffer

"""A toy of Gymnasium, whose observations, ends and pictures a test chooses."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Toy(gymnasium.Env):
    """Observes `sample`, rewards the action, ends as it is told, is drawn as 10 + last action."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode, sample, space, actions, terminates=99, truncates=99):
        self.render_mode = render_mode
        self.sample, self.observation_space, self.action_space = sample, space, actions
        self.terminates, self.truncates = terminates, truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.picture = np.zeros((2, 3, 3), np.uint8)
        return self.sample, {}

    def step(self, action):
        self.steps += 1
        self.picture = np.full((2, 3, 3), 10 + action, np.uint8)
        ends = self.steps == self.terminates, self.steps == self.truncates
        return self.sample, float(action), *ends, {}

    def render(self):
        return self.picture


def box(shape, dtype):
    return spaces.Box(0, 255 if dtype is np.uint8 else 1.0, shape, dtype)

"""Several environments of one kind as one, so that some play while others are thought about.

With two halves a learner can choose actions for one while the emulators of the other
play ("double-buffered sampling": Petrenko et al. 2020, "Sample Factory",
https://arxiv.org/abs/2006.11751, section 3.2).  The parts keep their order, so
nothing depends on which of them is faster.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from envs.base import Step, VecEnv, check_action, check_action_range


class Pools(VecEnv):
    """K equal parts, environment 0 of the first part being environment 0 of the whole.

    For parts that play on the host, where the actions are moved.
    """

    def __init__(self, parts: Sequence[VecEnv]) -> None:
        first = parts[0]
        assert len({part.spec for part in parts}) == 1, "the parts must be alike"
        self._parts = tuple(parts)
        self._size = first.spec.num_envs
        self.spec = replace(first.spec, num_envs=self._size * len(parts))
        self.device = first.device

    @property
    def parts(self) -> Sequence[VecEnv]:
        """The parts, which can be sent to and received from one by one."""
        return self._parts

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a fresh episode everywhere."""
        return torch.cat([part.reset() for part in self._parts])

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays one agent step in all parts at once."""
        self.send(action)
        return self.receive()

    def send(self, action: Int[Tensor, " B"]) -> None:
        """Lets all parts begin a step."""
        # Checked as a whole: no part may have begun when another refuses.
        check_action(action, self.spec)
        host_action = action.cpu()
        check_action_range(host_action, self.spec)
        for part, share in zip(self._parts, host_action.split(self._size), strict=True):
            part.send(share)

    def receive(self) -> Step:
        """Waits for all parts."""
        steps = [part.receive() for part in self._parts]
        joined = {
            field.name: torch.cat([getattr(step, field.name) for step in steps])
            for field in fields(Step)
            if getattr(steps[0], field.name) is not None
        }
        return Step(**joined)

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws environment `index` of the whole."""
        assert 0 <= index < self.spec.num_envs, f"there is no environment {index}"
        part, inside = divmod(index, self._size)
        return self._parts[part].render(inside)

    def close(self) -> None:
        """Closes all parts."""
        for part in self._parts:
            part.close()

"""Plays in a second thread while the learner learns."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from agents.rollout.collector import Clock, Collector, Played
from agents.runtime.graphs import Capture
from agents.trajectory import Trajectory
from envs.base import VecEnv
from envs.episodes import Episodes


class Pipeline:
    """Plays the next trajectory in a second thread while the learner learns from the last one.

    The policy that plays is then one update behind the one that learns (policy lag 1), which
    the importance ratios of V-trace and PPO correct: Espeholt et al. 2018, "IMPALA"
    (https://arxiv.org/abs/1802.01561, section 3).  The lag is always exactly one, so runs of
    one seed stay alike.
    """

    def __init__(self, collector: Collector, player: nn.Module, learned: nn.Module) -> None:
        """Starts nothing yet.

        Args:
            collector: plays with `player`.
            player: a copy of the agent, or of the agents of several tasks, that only the
                collector uses.
            learned: the agent, whose weights the player takes over between trajectories.
        """
        self.clock = Clock()
        self._collector = collector
        # Without gradient, but the very same memory.
        self._player: list[Tensor] = list(player.state_dict().values())
        self._learned: list[Tensor] = list(learned.state_dict().values())
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="collector")
        self._next: Future[Trajectory] | None = None
        device = collector.env.device
        # Else actions, which the host waits for, would queue behind the update.
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None

    @property
    def env(self) -> VecEnv:
        """The environments that are played."""
        return self._collector.env

    @property
    def tasks(self) -> Sequence[Played]:
        """The tasks, with all episodes that have ended in the trajectory under way."""
        self.settle()
        return self._collector.tasks

    @property
    def episodes(self) -> Episodes:
        """Those of the first task."""
        return self.tasks[0].episodes

    def remember(self, state: Mapping[str, Any]) -> None:
        """Takes the episodes of an earlier `state_dict` over."""
        self._collector.remember(state)

    def restart(self) -> None:
        """Forgets the episodes under way; see `Collector.restart`."""
        self.settle()
        self._collector.restart()

    def collect(self) -> Trajectory:
        """Returns the trajectory that was played in the meantime, and starts the next one.

        The time that the learner waits counts as the environments'.
        """
        start = time.perf_counter()
        if self._next is None:
            self._begin_next()
            assert self._next is not None
        trajectory = self._next.result()
        if self._stream is not None:
            learning = torch.cuda.current_stream(self._collector.env.device)
            learning.wait_stream(self._stream)
            for tensor in vars(trajectory).values():
                if tensor is not None:
                    # Its memory is not given to others before the learner is done with it.
                    tensor.record_stream(learning)
        self._begin_next()
        self.clock.environment += time.perf_counter() - start
        return trajectory

    def _begin_next(self) -> None:
        """Copies the learned weights, while nobody plays, and plays with them."""
        self._follow()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._collector.env.device))
        self._next = self._thread.submit(self._play)

    def _play(self) -> Trajectory:
        with torch.cuda.stream(self._stream):  # nothing without a stream
            return self._collector.collect()

    @torch.no_grad()
    def _follow(self) -> None:
        torch._foreach_copy_(self._player, self._learned)

    def settle(self) -> None:
        """Waits until no trajectory is being played; `collect` still returns the last one."""
        if self._next is not None:
            self._next.result()

    def state_dict(self) -> dict[str, Any]:
        """The collector's state; the trajectory that is being played is not saved."""
        self.settle()
        return self._collector.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict`."""
        self._collector.load_state_dict(state)

    def capture(self, capture: Capture) -> None:
        """From now on acts by CUDA graphs; see `Collector.capture`."""
        self._collector.capture(capture)

    def close(self) -> None:
        """Ends the thread after the trajectory that it is playing."""
        self._thread.shutdown()

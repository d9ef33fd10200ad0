"""Plays the next trajectory while the learner learns from the last one.

The policy that plays is then one update behind the one that learns (policy lag 1), which
the importance ratios of V-trace and PPO correct: Espeholt et al. 2018, "IMPALA"
(https://arxiv.org/abs/1802.01561, section 3).  The lag is always exactly one, so runs of
one seed stay alike.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from agents.networks.actor_critic import ActorCritic
from agents.rollout.collector import Clock, Collector
from agents.trajectory import Trajectory
from envs.base import VecEnv
from envs.episodes import Episodes


class Pipeline:
    """A collector in a thread of its own."""

    def __init__(self, collector: Collector, player: ActorCritic, learned: ActorCritic) -> None:
        """Starts nothing yet.

        Args:
            collector: plays with `player`.
            player: a copy of the agent that only the collector uses.
            learned: the agent, whose weights the player takes over between trajectories.
        """
        self.clock = Clock()
        self._collector = collector
        # Without gradient, but the very same memory.
        self._player: list[Tensor] = list(player.state_dict().values())
        self._learned: list[Tensor] = list(learned.state_dict().values())
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="collector")
        self._next: Future[Trajectory] | None = None

    @property
    def env(self) -> VecEnv:
        """The environments that are played."""
        return self._collector.env

    @property
    def episodes(self) -> Episodes:
        """Finished episodes, those of the trajectory under way included."""
        self._settle()
        return self._collector.episodes

    def collect(self) -> Trajectory:
        """Hands out the trajectory that was played meanwhile, and starts the next one.

        The clock counts as the environments' what the learner had to wait.
        """
        start = time.perf_counter()
        if self._next is None:
            self._follow()
            self._next = self._thread.submit(self._collector.collect)
        trajectory = self._next.result()
        self._follow()
        self._next = self._thread.submit(self._collector.collect)
        self.clock.environment += time.perf_counter() - start
        return trajectory

    @torch.no_grad()
    def _follow(self) -> None:
        torch._foreach_copy_(self._player, self._learned)

    def _settle(self) -> None:
        """Waits until nothing is being played; what was played stays to be handed out."""
        if self._next is not None:
            self._next.result()

    def state_dict(self) -> dict[str, Any]:
        """As the collector's; the trajectory under way is not saved."""
        self._settle()
        return self._collector.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict`."""
        self._collector.load_state_dict(state)

    def close(self) -> None:
        """Ends the thread, once what it plays is over."""
        self._thread.shutdown()

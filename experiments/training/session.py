"""The objects of a run, their state as a checkpoint holds it, and their pictures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from agents.heads import AuxiliaryHead
from agents.learning.learner import Learner
from agents.logs.tensorboard import heatmap
from agents.rollout.collector import Collector, Pipeline
from agents.runtime.checkpoint import save_checkpoint
from agents.runtime.distributed import ALONE, Processes
from agents.teachers import POLICY_FILE, PolicyCard, export_policy
from agents.trajectory import Trajectory
from configs.training import RunOptions, TrainConfig
from envs import EnvSpec, VecEnv
from experiments.training.run_folder import CHECKPOINTS

COSINES = "cosines"
"""The name of the matrix for all losses, drawn where there are several auxiliaries."""


class Gallery:
    """Draws the pictures of a run: the cosines among its losses, and the pictures of its heads."""

    def __init__(self) -> None:
        self._latest: Trajectory | None = None

    def keep(self, learner: Learner, trajectory: Trajectory) -> None:
        """Keeps the latest trajectory if a head draws; otherwise its memory is freed."""
        if any(map(_draws, learner.heads.children())):
            self._latest = trajectory

    @torch.no_grad()
    def draw(self, learner: Learner) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
        """Draws the pictures there are, by name; waits for the device."""
        pictures = {}
        cosines = learner.gating.cosines.drain()
        if cosines is not None:
            names = ["main", *learner.heads]
            pictures[COSINES] = heatmap(names, cosines.float().cpu().numpy())
        if self._latest is not None:
            for name, head in learner.heads.items():
                assert isinstance(head, AuxiliaryHead)
                picture = head.picture(learner.agent, self._latest)
                if picture is not None:
                    pictures[f"{name}/picture"] = picture.cpu().numpy()
        return pictures


def _draws(head: nn.Module) -> bool:
    """Whether a head overrides `picture`."""
    assert isinstance(head, AuxiliaryHead)
    return type(head).picture is not AuxiliaryHead.picture


@dataclass(frozen=True)
class Session:
    """The objects that `build` makes; they hold everything that changes during a run."""

    env: VecEnv
    collector: Collector | Pipeline
    learner: Learner
    card: PolicyCard
    processes: Processes = ALONE
    threads: int = 1
    """Threads of PyTorch on the CPU while learning."""
    gallery: Gallery = field(default_factory=Gallery)

    @property
    def held(self) -> str:
        """A sentence on the memory that heads keep between updates, if it is a MiB or more."""
        heads = self.learner.heads.children()
        held = sum(head.held_bytes for head in heads if isinstance(head, AuxiliaryHead))
        mebibytes = held / 2**20
        return f"Heads hold {mebibytes:,.0f} MiB (replay, copies)." if mebibytes >= 1 else ""

    @property
    def ungated(self) -> str:
        """A sentence on the heads that the gate cannot reach, if there are any."""
        names = ", ".join(sorted(self.learner.gating.extension.unreached))
        return f"Ungated, since the gate cannot reach them: {names}." if names else ""

    def update(self) -> dict[str, Tensor]:
        """Collects a trajectory and learns from it; returns scalars for the log."""
        # While environments occupy the cores, a second thread of PyTorch would wait for a core
        # at every operation; learning has all cores.
        torch.set_num_threads(1)
        trajectory = self.collector.collect()
        torch.set_num_threads(self.threads)
        self.gallery.keep(self.learner, trajectory)
        return self.learner.update(trajectory)

    def pictures(self) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
        """Draws the pictures of the learner, by name."""
        return self.gallery.draw(self.learner)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint and the policy into a run's folder.

        Raises:
            OSError: a full disk; what was saved before is still whole.
        """
        steps = self.learner.steps
        save_checkpoint(folder / CHECKPOINTS, steps, self._state())
        export_policy(folder / POLICY_FILE, self.learner.agent, replace(self.card, steps=steps))

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "device": self.env.device.type,
            "processes": self.processes.size,
            "collector": self.collector.state_dict(),
            # A pipeline plays on meanwhile, and other processes play elsewhere: neither is saved.
            "env": self.env.snapshot() if self._is_plain else None,
        }

    @property
    def _is_plain(self) -> bool:
        return isinstance(self.collector, Collector) and self.processes.size == 1

    def restore(self, state: Mapping[str, Any]) -> str:
        """Continues from a checkpoint's state; returns a sentence on how exactly."""
        self.learner.load_state_dict(state["learner"])
        resumed = f"Resumed at step {self.learner.steps:,}"
        device = self.env.device.type
        if state["processes"] != self.processes.size:
            return (
                f"{resumed}; {state['processes']} processes were at work and now "
                f"{self.processes.size}: new episodes start."
            )
        if state["device"] != device:
            self.collector.episodes.load_state_dict(state["collector"]["episodes"])
            self.collector.episodes.restart()
            return (
                f"{resumed}; random numbers of {state['device']} cannot go on on {device}: new "
                "episodes start."
            )
        if state["env"] is not None and isinstance(self.collector, Collector) and self._is_plain:
            self.collector.load_state_dict(state["collector"])
            self.collector.go_on_from(self.env.restore(state["env"]))
            return f"{resumed}, exactly."
        self.collector.episodes.load_state_dict(state["collector"]["episodes"])
        self.collector.episodes.restart()
        return f"{resumed}; {self._why_not_exactly()}: new episodes start."

    def _why_not_exactly(self) -> str:
        if self.processes.size > 1:
            return "what each process was playing is not saved"
        if not isinstance(self.collector, Collector):
            return "what was being played meanwhile is not saved"
        return f"{self.env.spec.name} cannot be restored in mid-episode"

    @property
    def ruined(self) -> bool:
        """Whether the latest update was skipped, or most of all; waits for the device."""
        learner = self.learner
        return bool(learner.skipped_in_a_row > 0) or bool(2 * learner.skipped > learner.updates)

    def skips(self, run: RunOptions) -> tuple[str, str]:
        """Says which updates were skipped and why, and what helps; waits for the device."""
        learner, name = self.learner, self.env.spec.name
        count = f"the last {run.max_skipped} updates"
        if learner.steps >= run.steps:
            count = f"{int(learner.skipped):,} of {learner.updates:,} updates"
        if learner.unsound > 0:
            return (
                f"{count} were skipped because observations or rewards of {name} were not finite",
                "The environment has to be put right: no option of train.py helps.",
            )
        cure = "Try a smaller --learning-rate."
        return f"{count} were skipped because the loss was not finite", cure

    def close(self) -> None:
        """Ends threads and environments."""
        if isinstance(self.collector, Pipeline):
            self.collector.close()
        self.env.close()


def policy_card(config: TrainConfig, spec: EnvSpec) -> PolicyCard:
    """The card of this run's exported policy."""
    return PolicyCard(
        env=spec.name,
        action_set=spec.action_set,
        num_actions=spec.num_actions,
        observation_shape=spec.observation_shape,
        observation_dtype=str(spec.observation_dtype),
        protocol=spec.protocol,
        torso=config.choice.torso,
        torso_options=asdict(config.torso),
        steps=0,
        env_options=asdict(config.env),
        core=config.choice.core,
        core_options=asdict(config.core),
        num_symbols=spec.num_symbols,
        world_set=spec.world_set,
        plugins=config.plugins,
    )

"""The objects of a run, and their state as a checkpoint holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.checkpoint import save_checkpoint
from agents.collect import Collector
from agents.learner import Learner
from agents.teacher import POLICY_FILE, PolicyCard, export_policy
from configs.rundir import CHECKPOINTS
from envs import VecEnv


@dataclass(frozen=True)
class Session:
    """What `configs.build` makes: everything that changes during a run is in here."""

    env: VecEnv
    collector: Collector
    learner: Learner
    card: PolicyCard

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
            "acting": self.collector.generator.get_state(),
            "episodes": self.collector.episodes.state_dict(),
            "env": self.env.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> str:
        """Goes on from a checkpoint's state; returns a sentence on how exactly."""
        self.learner.load_state_dict(state["learner"])
        self.collector.episodes.load_state_dict(state["episodes"])
        resumed = f"Resumed at step {self.learner.steps:,}"
        device = self.env.device.type
        same_device = state["device"] == device
        if same_device:
            self.collector.generator.set_state(state["acting"])
            if state["env"] is not None:
                self.collector.go_on_from(self.env.restore(state["env"]))
                return f"{resumed}, exactly."
        self.collector.episodes.restart()
        if same_device:
            name = self.env.spec.name
            return f"{resumed}; {name} cannot be restored in mid-episode: new episodes start."
        return (
            f"{resumed}; random numbers of {state['device']} cannot go on on {device}: new "
            "episodes start."
        )

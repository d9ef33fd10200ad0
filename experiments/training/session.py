"""The objects of a run, their state as a checkpoint holds it, and their pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from agents.heads import AuxiliaryHead
from agents.learning.learner import Learner
from agents.logs.tensorboard import heatmap
from agents.networks.actor_critic import NotFiniteError
from agents.rollout.collector import Collector
from agents.rollout.pipeline import Pipeline
from agents.runtime.checkpoint import Loaded, load_checkpoint, save_checkpoint
from agents.runtime.distributed import ALONE, Processes
from agents.teachers import (
    POLICY_FILE,
    ChangedTeacherError,
    PolicyCard,
    export_policy,
)
from agents.trajectory import Trajectory
from configs.errors import UsageError
from configs.training import PRACTICAL, TrainConfig
from envs import EnvSpec, EpisodeSummary, VecEnv
from experiments.training.run_folder import CHECKPOINTS, flat, has_policy

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
            names = ["main", *learner.names]
            pictures[COSINES] = heatmap(names, cosines.float().cpu().numpy())
        if self._latest is not None:
            for task in learner.tasks:
                seen = task.part(self._latest)
                for name, head in task.heads.items():
                    picture = head.picture(task.agent, seen)
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
    cards: Sequence[PolicyCard]
    """Of the policy of each task."""
    processes: Processes = ALONE
    threads: int = 1
    """Threads of PyTorch on the CPU while learning."""
    gallery: Gallery = field(default_factory=Gallery)
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What makes the run this one, for its checkpoints: see `identity`."""
    graphs: str = ""
    """A sentence on CUDA graphs, where there is anything to say."""

    @property
    def card(self) -> PolicyCard:
        """Of the main task's policy."""
        return self.cards[0]

    @property
    def captured(self) -> bool:
        """Whether updates run as CUDA graphs."""
        return self.learner.captured

    @property
    def held(self) -> str:
        """A sentence on the memory that heads keep between updates, if it is a MiB or more."""
        heads = self.learner.heads.children()
        held = sum(head.held_bytes for head in heads if isinstance(head, AuxiliaryHead))
        mebibytes = held / 2**20
        return f"Heads hold {mebibytes:,.0f} MiB (replay, copies)." if mebibytes >= 1 else ""

    @property
    def remarks(self) -> str:
        """What heads found out before training."""
        said = []
        for name, head in self.learner.heads.named_children():
            if isinstance(head, AuxiliaryHead) and head.remark:
                task, colon, _ = name.rpartition(":")
                said.append(f"{task}{colon} {head.remark}".strip())
        return " ".join(said)

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
            NotFiniteError: the agent's weights are NaN or infinite; nothing is written.
            OSError: a full disk; what was saved before is still whole.
        """
        learner, steps = self.learner, self.learner.steps
        learner.check_finite()
        save_checkpoint(folder / CHECKPOINTS, steps, self._state())
        # The main task's last: where that is whole, all are.
        for task, card in reversed(list(zip(learner.tasks, self.cards, strict=True))):
            path = folder / of_task(POLICY_FILE, task.name)
            export_policy(path, task.agent, replace(card, steps=steps))

    def _state(self) -> dict[str, Any]:
        return {
            "config": dict(self.identity),
            "learner": self.learner.state_dict(),
            "device": self.env.device.type,
            "processes": self.processes.size,
            "collector": self.collector.state_dict(),
            # A pipeline plays on meanwhile, and other processes play elsewhere: neither is saved.
            "env": self.env.snapshot() if self._is_plain else None,
        }

    def drain(self) -> tuple[EpisodeSummary, dict[str, float]]:
        """The episodes of the main task since the last call, and numbers on those of the others."""
        played = self.collector.tasks
        first, *others = [task.episodes.drain(self.processes.sum) for task in played]
        numbers: dict[str, float] = {}
        for task, summary in zip(self.learner.tasks[1:], others, strict=True):
            numbers |= {
                f"{task.name}/return": summary.mean_return,
                f"{task.name}/length": summary.mean_length,
                f"{task.name}/episodes": float(summary.finished),
            }
        return first, numbers

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
            self._start_new_episodes(state)
            return (
                f"{resumed}; random numbers of {state['device']} cannot go on on {device}: new "
                "episodes start."
            )
        if state["env"] is not None and isinstance(self.collector, Collector) and self._is_plain:
            self.collector.load_state_dict(state["collector"])
            self.collector.go_on_from(self.env.restore(state["env"]))
            return f"{resumed}, exactly."
        self._start_new_episodes(state)
        return f"{resumed}; {self._why_not_exactly()}: new episodes start."

    def _start_new_episodes(self, state: Mapping[str, Any]) -> None:
        """Starts episodes anew; the process whose finished ones were saved remembers them."""
        if self.processes.leads:  # else the first line of the log would count them several times
            self.collector.remember(state["collector"])
        self.collector.restart()

    def _why_not_exactly(self) -> str:
        if self.processes.size > 1:
            return "what each process was playing is not saved"
        if not isinstance(self.collector, Collector):
            return "what was being played meanwhile is not saved"
        return f"{self.env.spec.name} cannot be restored in mid-episode"

    def close(self) -> None:
        """Ends threads and environments."""
        if isinstance(self.collector, Pipeline):
            self.collector.close()
        self.env.close()


def policy_cards(config: TrainConfig, env: VecEnv) -> list[PolicyCard]:
    """The cards of this run's exported policies, one for each task, the main one first.

    Args:
        config: of the run.
        env: of all tasks.
    """
    if config.tasks is None:
        return [_card(config, env.spec, config.env)]
    # The core hears the actions of all tasks.
    heard = env.spec.num_actions
    return [
        _card(config, own.spec, task.config(), heard)
        for task, own in zip(config.task_names, env.tasks, strict=True)
    ]


def _card(config: TrainConfig, spec: EnvSpec, options: Any, heard: int = 0) -> PolicyCard:
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
        env_options=asdict(options),
        core=config.choice.core,
        core_options=asdict(config.core),
        core_actions=heard if heard != spec.num_actions else 0,
        num_symbols=spec.num_symbols,
        world_set=spec.world_set,
        plugins=config.plugins,
    )


def labels(config: TrainConfig) -> list[str]:
    """What tells apart the files of a run's tasks: empty for the main one."""
    return ["", *(task.label for task in config.task_names[1:])]


def of_task(file: str, label: str) -> str:
    """The name of a task's file, such as `policy-MsPacman.safetensors`; the main one's is plain.

    Args:
        file: of the main task.
        label: of another task; empty for the main one.
    """
    stem, dot, suffix = file.partition(".")
    return f"{stem}-{label}{dot}{suffix}" if label else file


def label_of(file: str, name: str) -> str | None:
    """The label in a name that `of_task` has made; None for any other name.

    Args:
        file: of the main task.
        name: of the file of a task, the main one or another.
    """
    stem, dot, suffix = file.partition(".")
    label = name.removesuffix(f"{dot}{suffix}").removeprefix(stem).removeprefix("-")
    return label if of_task(file, label) == name else None


def identity(config: TrainConfig) -> dict[str, Any]:
    """All options that shape the numbers of a run, by their dotted names.

    Every checkpoint has them, so that one of another run is told from this run's.
    """
    practical = {f"run.{name}" for name in PRACTICAL}
    practical |= {f"env.{field.name}" for field in fields(config.env) if not field.compare}
    content = flat(json.loads(json.dumps(config.to_json())))
    return {name: content[name] for name in content if name not in {*practical, "plugins"}}


def differences(saved: Mapping[str, Any], config: TrainConfig) -> str:
    """Says in which options a checkpoint's run differs from a config; empty if in none.

    Options that only one of the two versions of the program knows are not compared.

    Args:
        saved: the `identity` in the checkpoint; empty in those of earlier versions.
        config: of the run that is to go on.
    """
    own = identity(config)
    return ", ".join(
        f"{name} {saved[name]} instead of {own[name]}"
        for name in saved
        if name in own and saved[name] != own[name]
    )


def load_latest(folder: Path, config: TrainConfig) -> Loaded:
    """Reads the newest checkpoint from which a run can go on.

    Args:
        folder: of the run.
        config: with the steps that it is to have.

    Raises:
        UsageError: there is none, it is another run's, or the run is done.
    """
    try:
        loaded = load_checkpoint(folder / CHECKPOINTS)
    except ValueError as error:
        raise UsageError(f"--resume {folder}: {error}") from error
    other = differences(loaded.state.get("config", {}), config)
    if other:
        raise UsageError(
            f"--resume {folder}: {loaded.path.name} is another run's ({other} in config.json): put "
            "this run's checkpoint and config.json back, or start a new run."
        )
    # A run that was killed between its last checkpoint and its policy still has to write that.
    files = [folder / of_task(POLICY_FILE, label) for label in labels(config)]
    if loaded.step >= config.run.steps and all(has_policy(path, loaded.step) for path in files):
        raise UsageError(
            f"--resume {folder}: the run has done its {loaded.step:,} steps; give it more with "
            "--steps."
        )
    return loaded


def restore(session: Session, loaded: Loaded, folder: Path) -> str:
    """Continues a session from a run's checkpoint; returns a sentence on how exactly.

    Args:
        session: built from the run's config.
        loaded: the checkpoint.
        folder: of the run, for errors.

    Raises:
        UsageError: the two do not fit together.
    """
    try:
        resumed = session.restore(loaded.state)
        session.learner.check_finite()
    except NotFiniteError as error:
        raise UsageError(
            f"--resume {folder}: {error} in {loaded.path.name}: remove it, to go on from an "
            "earlier one, or start a new run."
        ) from error
    except ChangedTeacherError as error:
        raise UsageError(
            f"--resume {folder}: {error}; put that one back, or start a new run."
        ) from error
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise UsageError(
            f"--resume {folder}: {loaded.path.name} does not fit this run's config.json, so it is "
            "another run's or another version's; start a new run."
        ) from error
    return resumed

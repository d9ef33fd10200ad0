"""Vectorized environments joined into one: parts of one kind, or the tasks of one learner."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from envs.base import EnvSpec, Step, VecEnv, check_action, check_action_range


class JoinedVecEnv(VecEnv):
    """Several vectorized environments, one after another in the batch."""

    def __init__(self, members: Sequence[VecEnv], spec: EnvSpec) -> None:
        """Joins the environments.

        Args:
            members: in their order.
            spec: of the whole.
        """
        self.members = tuple(members)
        self.spec = spec
        self.device = members[0].device
        self._sizes = [member.spec.num_envs for member in members]

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a fresh episode everywhere."""
        return torch.cat([member.reset() for member in self.members])

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays one agent step in all members at once."""
        self.send(action)
        return self.receive()

    def receive(self) -> Step:
        """Waits for all members."""
        steps = [member.receive() for member in self.members]
        states = [step.state for step in steps]
        known = [state for state in states if state is not None]
        joined = {
            item.name: torch.cat([getattr(step, item.name) for step in steps])
            for item in fields(Step)
            if item.name != "state"
        }
        return Step(**joined, state=torch.cat(known) if len(known) == len(states) else None)

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws environment `index` of the whole."""
        assert 0 <= index < self.spec.num_envs, f"there is no environment {index}"
        for member, size in zip(self.members, self._sizes, strict=True):
            if index < size:
                return member.render(index)
            index -= size
        raise AssertionError("the sizes add up to the whole")

    def close(self) -> None:
        """Closes all members."""
        for member in self.members:
            member.close()


class VecEnvParts(JoinedVecEnv):
    """Several vectorized environments of one kind, joined into one that can be stepped in parts.

    With two parts the agent chooses actions for one while the emulators of the other
    play: double-buffered sampling (Petrenko et al. 2020, "Sample Factory",
    https://arxiv.org/abs/2006.11751, section 3.2).  The parts have equal size and keep
    their order, so environment 0 of the whole is environment 0 of the first part and no
    result depends on which part is faster.  Actions are moved to the host, where the
    parts play.
    """

    def __init__(self, parts: Sequence[VecEnv]) -> None:
        """Joins `parts`, which must all have the same spec, the number of environments included."""
        first = parts[0].spec
        assert len({part.spec for part in parts}) == 1, "the parts must be alike"
        super().__init__(parts, replace(first, num_envs=first.num_envs * len(parts)))

    @property
    def parts(self) -> Sequence[VecEnv]:
        """The parts, which can be sent to and received from one by one."""
        return self.members

    @property
    def action_names(self) -> tuple[str, ...]:
        """Those of the parts, which are alike."""
        return self.members[0].action_names

    def send(self, action: Int[Tensor, " B"]) -> None:
        """Lets all parts begin a step."""
        # Checked as a whole: no part may have begun when another refuses.
        check_action(action, self.spec)
        host_action = action.cpu()
        check_action_range(host_action, self.spec)
        for part, share in zip(self.members, host_action.split(self._sizes), strict=True):
            part.send(share)


class TaskVecEnv(JoinedVecEnv):
    """The environments of several tasks, one task after another.

    They show observations of one shape, but may have other actions, rewards and protocols: what the
    whole's spec says of these is the first task's, except that it has the most actions of any.
    """

    def __init__(self, name: str, tasks: Sequence[VecEnv]) -> None:
        """Joins the tasks' environments.

        Args:
            name: of the whole.
            tasks: whose environments.

        Raises:
            ValueError: their observations differ.
        """
        first = tasks[0].spec
        for other in (task.spec for task in tasks[1:]):
            if _shown(other) != _shown(first):
                raise ValueError(
                    f"{first.name} shows {_described(first)}, but {other.name} "
                    f"{_described(other)}: choose tasks whose observations are alike."
                )
        protocols = dict.fromkeys(task.spec.protocol for task in tasks)
        spec = replace(
            first,
            name=name,
            num_envs=sum(task.spec.num_envs for task in tasks),
            num_actions=max(task.spec.num_actions for task in tasks),
            action_set="+".join(task.spec.action_set for task in tasks),
            protocol="+".join(protocols),
            note=" ".join(dict.fromkeys(task.spec.note for task in tasks if task.spec.note)),
        )
        super().__init__(tasks, spec)

    @property
    def tasks(self) -> Sequence[VecEnv]:
        """The environments of each task."""
        return self.members

    @property
    def parts(self) -> Sequence[VecEnv]:
        """The parts of all tasks: while one plays, the agent chooses for the next."""
        return tuple(part for task in self.members for part in task.parts)

    def send(self, action: Int[Tensor, " B"]) -> None:
        """Lets all tasks begin a step."""
        check_action(action, self.spec)
        shares = action.split(self._sizes)
        if action.device.type == "cpu":  # no task may have begun when another refuses
            for task, share in zip(self.members, shares, strict=True):
                check_action_range(share, task.spec)
        for task, share in zip(self.members, shares, strict=True):
            task.send(share)

    @property
    def state(self) -> Int[Tensor, " B"] | None:
        """Flat index of each gridworld's cell; 0 in environments without cells."""
        states = [task.state for task in self.members]
        if all(state is None for state in states):
            return None
        none = [torch.zeros(size, dtype=torch.int64, device=self.device) for size in self._sizes]
        pairs = zip(states, none, strict=True)
        return torch.cat([zeros if state is None else state for state, zeros in pairs])

    def snapshot(self) -> dict[str, Tensor] | None:
        """The state of every task, or None where one cannot be saved."""
        snapshots = [task.snapshot() for task in self.members]
        found: dict[str, Tensor] = {}
        for index, snapshot in enumerate(snapshots):
            if snapshot is None:
                return None
            found |= {f"{index}.{name}": value for name, value in snapshot.items()}
        return found

    def restore(self, snapshot: Mapping[str, Tensor]) -> Shaped[Tensor, " B *shape"]:
        """Continues exactly as the environments that gave `snapshot` would."""
        parts: list[dict[str, Tensor]] = [{} for _ in self.members]
        for key, value in snapshot.items():
            index, _, name = key.partition(".")
            parts[int(index)][name] = value
        pairs = zip(self.members, parts, strict=True)
        return torch.cat([task.restore(part) for task, part in pairs])


def _shown(spec: EnvSpec) -> tuple[object, ...]:
    return (
        *(spec.observation_shape, spec.observation_dtype),
        *(spec.num_symbols, spec.num_frames),
    )


def _described(spec: EnvSpec) -> str:
    shape = " x ".join(map(str, spec.observation_shape))
    symbols = f" of {spec.num_symbols} symbols" if spec.num_symbols else ""
    return f"{str(spec.observation_dtype).removeprefix('torch.')} {shape}{symbols}"

"""Replay: the last trajectories, kept on the learner's device for losses that look back.

As in UNREAL (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397, section 3.4), whose
replay holds the latest experience only, so that it stays close to the present policy.
"""

import math
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from agents.trajectory import Trajectory
from envs.base import EnvSpec

_TIMELESS = ("core_state", "episode_start")
"""Fields of a trajectory in which the batch leads."""
_SAVED_NAMES = {"episode_start": "begins"}
"""Fields whose name in checkpoints is that of earlier versions."""
_FIELD_NAMES = {saved: field for field, saved in _SAVED_NAMES.items()}
_BYTES_PER_STEP = 8 + 4 + 3 + 4
"""Action, reward, three flags, log-probability."""
_USUAL_STEPS, _USUAL_TRAJECTORIES = 4096, 16
"""Unless told otherwise whichever is more (miyosuda/unreal: 2,000 steps a worker, 100 unrolls)."""
_USUAL_BYTES = 128 * 2**20
"""Unless told otherwise no more than that, if it is two trajectories at least."""


class Replay(nn.Module):
    """A ring of whole trajectories; observations are kept as they came, bytes as bytes.

    It is part of the checkpoint, so a resumed run replays what the first one would have.
    Trajectories of another shape (left by another number of processes, say) are dropped.
    """

    def __init__(self, size: int, device: torch.device, nbytes: int = 0) -> None:
        """Holds nothing yet.

        Args:
            size: how many trajectories.
            device: where they are kept.
            nbytes: memory that it will take, if that is known.
        """
        super().__init__()
        assert size >= 1
        self.size = size
        self.device = device
        self._expected = nbytes
        self._added = 0
        self._storage: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """How many trajectories it holds."""
        return min(self._added, self.size)

    @property
    def nbytes(self) -> int:
        """Memory that it takes; before the first trajectory, that it will take."""
        return sum(stored.nbytes for stored in self._storage.values()) or self._expected

    @torch.no_grad()
    def add(self, trajectory: Trajectory) -> None:
        """Copies a trajectory into the place of the oldest one."""
        # Cells of a gridworld and values of the past are no concern of a loss.
        kept = _tensors(replace(trajectory, state=None, value=None))
        if {name: tensor.shape for name, tensor in kept.items()} != {
            name: stored.shape[1:] for name, stored in self._storage.items()
        }:
            # Zeros: steps of a place that is still empty are not valid.
            self._storage = {
                name: tensor.new_zeros((self.size, *tensor.shape), device=self.device)
                for name, tensor in kept.items()
            }
            self._added = 0
        for name, tensor in kept.items():
            self._storage[name][self._added % self.size].copy_(tensor)
        self._added += 1

    @property
    def observation(self) -> Shaped[Tensor, "places N B *shape"]:
        """Of all places, empty ones included; so with the following."""
        return self._storage["observation"]

    @property
    def reward(self) -> Float[Tensor, "places T B"]:
        """After the transform that the environment's spec asks for."""
        return self._storage["reward"]

    @property
    def valid(self) -> Bool[Tensor, "places T B"]:
        """False at autoreset steps, and in empty places."""
        return self._storage["valid"]

    def columns(
        self, place: Int[Tensor, " columns"], environment: Int[Tensor, " columns"]
    ) -> Trajectory:
        """Puts single environments of several trajectories side by side."""
        chosen = {
            name: stored[place, environment]
            if name in _TIMELESS
            else stored.transpose(1, 2)[place, environment].transpose(0, 1)
            for name, stored in self._storage.items()
        }
        return Trajectory(**chosen)

    def get_extra_state(self) -> dict[str, Any]:
        """All it holds, for checkpoints."""
        storage = {_SAVED_NAMES.get(name, name): kept for name, kept in self._storage.items()}
        return {"added": self._added, "storage": storage}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes over a copy of what another one held."""
        self._added = state["added"]
        self._storage = {
            _FIELD_NAMES.get(name, name): stored.to(self.device, copy=True)
            for name, stored in state["storage"].items()
        }


def _tensors(trajectory: Trajectory) -> dict[str, Tensor]:
    return {
        field.name: tensor
        for field in fields(trajectory)
        if (tensor := getattr(trajectory, field.name)) is not None
    }


def draw(mask: Bool[Tensor, " *shape"], lot: Float[Tensor, " draws"]) -> Int[Tensor, " draws"]:
    """Draws entries of a mask that are true, all equally likely, with repetition.

    Without a host synchronisation, so it cannot fail: where none is true, it returns entries
    that are not.

    Args:
        mask: of any shape.
        lot: random numbers from 0 up to 1.

    Returns:
        Places in the flattened mask.
    """
    rank = mask.flatten().cumsum(0)
    # In float32 a lot next to 1 would become the count itself, were there very many.
    wanted = (lot.double() * rank[-1]).long() + 1
    return torch.searchsorted(rank, wanted).clamp(max=len(rank) - 1)


def make_replay(
    flag: str, steps: int | None, spec: EnvSpec, unroll_length: int, device: torch.device
) -> Replay:
    """Makes a replay of the last `steps` agent steps, rounded up to whole trajectories.

    Args:
        flag: which option asked for so many, for the error.
        steps: of all environments together; none: 4,096, or sixteen trajectories if that is
            more, but no more than 128 MiB.
        spec: of the environments.
        unroll_length: T.
        device: where trajectories are kept.

    Raises:
        ValueError: there is not enough memory.
    """
    each = trajectory_bytes(spec, unroll_length)
    if steps is None:
        usual = max(_USUAL_TRAJECTORIES, _trajectories(_USUAL_STEPS, spec, unroll_length))
        # Of one trajectory alone, the present one, nothing could be remembered.
        size = max(2, min(usual, _USUAL_BYTES // each))
    else:
        size = _trajectories(steps, spec, unroll_length)
    needed = size * each
    free = free_bytes(device)
    if free is not None and needed > free:
        asked = size * unroll_length * spec.num_envs if steps is None else steps
        raise ValueError(
            f"{flag} {asked} needs {needed / 2**30:.1f} GiB, but "
            f"{free / 2**30:.1f} GiB are free on {device}: use fewer."
        )
    return Replay(size, device, needed)


def _trajectories(steps: int, spec: EnvSpec, unroll_length: int) -> int:
    return math.ceil(steps / (unroll_length * spec.num_envs))


def trajectory_bytes(spec: EnvSpec, unroll_length: int) -> int:
    """Memory of one trajectory, but for the state of a recurrent core."""
    observation = math.prod(spec.observation_shape) * spec.observation_dtype.itemsize
    steps = unroll_length * _BYTES_PER_STEP
    return spec.num_envs * ((unroll_length + 1) * observation + steps)


def free_bytes(device: torch.device) -> int | None:
    """Memory that could be taken now; none where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        stated = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(stated.split()[1]) * 1024
    except (OSError, StopIteration):
        pass
    try:  # no Linux: of all memory, since what is free is not said
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None

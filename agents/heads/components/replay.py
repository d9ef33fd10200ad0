"""Replay: the last trajectories, kept on the learner's device for losses on past data.

As in UNREAL (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397, section 3.4), whose
replay holds only the latest experience, so that it stays close to the current policy.
"""

import math
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from agents.trajectory import Trajectory
from envs.base import EnvSpec, free_bytes
from gridworld.options import OptionError

_TIMELESS = ("core_state", "episode_start")
"""Fields of a trajectory without a time axis."""
_SAVED_NAMES = {"episode_start": "begins"}
"""Fields whose name in checkpoints is that of earlier versions."""
_FIELD_NAMES = {saved: field for field, saved in _SAVED_NAMES.items()}
_BYTES_PER_STEP = 8 + 4 + 3 + 4
"""Action, reward, three flags, log-probability."""
_USUAL_STEPS, _USUAL_TRAJECTORIES = 4096, 16
"""Default size, whichever is more (miyosuda/unreal: 2,000 steps a worker, 100 unrolls)."""
_USUAL_BYTES = 128 * 2**20
"""Limit of the default size, unless it is less than two trajectories."""


class Replay(nn.Module):
    """A ring of whole trajectories; observations keep their dtype, bytes as bytes.

    It is part of the checkpoint, so a resumed run replays what the first one would have.
    Trajectories of another shape (from a run with another number of processes, say) are dropped.
    """

    def __init__(self, size: int, device: torch.device, nbytes: int = 0) -> None:
        """Starts empty.

        Args:
            size: number of trajectories.
            device: where they are kept.
            nbytes: memory that it will take, if known.
        """
        super().__init__()
        assert size >= 1
        self.size = size
        self.device = device
        self._expected = nbytes
        self._added = 0
        self._storage: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Returns the number of trajectories it holds."""
        return min(self._added, self.size)

    @property
    def nbytes(self) -> int:
        """Memory that it takes; before the first trajectory, memory that it will take."""
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
        """Observations in all places, empty ones included, as for the properties below."""
        return self._storage["observation"]

    @property
    def reward(self) -> Float[Tensor, "places T B"]:
        """Rewards after the transform of the environment's spec."""
        return self._storage["reward"]

    @property
    def valid(self) -> Bool[Tensor, "places T B"]:
        """False at autoreset steps, and in empty places."""
        return self._storage["valid"]

    def columns(
        self, place: Int[Tensor, " columns"], environment: Int[Tensor, " columns"]
    ) -> Trajectory:
        """Gathers single environments of several trajectories into one trajectory."""
        chosen = {
            name: stored[place, environment]
            if name in _TIMELESS
            else stored.transpose(1, 2)[place, environment].transpose(0, 1)
            for name, stored in self._storage.items()
        }
        return Trajectory(**chosen)

    def get_extra_state(self) -> dict[str, Any]:
        """Returns everything it holds, for checkpoints."""
        storage = {_SAVED_NAMES.get(name, name): kept for name, kept in self._storage.items()}
        return {"added": self._added, "storage": storage}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Copies what another replay held."""
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
    """Draws true entries of a mask, all equally likely, with repetition.

    It does not synchronise with the host, so it cannot raise: if no entry is true, it returns
    entries that are false.

    Args:
        mask: of any shape.
        lot: random numbers from 0 up to 1.

    Returns:
        Indices into the flattened mask.
    """
    rank = mask.flatten().cumsum(0)
    # In float32 a lot next to 1 would become the count itself, were there very many.
    wanted = (lot.double() * rank[-1]).long() + 1
    return torch.searchsorted(rank, wanted).clamp(max=len(rank) - 1)


def make_replay(
    steps: int | None, spec: EnvSpec, unroll_length: int, device: torch.device
) -> Replay:
    """Makes a replay of the last `steps` agent steps, rounded up to whole trajectories.

    Args:
        steps: the head's option `replay_steps`, of all environments together; none: 4,096, or
            sixteen trajectories if that is more, but no more than 128 MiB.
        spec: of the environments.
        unroll_length: T.
        device: where trajectories are kept.

    Raises:
        ValueError: there is not enough memory.
    """
    each = trajectory_bytes(spec, unroll_length)
    if steps is None:
        usual = max(_USUAL_TRAJECTORIES, _trajectories(_USUAL_STEPS, spec, unroll_length))
        # With room for one trajectory alone, the current one, no past would be kept.
        size = max(2, min(usual, _USUAL_BYTES // each))
    else:
        size = _trajectories(steps, spec, unroll_length)
    needed = size * each
    free = free_bytes(device)
    if free is not None and needed > free:
        asked = size * unroll_length * spec.num_envs if steps is None else steps
        raise OptionError(
            "replay_steps",
            f"{asked} needs {needed / 2**30:.1f} GiB, but "
            f"{free / 2**30:.1f} GiB are free on {device}: use fewer.",
        )
    return Replay(size, device, needed)


def _trajectories(steps: int, spec: EnvSpec, unroll_length: int) -> int:
    return math.ceil(steps / (unroll_length * spec.num_envs))


def trajectory_bytes(spec: EnvSpec, unroll_length: int) -> int:
    """Returns the memory of one trajectory, without the state of a recurrent core."""
    observation = math.prod(spec.observation_shape) * spec.observation_dtype.itemsize
    steps = unroll_length * _BYTES_PER_STEP
    return spec.num_envs * ((unroll_length + 1) * observation + steps)

"""The contract between environments and learners: `VecEnv`, `Step`, `EnvSpec`.

Everything is a tensor of B environments on the environment's device.  At time t
the learner holds `observation[t]` and sends `action[t]`; the `Step` that comes
back holds `observation[t + 1]` and the reward, ends and validity of step t.

Autoreset is *next-step*.  An environment that ended at step t ignores the action
of step t + 1 and answers with the first observation of its next episode:

| call | action | observation returned | reward | terminated / truncated | valid |
|---|---|---|---|---|---|
| `reset()` | - | first of the episode | - | - | - |
| `step` in mid-episode | used | next | earned | False / False | True |
| `step` that ends it | used | the true last one | earned | True / False or False / True | True |
| the `step` after that | **ignored** | first of the next episode | 0 | False / False | **False** |
| the `step` after that | used | next | earned | ... | True |

So step t is invalid exactly if step t - 1 terminated or truncated, and an
invalid step belongs in no loss.  A truncated step bootstraps from the value of
`observation[t + 1]`, which is the true last observation, never a reset one.
"""

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from gridworld.options import OptionError

RewardTransform = Literal["none", "sign"]


@dataclass(frozen=True)
class EnvSpec:
    """What a learner must know of an environment before the first step."""

    name: str
    """As typed on the command line, e.g. `Breakout`."""
    num_envs: int
    """B, the environments stepped together."""
    observation_shape: tuple[int, ...]
    """Shape of one observation, without time and batch: `(4, 84, 84)` for Atari."""
    observation_dtype: torch.dtype
    """`torch.uint8` marks pixels in 0..255, or symbols (see `num_symbols`); everything else is
    used as it is."""
    num_actions: int
    """A; actions are int64 in 0..A-1."""
    action_set: str
    """Names the meaning of the actions; a teacher and its student must agree on it."""
    reward_transform: RewardTransform = "none"
    """What the learner does to raw rewards: nothing, or their sign (Mnih et al. 2015)."""
    protocol: str = "raw"
    """Printed with every score, since scores of different protocols do not compare."""
    steps_per_second: float = 15.0
    """How fast a film of an episode looks true, in agent steps."""
    num_symbols: int = 0
    """How many kinds of symbols 0, 1, ... an observation is made of; 0: it holds amounts."""
    num_frames: int = 1
    """How many frames the channels of an image hold, the newest last; 1: they show one moment."""
    world_set: str = ""
    """Names the worlds, where there are many: a teacher learnt in others is refused."""
    note: str = ""
    """A sentence for the user on what is seen of an observation, where not all of it is."""


@dataclass(frozen=True)
class Step:
    """One step of B environments; see the module's table for who is what when."""

    observation: Shaped[Tensor, " B *shape"]
    """`observation[t + 1]`."""
    reward: Float[Tensor, " B"]
    """Raw reward of step t; the learner transforms it as the spec says."""
    terminated: Bool[Tensor, " B"]
    """No future after step t: the bootstrap is zero (a lost life too, if the protocol says so)."""
    truncated: Bool[Tensor, " B"]
    """Cut by a time limit: bootstraps from `observation[t + 1]`."""
    valid: Bool[Tensor, " B"]
    """False where the action was discarded by an autoreset."""
    ended: Bool[Tensor, " B"]
    """The true end of an episode (game over or time limit): returns are counted up to here."""
    state: Int[Tensor, " B"] | None = None
    """Flat index of a gridworld's cell at t + 1: for teachers and solvers, never the agent."""

    def of(self, environments: slice) -> "Step":
        """The answer of some environments alone."""
        answers = ((item.name, getattr(self, item.name)) for item in fields(self))
        return Step(**{name: each[environments] for name, each in answers if each is not None})


class VecEnv(ABC):
    """B environments stepped together, next-step autoreset (see the module's table)."""

    spec: EnvSpec
    device: torch.device
    _sent: Step | None = None

    @abstractmethod
    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a fresh episode everywhere and returns `observation[0]`."""

    @abstractmethod
    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays one agent step.

        Raises:
            ValueError: if `action` is not an int64 tensor of B, or (where it is on
                the host anyway) holds an action outside 0..A-1.
        """

    @property
    def parts(self) -> "Sequence[VecEnv]":
        """Environments that can be stepped one after another while the others play."""
        return (self,)

    @property
    def tasks(self) -> "Sequence[VecEnv]":
        """Environments of one kind each, whose neighbours are the next ones (`envs.tasks`)."""
        return (self,)

    def send(self, action: Int[Tensor, " B"]) -> None:
        """Begins a step, which may go on while the caller does something else.

        Raises:
            ValueError: as `step` does.
        """
        assert self._sent is None, "receive() the last step before sending the next"
        self._sent = self.step(action)

    def receive(self) -> Step:
        """Waits for the step that `send` began."""
        step, self._sent = self._sent, None
        assert step is not None, "send() an action before receiving"
        return step

    @property
    def state(self) -> Int[Tensor, " B"] | None:
        """Flat index of each gridworld's cell, now; none where there are no cells."""
        return None

    @property
    def optimum(self) -> Float[Tensor, " B"] | None:
        """What the best policy is expected to score in each present episode, if it is known.

        Of an episode that has ended it is still that one's, until the autoreset.
        """
        return None

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the teachers that the environment has itself, the usual one first."""
        return ()

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each action does, in capitals, as LEFT or UPLEFT; empty where that is not known."""
        return ()

    def teacher_logits(self, name: str) -> Float[Tensor, "states A"]:
        """Logits of one of the `teachers`, by `state`.

        Raises:
            ValueError: its worlds do not allow of this teacher.
        """
        raise NotImplementedError(f"{self.spec.name} has no teacher {name}.")

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws environment `index` as it is now, in RGB, on the host.

        Raises:
            NotImplementedError: it was not built to be drawn.
        """
        raise NotImplementedError(
            f"{self.spec.name} cannot be drawn: build it with render=True to have pictures."
        )

    @abstractmethod
    def close(self) -> None:
        """Frees threads and memory; the environment cannot be used afterwards."""

    def snapshot(self) -> dict[str, Tensor] | None:
        """The full state for an exact resume, or None where it cannot be saved (Atari)."""
        return None

    def restore(self, snapshot: Mapping[str, Tensor]) -> Shaped[Tensor, " B *shape"]:
        """Continues from `snapshot` and returns the current observation.

        Raises:
            NotImplementedError: the environment's state cannot be saved (`snapshot` returns None).
        """
        raise NotImplementedError(f"{self.spec.name} cannot be restored")


class PictureError(ValueError):
    """An environment cannot be drawn, or its picture is no picture."""


class EnvironmentFailedError(RuntimeError):
    """The code of an environment raised something; `__cause__` is what."""


class guarding:  # noqa: N801, reads as a statement
    """Says whose error it is when an environment's own code fails; `with guarding(name):`.

    A class, since a generator would cost every step of an environment some microseconds.
    """

    def __init__(self, name: str, *passes: type[Exception]) -> None:
        """Guards one call.

        Args:
            name: of the environment.
            passes: errors that are passed on as they are.
        """
        self._name, self._passes = name, passes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception | SystemExit) or is_out_of_memory(error):
            return
        if isinstance(error, (EnvironmentFailedError, *self._passes)):
            return
        text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": .")
        raise EnvironmentFailedError(f"the environment {self._name} failed ({text})") from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory, of whatever device, is too small."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # PyTorch has no class for it on the CPU.
    signs = (
        *("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory"),
        *("size calculation overflowed", "multiplication overflow"),
    )
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Moves what an environment computed on the host to the agent's device.

    To a GPU through pinned memory, which PyTorch keeps until the copy is done: nothing waits.
    """
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=device.type == "cuda")


def check_room(count: int, each: int, device: torch.device, option: str = "num_envs") -> None:
    """Refuses more environments than fit into memory; called before any of them is made.

    Args:
        count: of environments.
        each: bytes of one of them, at the very least.
        device: where they are.
        option: that says how many.

    Raises:
        OptionError: they need more memory than is free.
    """
    least, free = count * each, free_bytes(device)
    if free is not None and least > free:
        cure = "use fewer" if each <= free else "make their observations smaller"
        raise OptionError(
            option,
            f"{count} needs {least / 2**30:,.1f} GiB or more, but {free / 2**30:.1f} GiB are "
            f"free on {device}: {cure}.",
        )


def free_bytes(device: torch.device) -> int | None:
    """Returns the memory that is free now; none where the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        stated = next(line for line in lines if line.startswith("MemAvailable:"))
        return min([int(stated.split()[1]) * 1024, *_left_by_container()])
    except (OSError, StopIteration):
        pass
    try:  # no Linux: of all memory, since what is free is not said
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _left_by_container() -> list[int]:
    """What a container's limit leaves of its memory; nothing where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        most, used = (
            int((folder / name).read_text("utf-8")) for name in ("memory.max", "memory.current")
        )
        # Files that the system keeps in memory are given up when it is needed.
        cached = re.search(
            r"^inactive_file (\d+)$", (folder / "memory.stat").read_text("utf-8"), re.M
        )
    except (OSError, ValueError):  # "max" is no limit
        return []
    return [most - used + (int(cached[1]) if cached else 0)]


def check_action(action: Tensor, spec: EnvSpec) -> None:
    """Refuses an action of the wrong dtype or length: native code would accept it silently.

    Raises:
        ValueError: the action is not int64 of shape [B].
    """
    if action.dtype != torch.int64 or action.shape != (spec.num_envs,):
        raise ValueError(
            f"{spec.name} takes int64 actions of shape ({spec.num_envs},), "
            f"not {action.dtype} of shape {tuple(action.shape)}."
        )


def check_action_range(action: Tensor, spec: EnvSpec) -> None:
    """Refuses actions outside 0..A-1.

    Only for actions that are on the host, since it reads their values.

    Raises:
        ValueError: an action is outside the range.
    """
    if bool(((action < 0) | (action >= spec.num_actions)).any()):
        raise ValueError(
            f"{spec.name} has the actions 0 to {spec.num_actions - 1}; "
            f"got {int(action.min())} to {int(action.max())}."
        )

"""Several processes that make one update together, each with environments of its own.

Losses are means over the valid steps of *all* processes.  Each process computes its
share of them; gradients of shares add up to the gradient of the mean, before any gate
sees them: gates are not linear, so the replicas would drift apart otherwise.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Bool, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that train together; one alone communicates nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks to the terminal."""
        return self.rank == 0

    def sum(self, tensor: Shaped[Tensor, " *shape"]) -> Shaped[Tensor, " *shape"]:
        """Adds up a tensor of all processes; carries no gradient."""
        if self.size == 1:
            return tensor.detach()
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Adds up tensors of all processes, in one message; they carry no gradient."""
        if self.size == 1 or not tensors:
            return [tensor.detach() for tensor in tensors]
        return _unpacked(self.sum(_packed(tensors)), tensors)

    def gather(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Brings together what all processes have, in one message.

        Args:
            tensors: of the same shapes in all processes.

        Returns:
            For each tensor those of all processes, stacked in the order of their ranks, without
            gradient.
        """
        if self.size == 1 or not tensors:
            return [tensor.detach().unsqueeze(0) for tensor in tensors]
        mine = _packed(tensors)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        by_process = [_unpacked(each, tensors) for each in found]
        return [torch.stack(several) for several in zip(*by_process, strict=True)]

    def combine(
        self, added: Sequence[Tensor], gathered: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Adds up some tensors of all processes and gathers others, in one message.

        Args:
            added: as of `sums`.
            gathered: as of `gather`.
        """
        if self.size == 1:
            return self.sums(added), self.gather(gathered)
        found = self.gather([*added, *gathered])
        return [each.sum(0) for each in found[: len(added)]], found[len(added) :]

    def add_up(self, parameters: Iterable[Tensor]) -> None:
        """Turns `.grad` of this process's share of a loss into that of the whole loss."""
        if self.size == 1:
            return
        gradients = []
        for parameter in parameters:
            # A head may have nothing to learn here and something elsewhere.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for gradient, total in zip(gradients, self.sums(gradients), strict=True):
            gradient.copy_(total)


ALONE = Processes()


def _packed(tensors: Sequence[Tensor]) -> Shaped[Tensor, " n"]:
    """One vector of all numbers, for one message."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _unpacked(packed: Shaped[Tensor, " n"], like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that a vector was packed from, or others of their shapes and types."""
    parts = packed.split([tensor.numel() for tensor in like])
    return [part.view_as(each).to(each.dtype) for part, each in zip(parts, like, strict=True)]


def will_lead() -> bool:
    """Whether this process leads, known before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


class LateFlag:
    """A truth value of the device that the host reads one update later, so that it waits for
    nothing: what the device was computing then is done by the time of the next trajectory.
    """

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def put(self, flag: Bool[Tensor, ""]) -> None:
        """Begins to copy the value to the host."""
        if flag.device.type != "cuda":
            self._value = flag
            return
        if self._copied is None:
            self._value = torch.zeros((), dtype=torch.bool, pin_memory=True)
            self._copied = torch.cuda.Event()
        assert self._value is not None
        self._value.copy_(flag, non_blocking=True)
        self._copied.record()

    def read(self) -> bool:
        """The value that was put last; False before the first."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._value is not None and bool(self._value)


class Agreement:
    """A flag that any process may raise, and that all of them see at the same later update.

    Nobody waits for it: the flags of one update are read at the next one.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        """Begins with no flag raised.

        Args:
            processes: that agree.
            device: of the messages.
        """
        self._processes, self._device = processes, device
        self._late = LateFlag()

    def any(self, flag: bool) -> bool:
        """Raises this process's flag or not; alone, the answer is the flag itself.

        Returns:
            Whether any process had raised its flag at the update before.
        """
        if self._processes.size == 1:
            return flag
        known = self._late.read()
        self._late.put(self._raised(flag))
        return known

    def settle(self, flag: bool) -> bool:
        """Whether any process raises this flag now; unlike `any`, waits until all have answered."""
        return bool(self._raised(flag))

    def _raised(self, flag: bool) -> Bool[Tensor, ""]:
        raised = torch.full((), float(flag), device=self._device)
        return self._processes.sum(raised) > 0


def launched(variable: str, usual: int, least: int) -> int:
    """Reads a number that torchrun puts into the environment of each process.

    Args:
        variable: its name.
        usual: where it is not set.
        least: the smallest number that makes sense.

    Raises:
        ValueError: it is no such number.
    """
    text = os.environ.get(variable)
    if text is None:
        return usual
    if not text.isdecimal() or int(text) < least:
        raise ValueError(
            f"the environment variable {variable} is '{text}', not a number of {least} or more: "
            "unset it, or start the run by torchrun"
        )
    return int(text)


def join(device: torch.device) -> Processes:
    """Joins the processes that torchrun started, or stays alone where it did not.

    NCCL connects GPUs, gloo everything else.

    Raises:
        ValueError: what the environment says of them makes no sense, or they cannot be joined.
    """
    size = launched("WORLD_SIZE", usual=1, least=1)
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            text = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"WORLD_SIZE is {size}, but the other processes cannot be joined ({text}): start "
                "the run by torchrun, or unset WORLD_SIZE"
            ) from error
    return Processes(dist.get_rank(), size)


def leave() -> None:
    """Leaves the process group, if this process is in one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()

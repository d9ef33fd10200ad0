"""Several processes that make one update together, each with environments of its own.

Losses are means over the valid steps of *all* processes.  Each process computes its
share of them; gradients of shares add up to the gradient of the mean, before any gate
sees them: gates are not linear, so the replicas would drift apart otherwise.
"""

import os
from collections.abc import Iterable
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

    def sum_(self, tensors: list[Tensor]) -> None:
        """Adds up tensors of all processes in place, in one message."""
        if self.size == 1 or not tensors:
            return
        total = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(total)
        for tensor, part in zip(
            tensors, total.split([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(part.view_as(tensor))

    def add_up(self, parameters: Iterable[Tensor]) -> None:
        """Turns `.grad` of this process's share of a loss into that of the whole loss."""
        parameters = list(parameters)
        if self.size > 1:
            # A head may have nothing to learn here and something elsewhere.
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self.sum_([parameter.grad for parameter in parameters if parameter.grad is not None])

    def share(
        self, value: Shaped[Tensor, " *shape"], valid: Bool[Tensor, " *shape"]
    ) -> Shaped[Tensor, ""]:
        """This process's part of the mean over the valid entries of all; 0 where there are none.

        What stands at invalid entries is replaced, not multiplied by zero: it may be NaN.
        """
        kept = torch.where(valid, value, torch.zeros_like(value))
        return kept.sum() / self.sum(valid.sum()).clamp(min=1)

    def mean(
        self, value: Shaped[Tensor, " *shape"], valid: Bool[Tensor, " *shape"]
    ) -> Shaped[Tensor, ""]:
        """The mean over the valid entries of all processes, without gradient."""
        return self.sum(self.share(value, valid))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is true in any process; waits for all of them.

        Args:
            flag: of this process.
            device: of the message.
        """
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)


ALONE = Processes()


def will_lead() -> bool:
    """Whether this process leads, known before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


def join(device: torch.device) -> Processes:
    """Joins the processes that torchrun started, or stays alone where it did not.

    NCCL connects GPUs, gloo everything else.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), size)


def leave() -> None:
    """Leaves the process group, if this process is in one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()

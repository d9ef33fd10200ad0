"""Gates in three kinds of training loops: accumulated micro-batches, several processes, autocast.

    python examples/loops.py

Each function does one update of a small network with a main and an auxiliary loss, and says how
its gradient compares with that of the plain loop.  A gate is not linear, so gradients are summed
over micro-batches, or averaged over processes, *before* it weighs them: that is what `reduce` of
`gated_backward` is for.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import gated_backward, make

PROCESSES = 2
BATCH = 32

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs, the labels of the main loss, the targets of the auxiliary one."""


class Network(nn.Module):
    """A trunk that both losses train, and a head for each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(16, 3), nn.Linear(16, 2)])

    def forward(self, inputs: Float[Tensor, "B 8"]) -> tuple[Tensor, Tensor]:
        """Returns logits of the labels and the auxiliary's answers."""
        features = self.trunk(inputs)
        return self.heads[0](features), self.heads[1](features)


def draw() -> Batch:
    """A batch of random data."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(BATCH, 8, generator=generator)
    labels = torch.randint(3, (BATCH,), generator=generator)
    return inputs, labels, torch.randn(BATCH, 2, generator=generator)


def part(batch: Batch, number: int, of: int) -> Batch:
    """One of several equal parts of a batch."""
    inputs, labels, targets = (each.chunk(of)[number] for each in batch)
    return inputs, labels, targets


def losses(network: nn.Module, batch: Batch) -> list[Tensor]:
    """The means over a batch, the main loss first."""
    logits, answers = network(batch[0])
    return [F.cross_entropy(logits, batch[1]), F.mse_loss(answers, batch[2])]


def gradient(network: nn.Module) -> Float[Tensor, " _"]:
    """All of `.grad`."""
    found = [parameter.grad for parameter in network.parameters()]
    return torch.cat([each.flatten() for each in found if each is not None])


def plain() -> Float[Tensor, " _"]:
    """The loop that the others are compared with."""
    network, batch = Network(), draw()
    shared, private = [*network.trunk.parameters()], [*network.heads.parameters()]
    gated_backward(losses(network, batch), make("cosine"), shared, private)
    return gradient(network)


def accumulated(parts: int = 4) -> Float[Tensor, " _"]:
    """One update from several micro-batches, for batches that do not fit into memory.

    Args:
        parts: number of micro-batches.
    """
    network, batch = Network(), draw()
    shared, private = [*network.trunk.parameters()], [*network.heads.parameters()]
    rows = torch.zeros(2, sum(parameter.numel() for parameter in shared))
    values = torch.zeros(2)
    for number in range(parts - 1):
        each = [loss / parts for loss in losses(network, part(batch, number, parts))]
        # The heads get each loss's own gradient; the trunk's gradients wait, one row per loss.
        torch.autograd.backward(each, inputs=private, retain_graph=True)
        for row, loss in zip(rows, each, strict=True):
            found = torch.autograd.grad(loss, shared, retain_graph=True)
            row += torch.cat([piece.flatten() for piece in found])
        values += torch.stack(each).detach()
    last = [loss / parts for loss in losses(network, part(batch, parts - 1, parts))]
    gated_backward(
        last,
        make("cosine"),
        shared,
        private,
        reduce=lambda own, own_values: (rows + own, values + own_values),
    )
    return gradient(network)


def _process(rank: int, folder: str) -> None:
    """What each process does; the first one saves its gradient."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    # Copies the first process's weights to all. Its own reduction would come after the gate.
    network = DistributedDataParallel(Network())
    shared = [*network.module.trunk.parameters()]
    private = [*network.module.heads.parameters()]

    def average(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        for tensor in (rows, values):
            dist.all_reduce(tensor.div_(PROCESSES))
        return rows, values

    with network.no_sync():
        own = losses(network, part(draw(), rank, PROCESSES))
        gated_backward(own, make("cosine"), shared, private, reduce=average)
    for parameter in private:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad.div_(PROCESSES))
    if rank == 0:
        torch.save(gradient(network), f"{folder}/gradient.pt")
    dist.destroy_process_group()


def distributed() -> Float[Tensor, " _"]:
    """One update of two processes, each of which sees half of the batch."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_process, (folder,), PROCESSES)
        found: Tensor = torch.load(f"{folder}/gradient.pt")
        return found


def autocast() -> Float[Tensor, " _"]:
    """One update whose losses are computed in bfloat16: weights and gradients stay in float32."""
    network, batch = Network(), draw()
    shared, private = [*network.trunk.parameters()], [*network.heads.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        both = losses(network, batch)
    # As `backward`, it comes after the context. No GradScaler: some gates depend on the scale.
    gated_backward(both, make("cosine"), shared, private)
    return gradient(network)


def main(arguments: Sequence[str]) -> int:
    """Does all updates and compares them; returns the exit code."""
    if arguments:
        print(__doc__ if arguments[0] in ("-h", "--help") else "loops.py takes no options.")
        return 0 if arguments[0] in ("-h", "--help") else 2
    wanted = plain()
    for name, found in (
        ("four micro-batches", accumulated()),
        (f"{PROCESSES} processes", distributed()),
        ("autocast to bfloat16", autocast()),
    ):
        apart = float((found - wanted).norm() / wanted.norm())
        print(f"{name}: the gradient differs from the plain loop's by {apart:.1e} of its length")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

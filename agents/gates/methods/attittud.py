"""ATTITTUD: auxiliary task update decomposition.

Dery, Dauphin, Grangier: "Auxiliary Task Update Decomposition: The Good, the Bad and the
Neutral", ICLR 2021, Algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from agents.gates.algebra import orthonormalised
from agents.gates.base import Gate, GatingContext, recall
from agents.gates.gramian import Gramian


@dataclass(frozen=True)
class AttittudConfig:
    """Options of `attittud`."""

    eta: tuple[float, float, float] = (1.0, 1.0, 0.0)
    """Weights of the part outside the main task's subspace, of the part that helps and of the part
    that hurts (negative: reversed).  The paper searched 1 1 0, 1 1 -1, 1 0 0 and 1 0 -1."""
    rank: int = 5
    """Dimensions of the subspace; each takes a backward pass.  The paper's k."""
    refresh: int = 10
    """Judgements between two estimates of the subspace."""
    fresh: bool = False
    """Take the signs from the main gradient of another batch, one more sample row, as in the
    authors' code, and not from the current main gradient."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> "Attittud":
        """Builds the gate."""
        return Attittud(self.eta, self.rank, self.refresh, self.fresh)


class Attittud(Gate):
    """Splits each auxiliary gradient by the subspace that per-sample main gradients span.

        h = h_out + h_plus + h_minus,    v_1 .. v_k orthonormal in the subspace
        h_plus  = sum of <v_b, h> v_b where <v_b, g> <v_b, h> >= 0,   h_minus where < 0
        d = g + sum_k (eta_1 h_out + eta_2 h_plus + eta_3 h_minus)

    `rank` random combinations of per-sample main gradients span the subspace.  They are the rows
    `samples`, given at the first judgement and at every `refresh`-th one after it.  With `fresh`
    the last sample row is the main gradient of another batch, g in the signs above.  Where the
    main gradient vanishes, everything in the subspace counts as helping.

    If g lies in the subspace, eta_3 = 0 and the other two are at least 0, then to first order the
    main loss falls at least as fast as alone, and what is added for an auxiliary raises, by
    itself, neither its loss nor the main one.  With `rank` below the number of samples, g lies in
    the subspace only approximately: no strict guarantee.

    Departures from the paper: a Gram-Schmidt basis of random combinations, as in the authors'
    code, and not a randomised singular value decomposition, as in the text; the main gradient's
    weight, eta_prim, is 1 (the auxiliary's coefficient says the same).

    Args:
        eta: weights of the outside, helping and hurting parts.
        rank: dimensions of the subspace.
        refresh: judgements between two estimates of it.
        fresh: whether the signs come from the main gradient of another batch.
    """

    basis: Tensor

    def __init__(
        self,
        eta: tuple[float, float, float] = (1.0, 1.0, 0.0),
        rank: int = 5,
        refresh: int = 10,
        fresh: bool = False,
    ) -> None:
        super().__init__()
        if len(eta) != 3 or not all(isfinite(each) for each in eta):
            raise ValueError(f"eta must be three finite numbers, not {eta}.")
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}.")
        if refresh < 1:
            raise ValueError(f"refresh must be at least 1, not {refresh}.")
        self.eta = eta
        self.rank = rank
        self.fresh = fresh
        self.num_references = self.sample_rows = rank + int(fresh)
        self.sample_every = refresh
        self.register_buffer("basis", torch.empty(0))

    def references(
        self,
        rows: Float[Tensor, "*batch L P"],
        groups: Sequence[int],
        samples: Float[Tensor, "*batch K P"] | None = None,
    ) -> Float[Tensor, "*batch R P"]:
        """Returns the basis, group by group; recomputes it if there are samples.

        Raises:
            ValueError: if there have been no samples yet, or there are not `sample_rows` of them.
        """
        if samples is None:
            if self.basis.numel() == 0:
                raise ValueError(
                    f"Attittud needs {self.sample_rows} rows of samples at its first judgement: "
                    "give samples=."
                )
            shape = (*rows.shape[:-2], self.sample_rows, rows.shape[-1])
            self.basis = recall(self.basis, rows.new_empty(()).expand(shape))
            return self.basis
        if samples.shape[-2] != self.sample_rows:
            raise ValueError(
                f"Attittud needs {self.sample_rows} rows of samples, not {samples.shape[-2]}."
            )
        samples = samples.to(rows)
        blocks = samples[..., : self.rank, :].split(list(groups), dim=-1)
        basis = torch.cat([orthonormalised(block) for block in blocks], dim=-1)
        basis = torch.cat([basis, samples[..., self.rank :, :]], dim=-2)
        if self.sample_every == 1:
            # Nothing to remember: at features, the next minibatch may have more or fewer columns.
            return basis
        self.basis = recall(self.basis, samples)
        self.basis.copy_(basis)
        return self.basis

    def check_context(self, context: GatingContext) -> None:
        """Refuses signs from a second batch, which a training run does not play."""
        super().check_context(context)
        if self.fresh:
            raise ValueError("attittud.fresh needs a second batch, which is not played: drop it.")

    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Adds the contributions of all auxiliaries to the main gradient."""
        shares = self.shares(gramian, torch.ones_like(gramian.norm))
        main = torch.zeros_like(gramian.norm)
        main[..., 0] = 1.0
        return main + shares.sum(-2)

    def shares(
        self, gramian: Gramian, weights: Float[Tensor, "*batch G M"]
    ) -> Float[Tensor, "*batch G K M"]:
        """Returns, per auxiliary, its own row and its change within the subspace."""
        outside, helping, hurting = self.eta
        num_losses = gramian.norm.shape[-1] - self.num_references
        inside = slice(num_losses, num_losses + self.rank)
        main = num_losses + self.rank if self.fresh else 0
        norm = gramian.norm
        along = gramian.cosine[..., 1:num_losses, inside]  # [*batch, G, K, rank]
        agreement = along * gramian.cosine[..., main, inside].unsqueeze(-2)
        helps = agreement >= 0
        change = torch.where(helps, (helping - outside) * along, (hurting - outside) * along)
        length = norm[..., inside].unsqueeze(-2)
        change = torch.where(length == 0, 0.0, change * norm[..., 1:num_losses, None] / length)
        before, after = num_losses, int(self.fresh)
        own = torch.ones_like(weights)
        own[..., 1:num_losses] = outside
        return super().shares(gramian, own) + F.pad(change, (before, after))

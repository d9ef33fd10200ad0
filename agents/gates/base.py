"""`Gate`: one weight for each gradient; and `Judgement`, what comes out.

A gate is split in two.  `forward` maps the Gramian of the gradients to one weight per
gradient: linear algebra on an M x M matrix, the only method that most gates write.
`judge` does the rest, once for all gates: it zeroes what is not finite, forms the
Gramian, drops what has vanished and combines the rows.  (The split is TorchJD's
`Weighting`, https://github.com/TorchJD/torchjd.)

Row 0 is the gradient of the main loss; rows 1 to L-1 are those of the auxiliary losses;
any R reference rows that a gate keeps (a moving average, a basis) follow.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.gates.gramian import Gramian, finite_rows, form


def recall(memory: Tensor, like: Tensor, fill: float = 0.0) -> Tensor:
    """Returns a gate's memory, made at its first use, on the device and in the dtype of `like`.

    It is the same tensor from then on, unless it was moved or narrowed together with the model
    around it, so that it can be written in place: a captured graph goes on reading the same
    memory.

    Args:
        memory: a buffer; empty before its first use.
        like: has the shape that is needed.
        fill: what every entry starts as.

    Raises:
        ValueError: if there is memory of another shape.
    """
    if memory.numel() == 0:
        return torch.full_like(like, fill)
    if memory.shape != like.shape:
        raise ValueError(
            f"the gate remembers numbers of shape {list(memory.shape)}, not {list(like.shape)}: "
            "give every set of losses and parameters a gate of its own."
        )
    if memory.device != like.device or memory.dtype != like.dtype:
        return memory.to(like.device, like.dtype)
    return memory


@dataclass(frozen=True)
class Judgement:
    """What a gate made of the gradients of one update."""

    direction: Float[Tensor, "*batch P"]
    """`weights @ rows`, group by group, in float32 or better: the gradient to descend."""
    weights: Float[Tensor, "*batch G M"]
    """Of the L losses and the R references; exactly 0 for a dropped row."""
    gramian: Gramian
    """Cosines and norms of the rows; NaN where nothing was measured (see `gated_backward`)."""
    finite: Bool[Tensor, "*batch L"] | None = None
    """Which gradients were finite throughout; the others were dropped."""
    rows: Float[Tensor, "*batch L P"] | None = None
    """The gradients of the losses as they were given; None where none were taken one by one."""
    rest: Float[Tensor, "*batch P"] | None = None
    """The gradient of the part of the main loss that was not compared (`gated_backward`)."""

    def __repr__(self) -> str:
        """Says in one line how large the problem was and which weights came out."""
        weights = [[float(f"{weight:.4g}") for weight in group] for group in self._groups()]
        shown = weights[0] if len(weights) == 1 else weights[:3]
        more = "" if len(weights) <= 3 else f" and {len(weights) - 3} groups more"
        return f"Judgement({self.direction.shape[-1]:,} parameters, weights {shown}{more})"

    def _groups(self) -> list[list[float]]:
        groups: list[list[float]] = self.weights.detach().flatten(0, -2).tolist()
        return groups


@dataclass(frozen=True)
class GatingContext:
    """How a gate is about to be used in a training run, for `Gate.check_context`."""

    scope: str = "shared"
    """What is weighed together: all shared parameters, each layer or each tensor."""
    every: int = 1
    """Updates from one judgement to the next; the weights are reused in between."""
    main: str = "all"
    """Which part of the main loss auxiliaries are compared with."""
    metric: str = "plain"
    """In which metric they are compared."""
    at: str = "parameters"
    """Whether gradients over shared parameters are compared, or over shared features."""
    environments: int | None = None
    """Environments in one update of this process; None if there are none."""
    compiled: bool = False
    """Whether the network is compiled, which rules out second derivatives."""
    has_policy_loss: bool = True
    """Whether there is a main loss to compare with."""

    def require_plain(self, whose: str, needs: str) -> None:
        """Refuses another scope, main part, metric or place than the default.

        Args:
            whose: method it is that refuses.
            needs: what it needs instead.

        Raises:
            ValueError: it begins with the option.
        """
        for option, value, plain in (
            ("scope", self.scope, "shared"),
            ("main", self.main, "all"),
            ("metric", self.metric, "plain"),
            ("at", self.at, "parameters"),
        ):
            if value != plain:
                raise ValueError(
                    f"{option} {value} is not for {whose}, which needs {needs}: drop it."
                )


class Gate(nn.Module, ABC):
    """Decides how much of each auxiliary gradient may reach the shared parameters.

    Conventions that hold for every gate:

    - A row with any NaN or infinity counts as a row of zeros, in all its groups.
    - An auxiliary or reference row that is zero is dropped: its weight is exactly 0 and its
      cosines are 0.  A zero main row keeps the weight that the gate gives it, so that weights
      which are reused for a later gradient do not drop the main loss.
    - A main loss without auxiliaries keeps its gradient.
    - Scaling the main row and every auxiliary row by c scales the direction by c, unless the
      method itself has another rule and says so.
    - Any leading batch is judged entry by entry.
    - No value decides what code runs, so gates survive `torch.compile` and CUDA graphs.

    Memory is a buffer that starts empty.  It takes its shape at the first judgement or from
    the checkpoint that is loaded, and stays float32 or wider.
    """

    num_references: int = 0
    """R, the rows of its own that the gate compares with, e.g. a moving average."""
    sample_rows: int = 0
    """How many gradients of random combinations of per-sample main losses it asks for."""
    sample_every: int = 1
    """It asks for them at every n-th judgement, beginning with the first."""
    slices: int = 0
    """S, into how many slices the data is cut whose gradients it asks for, each of every loss."""
    needs_losses: bool = False
    """Whether `forward` reads the values of the losses."""
    scale_free: bool = False
    """Whether weights are multipliers of each row alone, which may be reused between judgements."""
    one_pass: bool = False
    """Whether all weights are always 1, so that one backward pass of the summed loss suffices."""
    needs_network: bool = False
    """Whether its method has another half, outside the gate, that only a network can have."""

    def check(self, num_losses: int) -> None:
        """Refuses a number of losses that the gate cannot judge.

        `judge` asks, and whoever builds a gate may ask beforehand.

        Raises:
            ValueError: it is refused.
        """

    def check_context(self, context: GatingContext) -> None:
        """Refuses a use that the gate cannot serve or that would do nothing.

        Whoever builds a training run asks once, before it starts. A gate with further needs
        overrides it and calls this one.

        Args:
            context: how the gate is about to be used.

        Raises:
            ValueError: it begins with the option that does not fit, such as `every 4`.
        """
        name = type(self).__name__
        for option, value, plain in (
            ("main", context.main, "all"),
            ("metric", context.metric, "plain"),
            ("at", context.at, "parameters"),
        ):
            if value != plain and self.one_pass:
                raise ValueError(
                    f"{option} {value} has no effect on {name}, which compares nothing: drop it, "
                    "or let the gate measure."
                )
        if context.main != "all" and not context.has_policy_loss:
            raise ValueError(f"main {context.main} needs a policy loss, which is missing: drop it.")
        if context.every > 1 and not self.scale_free:
            raise ValueError(
                f"every {context.every} reuses weights, but those of {name} depend on the sizes of "
                "the gradients: weigh at every update, or take the gate cosine."
            )
        if context.every > 1 and context.scope != "shared":
            raise ValueError(
                f"every {context.every} needs one weight for all shared parameters: use the scope "
                "shared."
            )
        if context.environments is not None and self.slices > context.environments:
            raise ValueError(
                f"{name.lower()}.slices {self.slices} cuts the environments of an update, of which "
                f"there are {context.environments}: use fewer slices, fewer minibatches or more "
                "environments."
            )

    def references(
        self,
        rows: Float[Tensor, "*batch L P"],
        groups: Sequence[int],
        samples: Float[Tensor, "*batch K P"] | None = None,
    ) -> Float[Tensor, "*batch R P"]:
        """Returns the R rows to compare with and advances the memory behind them.

        The only method that sees P columns.  `judge` calls it exactly once, first.

        Args:
            rows: gradients of the L losses; rows that were not finite are zero.
            groups: lengths of the consecutive blocks of columns judged apart.
            samples: gradients of random combinations of per-sample main losses.
        """
        return rows[..., :0, :]

    @abstractmethod
    def forward(
        self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None
    ) -> Float[Tensor, "*batch G M"]:
        """Weighs the rows.

        Args:
            gramian: of the L losses, then of the R references.
            losses: their values, for gates that declare `needs_losses`.
        """

    def advance(self, gramian: Gramian, losses: Float[Tensor, "*batch L"] | None = None) -> None:
        """Advances the memory that rests on the Gramian or on the losses.

        `judge` calls it exactly once, last: what it learns here counts from the next judgement.

        Args:
            gramian: of the L losses, then of the R references.
            losses: their values, for gates that declare `needs_losses`.
        """

    def shares(
        self, gramian: Gramian, weights: Float[Tensor, "*batch G M"]
    ) -> Float[Tensor, "*batch G K M"]:
        """Tells the weights over all rows by which each of the K = L-1 auxiliaries enters.

        Here: its own row, at its own weight.  A gate that also takes something away from
        other rows for the sake of an auxiliary says so by overriding this.
        """
        return torch.diag_embed(weights)[..., 1 : weights.shape[-1] - self.num_references, :]

    def notes(self, gramian: Gramian) -> Mapping[str, Float[Tensor, "*batch K"]]:
        """Returns numbers of the gate's own to log of each auxiliary, over all groups together."""
        return {}

    @final
    @torch.no_grad()
    def judge(
        self,
        rows: Float[Tensor, "*batch L P"],
        losses: Float[Tensor, "*batch L"] | None = None,
        groups: Sequence[int] | None = None,
        samples: Float[Tensor, "*batch K P"] | None = None,
        slices: Float[Tensor, "*batch S L P"] | None = None,
    ) -> Judgement:
        """Weighs and combines the gradients `rows`; advances the gate's memory once.

        Args:
            rows: gradient of the main loss first, over the shared parameters.
            losses: values of the losses, for gates that declare `needs_losses`.
            groups: lengths of consecutive blocks of columns judged apart; one block if None.
            samples: `sample_rows` gradients of random combinations of per-sample main losses, at
                every `sample_every`-th judgement.
            slices: rows of each of the gate's `slices` of the data; they add up to `rows`.

        Raises:
            ValueError: if `rows` are none, the gate needs `losses`, `samples` or `slices` and they
                are missing, it cannot judge so many losses, or `groups` do not add up to P.
        """
        if rows.dim() < 2 or rows.shape[-2] == 0:
            raise ValueError(
                f"rows must be [..., losses, parameters], not of shape {list(rows.shape)}."
            )
        if losses is not None and losses.shape != rows.shape[:-1]:
            raise ValueError(
                f"losses must be one value for each row, {list(rows.shape[:-1])}, not "
                f"{list(losses.shape)}."
            )
        self.check(rows.shape[-2])
        if self.needs_losses and losses is None:
            raise ValueError(f"{type(self).__name__} needs the values of the losses: give losses=.")
        if self.sample_rows > 0 and samples is None and self.sample_every == 1:
            raise ValueError(
                f"{type(self).__name__} needs {self.sample_rows} rows of samples: give samples=."
            )
        if self.slices > 0 and (slices is None or slices.shape[-3] != self.slices):
            raise ValueError(
                f"{type(self).__name__} needs rows of {self.slices} slices: give slices=."
            )
        if any(memory.device != rows.device for memory in self.buffers()):
            # Once: copies at every judgement would wait for the host.
            self.to(rows.device)
        groups = (rows.shape[-1],) if groups is None else tuple(groups)
        with torch.autocast(rows.device.type, enabled=False):
            given = rows
            rows, finite = finite_rows(rows)
            samples = None if samples is None else finite_rows(samples)[0]
            references = self.references(rows, groups, samples)
            alone = rows.shape[-2] == 1
            if self.num_references > 0:
                rows = torch.cat([rows, references], dim=-2)
            gramian = form(rows, groups)
            if self.slices > 0 and slices is not None:
                sliced = form(finite_rows(slices)[0].flatten(-3, -2), groups)
                gramian = replace(gramian, slices=sliced)
            if alone:
                # Nothing to judge, as in `gated_backward`.
                weights = torch.zeros_like(gramian.norm)
                weights[..., 0] = 1.0
            else:
                weights = self(gramian, losses)
                self.advance(gramian, losses)
            dropped = gramian.norm == 0
            dropped = torch.cat([torch.zeros_like(dropped[..., :1]), dropped[..., 1:]], dim=-1)
            # Lengths that differ by more than the largest number would make it infinite.
            largest = torch.finfo(weights.dtype).max
            weights = torch.where(dropped, 0.0, weights.clamp(-largest, largest))
            return Judgement(_combine(weights, rows, groups), weights, gramian, finite, given)

    @final
    def combine(
        self,
        rows: Float[Tensor, "*batch L P"],
        losses: Float[Tensor, "*batch L"] | None = None,
        groups: Sequence[int] | None = None,
        samples: Float[Tensor, "*batch K P"] | None = None,
        slices: Float[Tensor, "*batch S L P"] | None = None,
    ) -> Float[Tensor, "*batch P"]:
        """Returns the direction that `judge` finds, and advances the gate's memory like it.

        Args:
            rows: gradient of the main loss first, over the shared parameters.
            losses: values of the losses.
            groups: lengths of consecutive blocks of columns that are judged apart.
            samples: gradients of random combinations of per-sample main losses.
            slices: rows of each slice of the data.
        """
        return self.judge(rows, losses, groups, samples, slices).direction

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # A fresh gate does not know the shape of its memory; the checkpoint does.
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name, buffer)
            if saved.shape != buffer.shape or saved.dtype != buffer.dtype:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _combine(
    weights: Float[Tensor, "*batch G M"],
    rows: Float[Tensor, "*batch M P"],
    groups: Sequence[int],
) -> Float[Tensor, "*batch P"]:
    blocks = [
        _combine_block(weight, block)
        for weight, block in zip(weights.unbind(-2), rows.split(list(groups), dim=-1), strict=True)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-1)


def _combine_block(
    weights: Float[Tensor, "*batch M"], rows: Float[Tensor, "*batch M P"]
) -> Float[Tensor, "*batch P"]:
    # Not a matmul: under TF32 a row of weight 1 would not come through bit for bit.
    direction, *others = (
        (weight.unsqueeze(-1), row)
        for weight, row in zip(weights.unbind(-1), rows.unbind(-2), strict=True)
    )
    total = direction[0] * direction[1]
    for weight, row in others:
        total = torch.addcmul(total, weight, row)
    return total

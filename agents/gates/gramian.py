"""`Gramian`: what a gate sees of the gradients, their cosines and norms but not their entries.

A gate that computes its weights from this alone needs no absolute epsilon: scaling a
gradient scales its norm and changes no cosine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Scopes: which columns of the gradients are weighed together.

Scope = Literal["shared", "tensor", "layer"]


def column_groups(scope: Scope, parameters: Iterable[tuple[str, Tensor]]) -> tuple[int, ...]:
    """Returns the lengths of the consecutive blocks of columns that `scope` weighs apart.

    Args:
        scope: `shared`: all parameters together; `tensor`: each tensor alone; `layer`:
            consecutive tensors of one module together, as `torso.0.weight`, `torso.0.bias`.
        parameters: names and tensors of the shared parameters, in the order of the columns,
            as `named_parameters()` gives them.

    Raises:
        ValueError: if the scope is unknown or there are no parameters.
    """
    names_and_lengths = [(name, parameter.numel()) for name, parameter in parameters]
    lengths = [length for _, length in names_and_lengths]
    if not lengths:
        raise ValueError("scope needs at least one shared parameter.")
    match scope:
        case "shared":
            return (sum(lengths),)
        case "tensor":
            return tuple(lengths)
        case "layer":
            layers = groupby(names_and_lengths, key=lambda pair: pair[0].rpartition(".")[0])
            return tuple(sum(length for _, length in layer) for _, layer in layers)
        case _:
            raise ValueError(f"scope must be shared, tensor or layer, not {scope}.")


@dataclass(frozen=True)
class Gramian:
    """The Gram matrix of M rows, split into cosines and norms, once per group of columns.

    `cosine * norm.unsqueeze(-1) * norm.unsqueeze(-2)` is the Gram matrix itself.
    """

    cosine: Float[Tensor, "*batch G M M"]
    """In [-1, 1]; 1 on the diagonal, and exactly 0 wherever one of the two rows vanishes."""
    norm: Float[Tensor, "*batch G M"]
    """Euclidean; 0 exactly where the row vanishes."""
    slices: "Gramian | None" = None
    """For a gate that compares slices of the data: the Gramian of S L rows, the L losses' rows of
    slice 0, then those of slice 1, and so on."""


def form(rows: Float[Tensor, "*batch M P"], groups: Sequence[int] | None = None) -> Gramian:
    """Forms the Gramian of `rows`, in float32 or better whatever their dtype and under autocast.

    Args:
        rows: one flat gradient per row.  All entries must be finite.
        groups: lengths of the consecutive blocks of columns that are weighed apart; one block of
            all columns if None.

    Raises:
        ValueError: if the lengths do not add up to the number of columns.
    """
    columns = rows.shape[-1]
    groups = (columns,) if groups is None else tuple(groups)
    if sum(groups) != columns:
        raise ValueError(
            f"groups must add up to the {columns} columns of the rows, not to {sum(groups)}."
        )
    with torch.autocast(rows.device.type, enabled=False):
        blocks = [_form_block(block) for block in widen(rows).split(groups, dim=-1)]
        return Gramian(
            cosine=torch.stack([cosine for cosine, _ in blocks], dim=-3),
            norm=torch.stack([norm for _, norm in blocks], dim=-2),
        )


def widen(rows: Tensor) -> Tensor:
    """Converts dtypes narrower than float32 to float32: sums over P columns need the precision."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def finite_rows(
    rows: Float[Tensor, "*batch M P"],
) -> tuple[Float[Tensor, "*batch M P"], Bool[Tensor, "*batch M"]]:
    """Replaces every row that has a NaN or an infinity by a row of zeros.

    Returns:
        The rows in float32 or wider, and which of them are finite.
    """
    rows = widen(rows)
    # A sum is finite only if all its terms are: no mask of M x P numbers is needed.
    finite = rows.sum(-1).isfinite()
    return torch.where(finite.unsqueeze(-1), rows, 0.0), finite


def magnitude(rows: Float[Tensor, "*batch M P"]) -> Float[Tensor, "*batch M"]:
    """Returns the 1-norm of each row: in range where squares are not, 0 only where it vanishes."""
    size: Tensor = torch.linalg.vector_norm(rows, 1, dim=-1)
    return size


def _form_block(rows: Float[Tensor, "*batch M P"]) -> tuple[Tensor, Tensor]:
    size = magnitude(rows)
    vanished = size == 0
    scale = torch.where(vanished, 1.0, size)
    products = _products(rows, scale)
    length = products.diagonal(dim1=-2, dim2=-1).sqrt()
    safe = torch.where(vanished, 1.0, length)
    cosine = (products / safe.unsqueeze(-1) / safe.unsqueeze(-2)).clamp(-1.0, 1.0)
    # Rounding would leave 0.9999999 on the diagonal; a vanished row keeps its 0.
    identity = torch.eye(rows.shape[-2], dtype=torch.bool, device=rows.device)
    alive = (~vanished).to(cosine.dtype).unsqueeze(-1)
    return torch.where(identity, alive, cosine), size * length


def _products(
    rows: Float[Tensor, "*batch M P"], scale: Float[Tensor, "*batch M"]
) -> Float[Tensor, "*batch M M"]:
    """Returns the inner products of `rows / scale`.

    Squares overflow float32 long before the gradients do, hence the scale.  Not a matmul: TF32,
    where allowed, would cut the factors to ten bits.  One temporary of P numbers at a time, since
    allocating memory dominates the cost.
    """
    num_rows = rows.shape[-2]
    upper = {
        (i, j): (rows[..., i, :] / scale[..., i, None]).mul_(rows[..., j, :]).sum(-1)
        / scale[..., j]
        for i in range(num_rows)
        for j in range(i, num_rows)
    }
    return torch.stack(
        [
            torch.stack([upper[min(i, j), max(i, j)] for j in range(num_rows)], dim=-1)
            for i in range(num_rows)
        ],
        dim=-2,
    )

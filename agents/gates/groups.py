"""Scopes: which columns of the gradients are judged together."""

from collections.abc import Iterable
from itertools import groupby
from typing import Literal

from torch import Tensor

Scope = Literal["shared", "tensor", "layer"]


def column_groups(scope: Scope, parameters: Iterable[tuple[str, Tensor]]) -> tuple[int, ...]:
    """Returns the lengths of the consecutive blocks of columns that `scope` judges apart.

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

"""From losses to `.grad`, through a gate.

Parameters are *shared*, where the gate weighs the gradient of each loss, or *private*,
where each loss has its own, ungated gradient (Du et al., Proposition 2,
https://arxiv.org/abs/1812.02224).
"""

from collections.abc import Callable, Sequence
from functools import reduce as fold

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate, Judgement
from agents.gates.checks import (
    check_demands,
    check_gate,
    check_groups,
    check_losses,
    check_main,
    check_parameters,
)
from agents.gates.gramian import Gramian

Reduce = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes rows [L, P] and losses [L] of this process and returns those of all."""


def gated_backward(
    losses: Sequence[Tensor],
    gate: Gate,
    shared: Sequence[Tensor],
    private: Sequence[Tensor] = (),
    *,
    groups: Sequence[int] | None = None,
    samples: Sequence[Tensor] | None = None,
    slices: Sequence[Sequence[Tensor]] | None = None,
    reduce: Reduce | None = None,
) -> Judgement:
    """Adds the gated gradient to `.grad` of `shared`, and the ungated one to that of `private`.

    Takes one backward pass per loss, or a single one of the summed loss if there is nothing to
    judge (one loss, or a gate that is `one_pass`): then all weights are 1, the Gramian is NaN
    and no memory advances.  Frees the graph, as `backward` does.

    A parameter that a loss does not reach has a gradient of zeros from it.  Afterwards every
    shared parameter has a `.grad`; a private one that no loss reaches keeps what it had.

    Args:
        losses: scalars, the main loss first; masked, averaged and multiplied by their
            coefficients already.
        gate: weighs the gradients over `shared`.
        shared: parameters that the main loss and an auxiliary train.
        private: parameters that get the sum of each loss's own gradient, those of the auxiliary
            heads above all: what is in neither list is not trained, and nobody notices.
        groups: lengths of consecutive blocks of columns judged apart, from `column_groups`.
        samples: `gate.sample_rows` scalars, random combinations of per-sample main losses.
        slices: for each of `gate.slices` slices of the data the shares of all losses, which add up
            to `losses`.  So do their gradients: S times as many passes, in place of those of
            `losses`.  The graph is not freed.
        reduce: applied to the rows and the values of the losses before they are judged, and to
            those of `samples` and of each slice: averages over ranks, or adds up micro-batches.

    Raises:
        ValueError: a loss is no scalar, or trains none of the parameters (an auxiliary without a
            graph may: it counts as a gradient of zeros); a parameter is frozen or named twice;
            groups do not fit; the gate needs samples or slices, or cannot judge so many losses.
    """
    shared, private = [*shared], [*private]
    check_gate(gate)
    check_losses(losses)
    check_main(losses[0])
    check_parameters(shared, private)
    check_groups(groups, sum(parameter.numel() for parameter in shared))
    if len(losses) > 1 and not gate.one_pass:
        check_demands(gate, len(losses), samples, slices)
        sample_rows = None
        if samples is not None:
            sample_rows, _ = _reduced(
                gradient_rows(samples, shared, (), retain=True), samples, reduce
            )
        if slices is None:
            rows, values = _reduced(_rows(losses, shared, private, False, True), losses, reduce)
            slice_rows = None
        else:
            cut = [
                _reduced(_rows(part, shared, private, True, True), part, reduce) for part in slices
            ]
            slice_rows = torch.stack([rows for rows, _ in cut])
            rows, values = slice_rows.sum(0), torch.stack([value for _, value in cut]).sum(0)
        judgement = gate.judge(rows, values, groups, sample_rows, slice_rows)
        add_gradient(shared, judgement.direction)
        return judgement
    return summed_backward(losses, gate, shared, private, groups=groups, reduce=reduce)


def summed_backward(
    losses: Sequence[Tensor],
    gate: Gate,
    shared: Sequence[Tensor],
    private: Sequence[Tensor],
    *,
    groups: Sequence[int] | None = None,
    reduce: Reduce | None = None,
) -> Judgement:
    """`gated_backward` where there is nothing to judge: one pass of the summed loss.

    For those who know their parameters: nothing is checked, and there may be no shared ones.
    """
    total = sum(losses[1:], losses[0])
    rows, _ = _reduced(gradient_rows([total], shared, private), [total], reduce)
    num_groups = 1 if groups is None else len(groups)
    add_gradient(shared, rows[0])
    return _unmeasured(rows[0], num_groups, len(losses), gate.num_references)


def gradient_rows(
    losses: Sequence[Tensor],
    shared: Sequence[Tensor],
    private: Sequence[Tensor],
    retain: bool = False,
) -> Float[Tensor, "L P"]:
    """Takes one gradient of each loss: a row over `shared`, added to `.grad` over `private`.

    For those who judge by themselves; `add_gradient` is the other half.

    Args:
        losses: scalars.
        shared: parameters that the rows are over.
        private: parameters that get the sum of each loss's own gradient.
        retain: whether the graph is needed again.
    """
    return _rows(losses, shared, private, retain, False)


def _rows(
    losses: Sequence[Tensor],
    shared: Sequence[Tensor],
    private: Sequence[Tensor],
    retain: bool,
    strict: bool,
) -> Float[Tensor, "L P"]:
    """`gradient_rows`; if `strict`, a loss that trains nothing is refused."""
    lengths = [parameter.numel() for parameter in shared]
    dtypes = (parameter.dtype for parameter in shared)
    rows = torch.empty(
        len(losses),
        sum(lengths),
        dtype=fold(torch.promote_types, dtypes, torch.float32),
        device=losses[0].device,
    )
    parameters = [*shared, *private]
    for index, (loss, row) in enumerate(zip(losses, rows, strict=True)):
        gradients = _gradients(loss, parameters, retain or index < len(losses) - 1)
        own = gradients[len(shared) :]
        if strict:
            _check_reach(index, loss, gradients[: len(shared)], own)
        for parameter, piece, gradient in zip(shared, row.split(lengths), gradients, strict=False):
            # Straight into the matrix: no second copy of P numbers.
            if gradient is None:
                piece.zero_()
            else:
                piece.view_as(parameter).copy_(gradient)
        for parameter, gradient in zip(private, own, strict=True):
            if gradient is not None:
                _add(parameter, gradient)
    return rows


def add_gradient(shared: Sequence[Tensor], direction: Float[Tensor, " P"]) -> None:
    """Adds a direction over all of `shared` to their `.grad`."""
    lengths = [parameter.numel() for parameter in shared]
    for parameter, piece in zip(shared, direction.split(lengths), strict=True):
        _add(parameter, piece.view_as(parameter))


def reused_backward(
    losses: Sequence[Tensor],
    weights: Float[Tensor, " L"],
    shared: Sequence[Tensor],
    private: Sequence[Tensor] = (),
) -> None:
    """Adds gradients under the weights of an earlier judgement: one pass through the shared part.

    `shared` get the gradient of `sum_i weights_i losses_i`, `private` each loss's own one.
    Only for gates that are `scale_free`.  Main-descent does not hold: the cosines were those of
    another batch.  A loss that is not finite spoils the sum even at a weight of 0.

    Args:
        losses: scalars, the main loss first.
        weights: of the losses, as in `judgement.weights[0]` for a single group.
        shared: parameters that the gate governs.
        private: parameters that get each loss's own gradient.

    Raises:
        ValueError: a loss is no scalar, or there are more or fewer weights than losses.
    """
    shared, private = [*shared], [*private]
    check_losses(losses)
    if weights.shape != (len(losses),):
        raise ValueError(
            f"weights must be one number for each of {len(losses)} losses, not of shape "
            f"{list(weights.shape)}: take judgement.weights[0]."
        )
    for loss in losses:
        for parameter, gradient in zip(private, _gradients(loss, private, True), strict=True):
            if gradient is not None:
                _add(parameter, gradient)
    weighted = [
        weight.to(loss) * loss
        for weight, loss in zip(weights.detach().unbind(), losses, strict=True)
    ]
    total = sum(weighted[1:], weighted[0])
    for parameter, gradient in zip(shared, _gradients(total, shared, False), strict=True):
        _add(parameter, torch.zeros_like(parameter) if gradient is None else gradient)


def _gradients(loss: Tensor, parameters: Sequence[Tensor], retain: bool) -> Sequence[Tensor | None]:
    # A head may have nothing to learn from a batch; its loss is then a constant.
    if not parameters or not loss.requires_grad:
        return [None] * len(parameters)
    found = torch.autograd.grad(loss, parameters, retain_graph=retain, allow_unused=True)
    # An embedding may hand out a sparse one.
    return [None if each is None else each.to_dense() for each in found]


def _check_reach(
    index: int, loss: Tensor, row: Sequence[Tensor | None], own: Sequence[Tensor | None]
) -> None:
    """Refuses a main loss that trains nothing shared, and an auxiliary that trains nothing."""
    if any(gradient is not None for gradient in row):
        return
    if index == 0:
        raise ValueError(
            "losses[0], the main loss, does not depend on any of the shared parameters: is it "
            "detached from them, or are they another network's?"
        )
    if loss.requires_grad and all(gradient is None for gradient in own):
        raise ValueError(
            f"losses[{index}] depends on none of the parameters: is it detached from them, or are "
            "its own missing in private?"
        )


def _reduced(
    rows: Tensor, losses: Sequence[Tensor], reduce: Reduce | None
) -> tuple[Tensor, Tensor]:
    values = torch.stack([loss.detach() for loss in losses])
    return (rows, values) if reduce is None else reduce(rows, values)


def _add(parameter: Tensor, gradient: Tensor) -> None:
    """Adds to `.grad` in the parameter's dtype and layout."""
    if parameter.grad is None:
        # A copy: autograd may hand out one tensor for two parameters.
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient)


def _unmeasured(
    direction: Tensor, num_groups: int, num_losses: int, num_references: int
) -> Judgement:
    num_rows = num_losses + num_references
    weights = direction.new_zeros(num_groups, num_rows)
    weights[:, :num_losses] = 1.0
    return Judgement(
        direction=direction,
        weights=weights,
        gramian=Gramian(
            cosine=direction.new_full((num_groups, num_rows, num_rows), torch.nan),
            norm=direction.new_full((num_groups, num_rows), torch.nan),
        ),
    )

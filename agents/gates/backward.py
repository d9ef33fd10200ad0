"""From losses to `.grad`, through a gate.

Parameters are *shared*, where the gate weighs the gradient of each loss, or *private*,
where each loss has its own, ungated gradient (Du et al. 2018, Proposition 2,
https://arxiv.org/abs/1812.02224).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce as fold
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates.base import Gate, Judgement
from agents.gates.checks import (
    check_demands,
    check_descent,
    check_features,
    check_gate,
    check_groups,
    check_losses,
    check_main,
    check_metric,
    check_parameters,
    check_rest,
    check_weights,
)
from agents.gates.gramian import Gramian
from agents.gates.graph import HIDDEN, refuse_other_ways, refuse_reentrant

Reduce = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes rows [L, P] and losses [L] of this process and returns those of all."""


def gated_backward(
    losses: Sequence[Tensor],
    gate: Gate,
    shared: Sequence[Tensor],
    private: Sequence[Tensor] = (),
    *,
    features: Sequence[Tensor] = (),
    groups: Sequence[int] | None = None,
    samples: Sequence[Tensor] | None = None,
    slices: Sequence[Sequence[Tensor]] | None = None,
    weights: Float[Tensor, " L"] | None = None,
    rest: Tensor | None = None,
    metric: Float[Tensor, " P"] | None = None,
    descend_main: bool = True,
    reduce: Reduce | None = None,
) -> Judgement:
    """Adds the gated gradient to `.grad` of `shared`, and the ungated one to that of `private`.

    It replaces `sum(losses).backward()` in a training loop. It takes one backward pass per loss,
    or a single pass of the summed loss where there is nothing to weigh (one loss, a gate that is
    `one_pass`, or `weights` of an earlier judgement): then the Gramian is NaN and the gate's
    memory does not advance. It frees the graph, as `backward` does.

    A parameter that a loss does not reach has a gradient of zeros from it. Afterwards every
    shared parameter has a `.grad`; a private one that no loss reaches keeps what it had. Hooks of
    `register_post_accumulate_grad_hook` are not called for either.

    With `features` the gate weighs gradients over the features and the parameters above them, so
    that only one backward pass, of the combination, goes through the network below. That network
    gets exactly `weights @ rows` of its own gradients, but the weights come from other angles:
    what a gate promises, it promises of the features.

    Args:
        losses: scalars, the main loss first; masked, averaged and multiplied by their
            coefficients already.
        gate: weighs the gradients over `shared`.
        shared: parameters that the main loss and an auxiliary train, or features that the losses
            share.
        private: parameters that get the sum of each loss's own gradient, above all those of the
            auxiliary heads. A parameter in neither list is not trained, without any warning.
        features: tensors, not computed from one another, through which alone the losses reach the
            network below. Then `shared` are parameters above them, if there are any, and no list
            names those below, which all get their gradient. The columns of the rows are the
            features, then `shared`.
        groups: lengths of consecutive blocks of columns weighed apart, from `column_groups`.
        samples: `gate.sample_rows` scalars, random combinations of per-sample main losses.
        slices: for each of `gate.slices` slices of the data the shares of all losses, which add up
            to `losses`. So do their gradients: S times as many passes, in place of those of
            `losses`. The graph is not freed.
        weights: of the losses, from `judgement.weights[0]` of an earlier update, to be used again
            instead of weighing anew. Only for gates that are `scale_free`, and without `groups`.
            Main descent is not guaranteed: the cosines were those of another batch. A loss that is
            not finite spoils the sum even at a weight of 0.
        rest: a part of the main loss that auxiliaries are not compared with. Its gradient is added
            with the weight of the main row.
        metric: positive factors of the columns; gradients are compared after this scaling, and
            the direction is divided by it. None compares them as they are.
        descend_main: whether the main gradient is part of the direction; else it is only compared
            with.
        reduce: applied to the rows and the values of the losses before they are weighed, and to
            those of `rest`, `samples` and each slice: averages over ranks, or adds up
            micro-batches.

    Returns:
        What the gate made of the gradients.

    Raises:
        ValueError: a loss is no scalar, or trains none of the parameters (an auxiliary without a
            graph may: it counts as a gradient of zeros) or reaches it past the features; a
            parameter is frozen, complex or named twice, or hidden by reentrant checkpointing;
            groups, weights or metric do not fit; the gate needs samples or slices, or cannot weigh
            so many losses.
    """
    shared, private = [*features, *shared], [*private]
    num_columns = sum(parameter.numel() for parameter in shared)
    check_gate(gate)
    check_losses(losses)
    check_main(losses[0])
    check_parameters(shared, private)
    if features:
        check_features(features, gate, metric)
        terms = [*losses, *(samples or ()), *(() if rest is None else (rest,))]
        refuse_other_ways(terms, features, [*shared, *private])
    check_groups(groups, num_columns)
    check_metric(metric, num_columns)
    check_rest(rest)
    check_descent(descend_main, len(losses))
    if weights is not None:
        check_weights(weights, len(losses), groups)
        terms = [*losses] if descend_main else [0.0 * losses[0], *losses[1:]]
        terms[0] = terms[0] if rest is None else terms[0] + rest
        judgement = _reuse(terms, weights, gate, shared, private, reduce)
        return _descended(judgement, shared, features)
    if len(losses) == 1 or gate.one_pass:
        terms = [*losses] if descend_main else [*losses[1:]]
        total = sum(terms[1:], terms[0])
        total = total if rest is None else total + rest
        judgement = _sum(total, len(losses), gate, shared, private, groups, reduce)
        return _descended(judgement, shared, features)
    check_demands(gate, len(losses), samples, slices)

    rest_row = sample_rows = slice_rows = None
    if rest is not None:
        rest_row = _reduced(_rows([rest], shared, private, retain=True), [rest], reduce)[0][0]
    if samples is not None:
        sample_rows = _reduced(_rows(samples, shared, (), retain=True), samples, reduce)[0]
    own = private if descend_main else ()
    if slices is None:
        found = _rows(losses, shared, private, own, strict=True)
        rows, values = _reduced(found, losses, reduce)
    else:
        cut = [
            _reduced(_rows(part, shared, private, own, retain=True, strict=True), part, reduce)
            for part in slices
        ]
        slice_rows = torch.stack([part for part, _ in cut])
        rows, values = slice_rows.sum(0), torch.stack([value for _, value in cut]).sum(0)

    judgement = gate.judge(
        _scaled(rows, metric),
        values,
        groups,
        _scaled(sample_rows, metric),
        _scaled(slice_rows, metric),
    )
    direction = judgement.direction if metric is None else judgement.direction / metric
    if rest_row is not None:
        direction = direction + _at_main_weight(rest_row, judgement, groups)
    if not descend_main:
        direction = direction - _at_main_weight(rows[0], judgement, groups)
    judgement = replace(judgement, direction=direction, rows=rows, rest=rest_row)
    return _descended(judgement, shared, features)


def _sum(
    total: Tensor,
    num_losses: int,
    gate: Gate,
    shared: Sequence[Tensor],
    private: Sequence[Tensor],
    groups: Sequence[int] | None,
    reduce: Reduce | None,
) -> Judgement:
    """Takes one pass of the summed loss, where there is nothing to weigh."""
    rows, _ = _reduced(_rows([total], shared, private), [total], reduce)
    weights = rows.new_zeros(1 if groups is None else len(groups), num_losses + gate.num_references)
    weights[:, :num_losses] = 1.0
    return _unmeasured(rows[0], weights, num_losses)


def _reuse(
    losses: Sequence[Tensor],
    weights: Float[Tensor, " L"],
    gate: Gate,
    shared: Sequence[Tensor],
    private: Sequence[Tensor],
    reduce: Reduce | None,
) -> Judgement:
    """Takes one pass through the shared part under given weights, and each loss's own above it."""
    for loss in losses:
        for parameter, gradient in zip(private, _gradients(loss, private, True), strict=True):
            if gradient is not None:
                _add(parameter, gradient)
    weighted = [
        weight.to(loss) * loss
        for weight, loss in zip(weights.detach().unbind(), losses, strict=True)
    ]
    total = sum(weighted[1:], weighted[0])
    rows, _ = _reduced(_rows([total], shared, ()), [total], reduce)
    given = weights.detach().to(rows).unsqueeze(0)
    unused = given.new_zeros(1, gate.num_references)
    return _unmeasured(rows[0], torch.cat([given, unused], dim=1), len(losses))


def _rows(
    losses: Sequence[Tensor],
    shared: Sequence[Tensor],
    private: Sequence[Tensor],
    private_of_first: Sequence[Tensor] | None = None,
    *,
    retain: bool = False,
    strict: bool = False,
) -> Float[Tensor, "L P"]:
    """Takes one gradient of each loss: a row over `shared`, added to `.grad` over `private`.

    Args:
        losses: scalars.
        shared: parameters that the rows are over.
        private: parameters that get the sum of each loss's own gradient.
        private_of_first: those that get the first loss's; None for the same.
        retain: whether the graph is needed again.
        strict: whether a loss that trains nothing is refused.
    """
    lengths = [parameter.numel() for parameter in shared]
    dtypes = (parameter.dtype for parameter in shared)
    rows = torch.empty(
        len(losses),
        sum(lengths),
        dtype=fold(torch.promote_types, dtypes, torch.float32),
        device=losses[0].device,
    )
    reached: set[int] = set()
    whole = strict or not retain  # not a part of the main loss, nor samples of it
    for index, (loss, row) in enumerate(zip(losses, rows, strict=True)):
        mine = private if index > 0 or private_of_first is None else private_of_first
        gradients = _gradients(loss, [*shared, *mine], retain or index < len(losses) - 1)
        own = gradients[len(shared) :]
        if whole and index == 0 and any(each is None for each in gradients[: len(shared)]):
            # Rare: only then are graphs searched for the reason.
            refuse_reentrant(losses)
        if strict:
            _check_reach(index, loss, gradients[: len(shared)], own)
        for parameter, piece, gradient in zip(shared, row.split(lengths), gradients, strict=False):
            # Straight into the matrix: no second copy of P numbers.
            if gradient is None:
                piece.zero_()
            else:
                piece.view_as(parameter).copy_(gradient)
        for parameter, gradient in zip(mine, own, strict=True):
            if gradient is not None:
                _add(parameter, gradient)
                reached.add(id(parameter))
    if whole and len(reached) < len(private):
        refuse_reentrant(losses)
    return rows


def _gradients(loss: Tensor, parameters: Sequence[Tensor], retain: bool) -> Sequence[Tensor | None]:
    # A head may have nothing to learn from a batch; its loss is then a constant.
    if not parameters or not loss.requires_grad:
        return [None] * len(parameters)
    try:
        found = torch.autograd.grad(loss, parameters, retain_graph=retain, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" in str(error):
            raise ValueError(HIDDEN) from error
        raise
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


def _scaled(rows: Tensor | None, metric: Tensor | None) -> Any:
    return rows if rows is None or metric is None else rows * metric


def _at_main_weight(
    row: Float[Tensor, " P"], judgement: Judgement, groups: Sequence[int] | None
) -> Float[Tensor, " P"]:
    """Multiplies a row by the weight that the main row has in each group."""
    blocks = row.split([row.numel()] if groups is None else list(groups))
    weights = judgement.weights[:, 0].unbind()
    return torch.cat([weight * block for weight, block in zip(weights, blocks, strict=True)])


def _descended(
    judgement: Judgement, shared: Sequence[Tensor], features: Sequence[Tensor]
) -> Judgement:
    """Adds a judgement's direction to `.grad`, that of features to what is below them.

    Args:
        judgement: is returned.
        shared: the features first, then the parameters.
        features: among which are what the network below is reached through.
    """
    lengths = [parameter.numel() for parameter in shared]
    pieces = [
        piece.view_as(parameter)
        for parameter, piece in zip(shared, judgement.direction.split(lengths), strict=True)
    ]
    below = len(features)
    for parameter, piece in zip(shared[below:], pieces[below:], strict=True):
        _add(parameter, piece)
    if features:
        wanted = [p.to(feature.dtype) for p, feature in zip(pieces, features, strict=False)]
        torch.autograd.backward(features, wanted)
    return judgement


def _add(parameter: Tensor, gradient: Tensor) -> None:
    """Adds to `.grad` in the parameter's dtype and layout."""
    if parameter.grad is None:
        # A copy: autograd may hand out one tensor for two parameters.
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient)


def _unmeasured(direction: Tensor, weights: Tensor, num_losses: int) -> Judgement:
    num_groups, num_rows = weights.shape
    # One row of the summed loss stands for all.
    finite = direction.sum().isfinite().expand(num_losses)
    gramian = Gramian(
        cosine=direction.new_full((num_groups, num_rows, num_rows), torch.nan),
        norm=direction.new_full((num_groups, num_rows), torch.nan),
    )
    return Judgement(direction, weights, gramian, finite)

"""What the graphs of losses tell: which parameters they reach, and by which way.

A graph is walked from a loss downwards, node by node. Nothing is computed.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from torch import Tensor

REENTRANT = "CheckpointFunctionBackward"
"""The node of `torch.utils.checkpoint.checkpoint(..., use_reentrant=True)`."""


def shared_parameters(losses: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Finds what the main loss and an auxiliary train, and what is trained by others alone.

        shared, private = shared_parameters(losses)
        gated_backward(losses, gate, shared, private)

    It follows the graphs of these losses. So it does not find what a loss reaches only at other
    updates, frozen parameters, and parameters that the graph hides: those of a block that is
    checkpointed with `use_reentrant=True` (it refuses such a block) and of a custom
    `autograd.Function` that does not take them as arguments. Compiled code counts as reaching
    every parameter that it is given. A parameter of two auxiliaries that the main loss does not
    reach is private. Call it once and keep the lists: gates with memory need the same order.

    Args:
        losses: scalars with their graphs, the main loss first.

    Returns:
        The shared and the private parameters, each in the order in which the losses reach them.

    Raises:
        ValueError: a block is checkpointed with `use_reentrant=True`.
    """
    refuse_reentrant(losses)
    main, *others = [{id(leaf): leaf for leaf in _leaves([loss])} for loss in losses]
    everything = {**main}
    for other in others:
        everything |= other
    several = main.keys() & set(chain(*others))
    shared = [leaf for key, leaf in everything.items() if key in several]
    return shared, [leaf for key, leaf in everything.items() if key not in several]


def refuse_reentrant(losses: Sequence[Tensor]) -> None:
    """Refuses a block whose parameters reentrant checkpointing hides from gradients of one loss.

    Raises:
        ValueError: there is such a block.
    """
    for node in _nodes([loss.grad_fn for loss in losses], frozenset()):
        if type(node).__name__ == REENTRANT:
            raise ValueError(HIDDEN)


HIDDEN = (
    "a block is checkpointed with use_reentrant=True, which hides its parameters from the gate: "
    "use checkpoint(..., use_reentrant=False)."
)


def refuse_other_ways(
    losses: Sequence[Tensor], features: Sequence[Tensor], known: Sequence[Tensor]
) -> None:
    """Refuses losses that reach parameters by another way than through the features.

    Args:
        losses: scalars.
        features: where the graph is not followed further down.
        known: parameters that the losses may reach directly.

    Raises:
        ValueError: a feature is computed from another, or a loss reaches another parameter.
    """
    if len(features) > 1:
        nodes = {feature.grad_fn for feature in features} - {None}
        for feature in features:
            below = () if feature.grad_fn is None else _below(feature.grad_fn)
            if any(node in nodes for node in _nodes(below, frozenset())):
                raise ValueError(
                    "one of the features is computed from another, so its gradient would count "
                    "twice: give the last ones alone, or detach them from each other."
                )
    expected = {id(each) for each in (*features, *known)}
    for index, loss in enumerate(losses):
        if any(id(leaf) not in expected for leaf in _leaves([loss], features)):
            raise ValueError(
                f"losses[{index}] reaches a parameter that is neither below the features alone nor "
                "in shared or private: let it read the features, or name the parameter."
            )


def _leaves(roots: Sequence[Tensor], stop: Sequence[Tensor] = ()) -> Iterator[Tensor]:
    """Yields the leaf tensors that gradients of `roots` would reach, above `stop`."""
    ends = frozenset(each.grad_fn for each in stop if each.grad_fn is not None)
    yield from (root for root in roots if root.grad_fn is None and root.requires_grad)
    for node in _nodes([root.grad_fn for root in roots], ends):
        if (variable := getattr(node, "variable", None)) is not None:
            yield variable


def _below(node: Any) -> list[Any]:
    return [below for below, _ in node.next_functions if below is not None]


def _nodes(roots: Sequence[Any], ends: frozenset[Any]) -> Iterator[Any]:
    """Yields every node at or below `roots` once, without `ends` and what is below them.

    The nodes found are kept until the end: a node that is not referred to may come back as
    another object.
    """
    found: dict[Any, None] = {}
    waiting = [node for node in roots if node is not None]
    while waiting:
        node = waiting.pop()
        if node in found or node in ends:
            continue
        found[node] = None
        yield node
        waiting.extend(reversed(_below(node)))

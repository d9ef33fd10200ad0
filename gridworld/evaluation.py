"""Exact expected return of any memoryless policy, and how often it visits each cell.

    V = r + discount P V,     d = start + discount P^T d

solved directly, with action noise and termination.  Both give the exact policy
gradient (Sutton, McAllester, Singh, Mansour 2000): dJ / dpi(a|s) = d(s) Q(s, a).

`softmax_policy` makes a policy of action values, `cell_policy` spreads a policy over
observations to the cells, as `evaluate` wants it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from gridworld.config import NUM_ACTIONS
from gridworld.model import Model, chunk_size, inside, outside
from gridworld.solve import factorise
from gridworld.worlds import Worlds

_TIE = 1e-9
"""Values so near to the largest are equal to it, but for rounding."""


@dataclass(frozen=True)
class Evaluation:
    """What S policies are worth, each in one world."""

    expected_return: Float64[Tensor, " S"]
    """J, the expected discounted return of an episode."""
    value: Float64[Tensor, "S cells"]
    """V, the same from any cell on; 0 on walls and terminal cells."""
    visitation: Float64[Tensor, "S cells"]
    """d, the expected discounted number of actions taken on each cell in an episode."""


def evaluate(
    worlds: Worlds,
    policy: Float[Tensor, "S cells A"],
    discount: float,
    world: Int64[Tensor, " S"] | None = None,
) -> Evaluation:
    """Evaluates S policies to the precision of float64.

    Args:
        worlds: the pool.
        policy: probabilities of the actions on each cell; see `cell_policy` for policies
            that see observations.
        discount: of the returns.
        world: the world of each policy; none: policy k plays in world k.

    Raises:
        ValueError: if the policies do not fit the worlds.
    """
    if world is None:
        world = torch.arange(len(worlds), device=worlds.device)
    wanted = (len(world), worlds.config.cells, NUM_ACTIONS)
    if policy.shape != wanted:
        raise ValueError(
            f"policy must have the shape {wanted} (policies, cells, actions), "
            f"not {tuple(policy.shape)}; give world where policies and worlds differ in number."
        )
    size = chunk_size(worlds.config, worlds.device)
    chunks = [
        _evaluate(worlds, some, discount, where)
        for some, where in zip(policy.split(size), world.split(size), strict=True)
    ]
    value = torch.cat([chunk[0] for chunk in chunks])
    start = worlds.start_cell.index_select(0, world)[:, None]
    return Evaluation(
        expected_return=value.gather(1, start).squeeze(1),
        value=value,
        visitation=torch.cat([chunk[1] for chunk in chunks]),
    )


def _evaluate(
    worlds: Worlds, policy: Float[Tensor, "S cells A"], discount: float, world: Int64[Tensor, " S"]
) -> tuple[Float64[Tensor, "S cells"], Float64[Tensor, "S cells"]]:
    config = worlds.config
    model = Model.of(config, worlds.kind.index_select(0, world), discount)
    move = model.slipped(torch.stack([inside(config, way.double()) for way in policy.unbind(-1)]))
    factors = factorise(model.bands(move))
    start = torch.zeros(len(world), config.cells, dtype=torch.float64, device=worlds.device)
    start.scatter_(1, worlds.start_cell.index_select(0, world)[:, None], 1.0)
    value = factors.solve(model.expected_reward(move))
    visitation = factors.solve_transposed(inside(config, start))
    return outside(config, value), outside(config, visitation)


def softmax_policy(
    action_value: Float[Tensor, "*batch A"], temperature: float
) -> Float[Tensor, "*batch A"]:
    """softmax(action_value / temperature); at 0 greedy, uniform over the largest.

    Raises:
        ValueError: if the temperature is negative or not finite.
    """
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 (greedy) or more, not {temperature}.")
    if temperature == 0:
        best = action_value >= action_value.amax(-1, keepdim=True) - _TIE
        return best / best.sum(-1, keepdim=True, dtype=action_value.dtype)
    logits = action_value / temperature
    if (action_value.isfinite() & ~logits.isfinite()).any():
        # So cold that logits overflow; those below the largest may, without harm.
        below = (action_value - action_value.amax(-1, keepdim=True)).double()
        return (below / temperature).softmax(-1).to(action_value.dtype)
    return logits.softmax(-1)


def cell_policy(
    worlds: Worlds,
    policy: Float[Tensor, "S observations A"],
    world: Int64[Tensor, " S"] | None = None,
) -> Float[Tensor, "S cells A"]:
    """Spreads what is done at each observation over the cells from which it is seen.

    Args:
        worlds: the pool.
        policy: one row per observation id of the world, as many as `num_observations`
            says at least.
        world: the world of each policy; none: policy k plays in world k.
    """
    seen = worlds.observation if world is None else worlds.observation.index_select(0, world)
    return policy.gather(1, seen[:, :, None].expand(-1, -1, policy.shape[-1]))

"""Policies from tables: softmax at a temperature, and from observations to cells."""

from jaxtyping import Float, Int64
from torch import Tensor

from gridworld.worlds import Worlds

_TIE = 1e-9
"""Values so near to the largest are equal to it, but for rounding."""


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
    return (action_value / temperature).softmax(-1)


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

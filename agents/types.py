"""The data that passes between the modules of `agents`.

Time leads, batch follows: `T` agent steps in `B` environments.  At time t the
agent sees `observation[t]` and takes `action[t]`; `reward[t]`, `terminated[t]`
and `truncated[t]` arrive with `observation[t + 1]`.  Hence N = T + 1 observations.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """T agent steps of B environments, as `collect` recorded them."""

    action: Int[Tensor, "T B"]
    """What was sent; discarded by the environment where `valid` is False."""
    reward: Float[Tensor, "T B"]
    """After the transform that the environment's spec asks for."""
    terminated: Bool[Tensor, "T B"]
    """The future is worth nothing: zeroes the bootstrap."""
    truncated: Bool[Tensor, "T B"]
    """Cut by a time limit: bootstraps from `observation[t + 1]`."""
    valid: Bool[Tensor, "T B"]
    """False at autoreset steps, which enter no loss."""
    log_probability: Float[Tensor, "T B"]
    """Of `action` under the policy that took it (the behaviour policy)."""
    observation: Shaped[Tensor, " T+1 B *shape"]
    state: Int[Tensor, "T+1 B"] | None = None
    """Flat index of a gridworld's cell; for teachers only."""
    core_state: Float[Tensor, "B F"] | None = None
    """Of the recurrent core before `observation[0]`, where there is a core."""


@dataclass(frozen=True)
class AgentOutput:
    """What an agent computes over N observations of B environments."""

    spatial: Float[Tensor, "N B C H W"] | None
    """The torso's last feature map, where it has one."""
    torso: Float[Tensor, "N B F"]
    """The torso's features."""
    features: Float[Tensor, "N B F2"]
    """After the recurrent core; the torso's own where there is none."""
    logits: Float[Tensor, "N B A"]
    """Of the policy, unnormalised."""
    value: Float[Tensor, "N B"]
    """Expected discounted return from each observation."""

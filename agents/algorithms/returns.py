"""Returns and advantages as plain functions of tensors; time first.

Both recursions stop at every end of an episode.  A terminated step is worth its
reward alone; a truncated one bootstraps from `value[t + 1]`, which belongs to the
true last observation.  Results at invalid (autoreset) steps mean nothing and are
masked by the caller; they cannot leak, since the step before them ended.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class VTrace:
    """What V-trace gives the two losses; neither carries a gradient."""

    target: Float[Tensor, "T B"]
    """v_t, which the value regresses to."""
    advantage: Float[Tensor, "T B"]
    """rho_t (r_t + gamma v_{t+1} - V(x_t)), which weighs the policy gradient."""


@torch.no_grad()
def gae(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T+1 B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    discount: float,
    trace: float,
) -> Float[Tensor, "T B"]:
    """Generalised advantages (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V(x_{t+1}) - V(x_t).

    Args:
        reward: of each step, transformed.
        value: of each observation, the one after the last step included.
        terminated: the bootstrap of these steps is zero.
        truncated: these steps bootstrap, and stop the recursion.
        discount: gamma, per agent step.
        trace: lambda; 1 gives discounted returns, 0 one-step differences.
    """
    delta = _differences(reward, value, terminated, discount)
    decay = discount * trace * (~(terminated | truncated)).to(value.dtype)
    return _accumulate(delta, decay)


@torch.no_grad()
def vtrace(
    log_ratio: Float[Tensor, "T B"],
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T+1 B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    discount: float,
    trace: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages (Espeholt et al. 2018, arXiv 1802.01561, eq. 1, remark 2).

    v_t - V_t = delta_t + gamma c_t (v_{t+1} - V_{t+1}),
    delta_t = rho_t (r_t + gamma V_{t+1} - V_t),
    rho_t = min(rho_clip, pi / mu),  c_t = lambda min(c_clip, pi / mu).

    On-policy (ratio 1) and with lambda = 1 the targets are n-step returns and the
    advantages those of A2C.

    Args:
        log_ratio: log pi(a_t) - log mu(a_t), current over behaviour policy.
        reward: of each step, transformed.
        value: of each observation, the one after the last step included.
        terminated: the bootstrap of these steps is zero.
        truncated: these steps bootstrap, and stop the recursion.
        discount: gamma, per agent step.
        trace: lambda.
        rho_clip: bound of the ratio in delta and in the advantage.
        c_clip: bound of the ratio in the trace.
    """
    ratio = log_ratio.exp()
    rho = ratio.clamp(max=rho_clip)
    delta = rho * _differences(reward, value, terminated, discount)
    goes_on = (~(terminated | truncated)).to(value.dtype)
    surplus = _accumulate(delta, discount * trace * goes_on * ratio.clamp(max=c_clip))
    target = value[:-1] + surplus
    # Within an episode the next target is v_{t+1}; at its end, or at the end of
    # the trajectory, only the value's estimate is there.
    after = torch.cat([surplus[1:], torch.zeros_like(surplus[:1])])
    advantage = rho * (
        _differences(reward, value, terminated, discount) + discount * goes_on * after
    )
    return VTrace(target, advantage)


def _differences(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T+1 B"],
    terminated: Bool[Tensor, "T B"],
    discount: float,
) -> Float[Tensor, "T B"]:
    """r_t + gamma V(x_{t+1}) - V(x_t), without V(x_{t+1}) where the episode terminated."""
    return reward + discount * (~terminated).to(value.dtype) * value[1:] - value[:-1]


def _accumulate(delta: Float[Tensor, "T B"], decay: Float[Tensor, "T B"]) -> Float[Tensor, "T B"]:
    """y_t = delta_t + decay_t y_{t+1}, from the last step backwards."""
    result = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(delta.shape[0])):
        running = torch.addcmul(delta[t], decay[t], running)
        result[t] = running
    return result

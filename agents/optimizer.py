"""Adam for one owner of parameters: clips by that owner's norm, skips what is not finite."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class OwnerOptimizer:
    """Steps the parameters of the agent, or of one head.

    Whether to skip is decided on the device: the fused Adam leaves weights and
    moments untouched where `found_inf` is 1 (the hook that `torch.amp.GradScaler`
    uses), so nothing waits and a non-finite gradient never reaches the weights.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, epsilon: float
    ) -> None:
        self.parameters = list(parameters)
        # A float, not a tensor, as long as nothing is captured in a CUDA graph.
        self._adam = torch.optim.Adam(self.parameters, lr=learning_rate, eps=epsilon, fused=True)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(
        self, learning_rate: float, max_norm: float, healthy: Bool[Tensor, ""]
    ) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
        """Clips and steps, unless `healthy` is False or the gradient is not finite.

        Args:
            learning_rate: of this step.
            max_norm: gradients longer than this are shortened to it; 0 for no clipping.
            healthy: whether the losses behind the gradients were finite.

        Returns:
            The norm before clipping, and whether the step was taken.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:  # a head that had nothing to learn from
            return torch.zeros_like(healthy, dtype=torch.float32), torch.zeros_like(healthy)
        norms = torch._foreach_norm(gradients)
        norm = torch.linalg.vector_norm(torch.stack(norms))
        taken = healthy & norm.isfinite()
        if max_norm > 0:
            torch._foreach_mul_(gradients, (max_norm / norm).clamp(max=1.0))
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        # Read by Adam itself, though not declared.
        self._adam.found_inf = (~taken).float()  # type: ignore[attr-defined]
        self._adam.step()
        return norm, taken

    def state_dict(self) -> dict[str, Any]:
        """The moments and step counts."""
        state: dict[str, Any] = self._adam.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict`."""
        self._adam.load_state_dict(state)

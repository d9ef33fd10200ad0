"""Adam for one owner of parameters: clips by that owner's norm, skips what is not finite."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.runtime.graphs import Scalar


class OwnerOptimizer:
    """Steps the parameters of the agent, of one head or of the algorithm.

    Whether to skip is decided on the device: the fused Adam leaves weights and
    moments untouched where `found_inf` is 1 (the hook that `torch.amp.GradScaler`
    uses), so nothing waits and a non-finite gradient never reaches the weights.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        epsilon: float,
        beta_1: float = 0.9,
    ) -> None:
        """Makes a fused Adam for the parameters.

        Args:
            parameters: all that one owner has.
            learning_rate: of Adam.
            epsilon: of Adam, added to the square root of the second moment.
            beta_1: of Adam, the share of the first moment that a step keeps.
        """
        self.parameters = list(parameters)
        self._adam = torch.optim.Adam(
            self.parameters, lr=learning_rate, betas=(beta_1, 0.999), eps=epsilon, fused=True
        )

    def capture(self) -> None:
        """Lets steps be captured in CUDA graphs; their learning rate must then be a tensor."""
        self._adam.param_groups[0]["capturable"] = self.parameters[0].device.type == "cuda"

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(
        self, learning_rate: Scalar, max_norm: float, healthy: Bool[Tensor, ""]
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

    def denominator(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, " P"] | None:
        """By what Adam divides each number of a gradient: sqrt(v / (1 - beta_2^t)) + epsilon.

        As the moments are now; of the next step, Adam first adds the square of its gradient.  1
        until a step was taken.

        Args:
            parameters: some of the optimizer's.

        Returns:
            None as long as there are no moments.
        """
        state = self._adam.state
        if not parameters or parameters[0] not in state:
            return None
        (group,) = self._adam.param_groups
        decay = group["betas"][1]
        pieces = []
        for parameter in parameters:
            moments = state[parameter]
            correction = 1 - decay ** moments["step"]
            root = (moments["exp_avg_sq"] / correction).sqrt() + group["eps"]
            # A first step that was skipped leaves moments, but of nothing.
            pieces.append(torch.where(moments["step"] > 0, root, 1.0).flatten())
        return torch.cat(pieces)

    def state_dict(self) -> dict[str, Any]:
        """The moments and step counts, the same whether steps are captured or not."""
        state: dict[str, Any] = self._adam.state_dict()
        for group in state["param_groups"]:
            group |= {"lr": float(group["lr"]), "capturable": False}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict`."""
        (group,) = self._adam.param_groups
        capturable = group["capturable"]
        self._adam.load_state_dict(state)
        self._adam.param_groups[0]["capturable"] = capturable

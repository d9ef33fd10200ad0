"""The metric of the step that is taken: gradients as Adam's step sizes scale them.

A plain step along -d changes the main loss by -<g, d>, to first order; Adam's, D^-1 d with
D = sqrt(v) + epsilon, by -<g, D^-1 d>.  Rows times D^-1/2 have these as inner products.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates import main_cosine


@dataclass(frozen=True)
class Metric:
    """Scales columns before they are judged, and the direction back."""

    scale: Float[Tensor, " P"] | None = None
    """D^-1/2; none: gradients as they are."""

    @staticmethod
    def of_adam(denominator: Float[Tensor, " P"] | None) -> "Metric":
        """The metric of a step that is divided by `denominator`; plain where there is none yet."""
        return Metric(None if denominator is None else denominator.rsqrt())

    def enter(self, rows: Float[Tensor, "*rows P"]) -> Float[Tensor, "*rows P"]:
        """Rows to judge."""
        return rows if self.scale is None else rows * self.scale

    def leave(self, direction: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """The direction as a gradient again."""
        return direction if self.scale is None else direction / self.scale

    def sign_differs(self, rows: Float[Tensor, "L P"]) -> Float[Tensor, " K"]:
        """1 where the sign of the cosine with row 0 is another one than the plain one, else 0.

        NaN, not measured, in the plain metric.
        """
        plain = main_cosine(rows)
        if self.scale is None:
            return torch.full_like(plain, torch.nan)
        return (plain.sign() != main_cosine(self.enter(rows)).sign()).to(plain.dtype)

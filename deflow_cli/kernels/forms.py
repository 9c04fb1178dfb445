"""Scale form: how a net's output becomes the positive scale of an affine coupling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deflow_cli.kernels import reference


@dataclass(frozen=True)
class ScaleForm:
    """How a net's output becomes a positive scale. kind: published | bounded."""

    kind: str = "published"
    eps: float = 1e-3
    bound: float = 1.0

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (scale, log scale)."""
        if self.kind == "published":
            return reference.published_scale(raw, self.eps)
        return reference.bounded_scale(raw, self.bound)

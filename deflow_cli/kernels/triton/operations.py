"""All fused operations of this backend, under the names of the reference."""

from deflow_cli.kernels.triton.affine import INTERPRETED, coupling_forward, coupling_inverse
from deflow_cli.kernels.triton.weight_gradients import weight_gradients

__all__ = ["INTERPRETED", "coupling_forward", "coupling_inverse", "weight_gradients"]

"""Variant: where the published flows of this family differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FlowVariant:
    """Choices by which published flows differ; the defaults are DeFlow's (CVPR 2021, section 3.3).

    SRFlow (ECCV 2020) is ``FlowVariant("multiply", "before", "dense", split_eps=0.0)``.

    encoding: whether couplings and injectors divide by their scale when they encode, z / s - b, or multiply,
    (z + b) s. injector: its place in the encoding, after or before the coupling. pointwise: the 1x1
    convolution's parameters, an LU decomposition or the dense matrix. split_eps: added to the split's scale
    in encoding alone.
    """

    encoding: Literal["divide", "multiply"] = "divide"
    injector: Literal["after", "before"] = "after"
    pointwise: Literal["lu", "dense"] = "lu"
    split_eps: float = 1e-6


DEFLOW = FlowVariant()

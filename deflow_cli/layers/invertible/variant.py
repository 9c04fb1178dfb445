"""Variant: where the published flows of this family differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from deflow_cli.kernels.reference import ScaleForm


@dataclass(frozen=True)
class FlowVariant:
    """Choices by which published flows differ; the defaults are DeFlow's (CVPR 2021, section 3.3).

    SRFlow (ECCV 2020) is ``FlowVariant("multiply", "before", "dense", split_eps=0.0)``.

    encoding: whether couplings and injectors divide by their scale when they encode, z / s - b, or multiply,
    (z + b) s. injector: its place in the encoding, after or before the coupling. pointwise: the 1x1
    convolution's parameters, an LU decomposition or the dense matrix. split_eps: added to the split's scale
    in encoding alone. coupling_bound: c of the couplings' bounded scales; 0: as that of the injectors.
    """

    encoding: Literal["divide", "multiply"] = "divide"
    injector: Literal["after", "before"] = "after"
    pointwise: Literal["lu", "dense"] = "lu"
    split_eps: float = 1e-6
    coupling_bound: float = 0.0

    def coupling_form(self, form: ScaleForm) -> ScaleForm:
        """How couplings scale, where injectors scale by ``form``."""
        return replace(form, bound=self.coupling_bound) if self.coupling_bound else form


DEFLOW = FlowVariant()

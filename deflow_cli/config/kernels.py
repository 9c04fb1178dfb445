"""How blur kernels are estimated: the settings of `deflow kernels`, checked at birth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deflow_cli.config.checks import require

KernelMethod = Literal["spectrum", "kernelgan"]
KERNEL_METHODS: tuple[KernelMethod, ...] = ("spectrum", "kernelgan")
KERNEL_SCALES = (2, 4)
PUBLISHED_ITERATIONS = 3000


@dataclass(frozen=True)
class KernelSettings:
    """What the kernels of one folder have in common.

    scale: of the down-sampling that a kernel is for. iterations, seed: of KernelGAN; the spectrum has none.
    """

    method: KernelMethod = "spectrum"
    scale: int = 2
    iterations: int = PUBLISHED_ITERATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        methods = ", ".join(KERNEL_METHODS)
        require(self.method in KERNEL_METHODS, f"kernel method {self.method!r}", f"use one of {methods}")
        require(self.scale in KERNEL_SCALES, f"kernel scale {self.scale}", "use 2 or 4")
        require(self.iterations >= 1, f"{self.iterations} iterations", "use 1 or more")
        require(self.seed >= 0, f"seed {self.seed}", "use 0 or more")

    @property
    def text(self) -> str:
        """In words."""
        if self.method == "spectrum":
            return f"spectrum, x{self.scale}"
        return f"{self.method}, x{self.scale}, {self.iterations} iterations, seed {self.seed}"

"""Rates: how long the steps of an experiment take and what they write, estimated before any is done.

Seconds are of one GPU (NVIDIA H200) with 16 cores. Measured there (docs/benchmarks.md): a step of AIM's fit
in float32, a GAN step, degrading and restoring. Derived: fits of other presets, by multiply-adds and pixels;
an L1 step, half a GAN step. Assumed: all that a CPU does, PNG files, and sizes of images that cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass

from deflow_cli.config.fit import RunConfig
from deflow_cli.config.restorer import SrConfig
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.layouts import FoundPart
from deflow_cli.workflows.reproduce.recipes import BaselineConfig
from deflow_cli.workflows.reproduce.steps.base import Cost

AIM_STEP = 0.119  # s, 8 patches of 160 px
AIM_WORK = 4776.0  # thousand multiply-adds a pixel of an input with h at 1/8, and of those at 1/4
OTHER_WORK = 3292.0
AIM_PIXELS = 8 * 160**2
GAN_STEP = 0.0348  # s, 16 crops of 128 px
L1_SHARE = 0.5
KERNEL = 20.0  # s, of KernelGAN: assumed
BASELINE_STEP = 0.03  # s, of every method: assumed
GAN_PIXELS = 16 * 128**2
DEGRADE = 0.21  # s per megapixel
RESTORE = 0.39  # s per megapixel of inputs
SCORE = 0.5  # s per megapixel of outputs
PICTURES = 0.1  # s per megapixel read, made small and written
REALISM_SECONDS = 300.0  # s for a set
CLEAN_PNG, NOISY_PNG = 1.6, 2.4  # bytes per pixel
ASSUMED_SIZE = 2.8e6  # pixels of an image whose header cannot be read
BASELINE_BYTES = 1e8
FLOW_BYTES, RESTORER_BYTES = 1.0e9, 0.9e9  # run folders with weights, averages and optimisers' states
HOW = (
    "Estimated for one NVIDIA H200 and 16 cores from rates: a step of AIM's fit 119 ms, a GAN step 34.8 ms, "
    "degrading 0.21 s and restoring 0.39 s a megapixel (measured, docs/benchmarks.md); other fits by their "
    "multiply-adds and pixels, an L1 step half a GAN step; a step of another method's fit, work of the CPU "
    "and sizes of files assumed."
)
# With --scale-down: seconds on two cores, assumed for all.
SMALL_STEP, SMALL_TRAINING, SMALL_WORK = 0.35, 30.0, 10.0
HOW_SMALL = (
    "Scaled down: 0.35 s for a step of a flow's fit, 30 s for any other training and 10 s for any other "
    "step, on two cores, assumed."
)


@dataclass(frozen=True)
class Rates:
    """Costs of steps. small: with --scale-down, for a CPU."""

    small: bool = False

    def pictures(self, part: FoundPart) -> Cost:
        """Make the images of a part small."""
        size = pixels_of(part)
        return self._cost(size / 1e6 * PICTURES, size / SR_SCALE**2 * CLEAN_PNG)

    def fit(self, config: RunConfig) -> Cost:
        """Train a flow."""
        if self.small or config.fit.time_budget:
            return Cost(config.fit.time_budget or config.fit.iterations * SMALL_STEP, 0.01 * FLOW_BYTES)
        work = (AIM_WORK if config.flow.downsample == 8 else OTHER_WORK) / AIM_WORK
        pixels = config.fit.batch_size * config.fit.patch_size**2 / AIM_PIXELS
        return Cost(config.fit.iterations * AIM_STEP * work * pixels, FLOW_BYTES)

    def kernels(self, images: int) -> Cost:
        """Estimate blur kernels."""
        return self._cost(images * KERNEL, images * 1e4)

    def baseline(self, config: BaselineConfig) -> Cost:
        """Train another method's network."""
        if self.small or config.fit.time_budget:
            return Cost(config.fit.time_budget or SMALL_TRAINING, 0.01 * FLOW_BYTES)
        return Cost(config.fit.iterations * BASELINE_STEP, BASELINE_BYTES)

    def restorer(self, config: SrConfig) -> Cost:
        """Train a restorer, in its one stage."""
        if self.small or config.sr.time_budget:
            return Cost(config.sr.time_budget or SMALL_TRAINING, 0.01 * RESTORER_BYTES)
        gan = config.sr.stage == "gan"
        steps = config.gan.iterations if gan else config.psnr.iterations
        pixels = config.sr.batch_size * config.sr.gt_size**2 / GAN_PIXELS
        return Cost(steps * GAN_STEP * (1.0 if gan else L1_SHARE) * pixels, RESTORER_BYTES)

    def pairs(self, hr: FoundPart) -> Cost:
        """Make a degraded image for every clean one, and copy that beside it."""
        size = pixels_of(hr)
        seconds = size / 1e6 * PICTURES + size / SR_SCALE**2 / 1e6 * DEGRADE
        return self._cost(seconds, size * CLEAN_PNG + size / SR_SCALE**2 * NOISY_PNG)

    def scores(self, inputs: FoundPart, models: int) -> Cost:
        """Restore the validation images by several models, and score them."""
        size = pixels_of(inputs, ASSUMED_SIZE / SR_SCALE**2)
        seconds = size / 1e6 * (RESTORE + SR_SCALE**2 * SCORE)
        return self._cost(models * seconds, models * size * SR_SCALE**2 * CLEAN_PNG)

    def realism(self, inputs: FoundPart) -> Cost:
        """Degrade the validation images and compare them with the real ones."""
        size = pixels_of(inputs, ASSUMED_SIZE / SR_SCALE**2)
        return self._cost(REALISM_SECONDS + size / 1e6 * DEGRADE, size * NOISY_PNG)

    def _cost(self, seconds: float, size: float) -> Cost:
        return Cost(SMALL_WORK if self.small else seconds, size)


def pixels_of(part: FoundPart, assumed: float = ASSUMED_SIZE) -> float:
    """By the headers, or ``assumed`` for each image where those cannot be read."""
    return float(part.pixels) or len(part.images) * assumed

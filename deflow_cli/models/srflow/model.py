"""SRFlow: a conditional flow from images to Gaussian latents, given their small versions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.config.srflow import SRFlowModelConfig
from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.base import Condition, RunSettings
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.variant import DEFLOW, FlowVariant
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from deflow_cli.layers.networks.upsampled import LevelFeatures
from deflow_cli.models.srflow.enlarging import enlarged

PUBLISHED = FlowVariant("multiply", "before", "dense", split_eps=0.0)


class SRFlow(nn.Module):
    """Learns p(y | x) of images y given small images x by one invertible f (Lugmayr et al., ECCV 2020).

    z = f(y; x) ~ N(0, I), so y = f^-1(z; x) with z ~ N(0, tau^2 I) is a super-resolution of x at temperature
    tau, the standard deviation of the latents. With ``srflow.residual`` the flow models y less an enlarged x,
    whose log-determinant is zero (FS-NCSR, CVPRW 2022).

    Images are float in [0, 1], BCHW; x has sides that are multiples of ``size_multiple``, y has ``scale``
    times them (else ShapeError). :class:`deflow_cli.inference.super_resolving.SuperResolver` takes any size.

    >>> from deflow_cli.config.model import EncoderConfig
    >>> from deflow_cli.config.srflow import SRFlowConfig
    >>> encoder = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
    >>> model = SRFlow(SRFlowModelConfig(SRFlowConfig(scale=4, steps=2, hidden_channels=8), encoder))
    >>> random = torch.Generator().manual_seed(0)
    >>> x, y = torch.rand(1, 3, 8, 8, generator=random), torch.rand(1, 3, 32, 32, generator=random)
    >>> conditions = model.prepare(x)
    >>> latents, log_det = model.encode(y, x, conditions)
    >>> bool((model.decode(latents, x, conditions) - y).abs().max() < 1e-5)
    True
    """

    def __init__(self, config: SRFlowModelConfig, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        srflow, flow = config.srflow, config.flow
        extra = int(srflow.is_told_strength) + int(srflow.contrast)
        self.encoder = ConditionEncoder(config.encoder, flow, generator, extra_channels=extra)
        variant = FlowVariant(
            "multiply" if srflow.form == "direct" else DEFLOW.encoding,
            "before" if srflow.form == "direct" else DEFLOW.injector,
            srflow.pointwise,
            split_eps=PUBLISHED.split_eps,
            coupling_bound=srflow.coupling_bound,
        )
        self.flow = ConditionalFlow.from_config(flow, self.encoder.feature_channels, generator, variant)
        self._runs: RunSettings | None = None  # set by ``train_in_runs``

    @property
    def scale(self) -> int:
        """Sides of y over those of x."""
        return self.config.scale

    @property
    def size_multiple(self) -> int:
        """Sides of x are multiples of this, so that every level of the flow has whole positions."""
        return max(2**self.config.srflow.levels // self.scale, 1)

    def set_net_precision(self, dtype: torch.dtype | None) -> None:
        """Run encoder and networks in ``dtype`` (bfloat16) by autocast; None: as the parameters are."""
        self.encoder.autocast_dtype = dtype
        self.flow.set_network_precision(dtype)

    def train_in_runs(self, *, compiled: bool = False) -> None:
        """Encode with gradients as suits a GPU: layers of equal shapes share their work (``encode_runs``)."""
        self._runs = RunSettings(compiled=compiled)
        self.encoder.trunk_together, self.encoder.compiled = True, compiled

    # -- what depends on x alone ----------------------------------------------------------------------

    def encoder_input(self, x_bchw: Tensor, strength_b: Tensor | None = None) -> Tensor:
        """What the encoder sees: x; the noise on y as one more channel, where the model is told of it; and
        with ``srflow.contrast`` the local contrast of x.

        strength_b: standard deviation of that noise over the largest of the training, 0 to 1; None: none.
        """
        srflow, seen = self.config.srflow, [x_bchw]
        batch, _, height, width = x_bchw.shape
        if srflow.is_told_strength:
            strength = x_bchw.new_zeros(batch) if strength_b is None else strength_b.to(x_bchw)
            seen.append(strength.view(-1, 1, 1, 1).expand(-1, 1, height, width))
        if srflow.contrast:
            seen.append(local_contrast(x_bchw))
        return torch.cat(seen, dim=1) if len(seen) > 1 else x_bchw

    def prepare(self, x_bchw: Tensor, strength_b: Tensor | None = None) -> list[Condition | None]:
        """All that the flow needs of x; it serves encoding, decoding and every further sample."""
        return self.prepare_features(self.encoder.features(self.encoder_input(x_bchw, strength_b)))

    def prepare_features(self, features: Sequence[LevelFeatures]) -> list[Condition | None]:
        """The same, of features that were computed or cut out elsewhere."""
        return self.flow.prepare(features)

    def base(self, x_bchw: Tensor) -> Tensor | None:
        """The enlarged x that is subtracted from y before the flow; None where nothing is."""
        return enlarged(x_bchw, self.scale, self.config.srflow.residual)

    # -- the flow -------------------------------------------------------------------------------------

    def encode(
        self, y_bchw: Tensor, x_bchw: Tensor, conditions: Sequence[Condition | None]
    ) -> tuple[list[Tensor], Tensor]:
        """Latents, finest first, and the log-determinant per sample."""
        self._check_sides(y_bchw, x_bchw)
        return self.flow.encode(self._less_base(y_bchw, x_bchw), conditions)

    def encode_for_training(
        self, y_bchw: Tensor, x_bchw: Tensor, strength_b: Tensor | None = None, *, low_memory: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """``encode`` with the work ordered for gradients.

        low_memory: networks are computed anew in the backward pass, of which only the inputs are kept.
        """
        self._check_sides(y_bchw, x_bchw)
        z = self._less_base(y_bchw, x_bchw)
        in_runs = self._runs is not None and torch.is_grad_enabled()
        if not low_memory and not in_runs:
            return self.flow.encode(z, self.prepare(x_bchw, strength_b))
        features = self.encoder.features(self.encoder_input(x_bchw, strength_b), recompute=low_memory)
        if self._runs is None or not in_runs:
            return self.flow.encode_recomputing(z, features)
        return self.flow.encode_runs(z, features, self._runs._replace(recompute=low_memory))

    def decode(
        self, latents: Sequence[Tensor], x_bchw: Tensor, conditions: Sequence[Condition | None]
    ) -> Tensor:
        """The image of given latents, unclamped."""
        y = self.flow.decode(latents, conditions)[0]
        base = self.base(x_bchw)
        return y if base is None else y + base

    def log_prob(self, y_bchw: Tensor, x_bchw: Tensor, conditions: Sequence[Condition | None]) -> Tensor:
        """log p(y | x) in nats per sample."""
        latents, log_det = self.encode(y_bchw, x_bchw, conditions)
        return log_standard_normal(latents) + log_det

    def bits_per_dim(self, log_prob_b: Tensor, dimensions: int, levels: int | None = None) -> Tensor:
        """-log2 p per dimension of images of so many levels; None: those of the training's noise.

        With uniform noise of 1 / levels it bounds the bits of a lossless code; with Gaussian or without noise
        it is a density on the scale of 256 levels.
        """
        srflow = self.config.srflow
        levels = levels or (srflow.noise_levels if srflow.noise == "uniform" else 256)
        return (math.log(levels) - log_prob_b / dimensions) / math.log(2.0)

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, H, W) of each latent for x of height x width."""
        return self.flow.latent_shapes(height * self.scale, width * self.scale)

    def start(self, y_bchw: Tensor, x_bchw: Tensor, strength_b: Tensor | None, *, regression: bool) -> None:
        """Start the ActNorms, and with ``regression`` the linear parts, from a first batch."""
        features = self.encoder.features(self.encoder_input(x_bchw, strength_b))
        scale = regression and self.config.srflow.affine == "bounded"
        self.flow.start(self._less_base(y_bchw, x_bchw), features, whiten=regression, scale=scale)

    def _less_base(self, y_bchw: Tensor, x_bchw: Tensor) -> Tensor:
        base = self.base(x_bchw)
        return y_bchw if base is None else y_bchw - base

    def _check_sides(self, y_bchw: Tensor, x_bchw: Tensor) -> None:
        height, width = x_bchw.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ShapeError(f"sides {height}x{width} of x are not multiples of {self.size_multiple}")
        if y_bchw.shape[-2:] != (height * self.scale, width * self.scale):
            raise ShapeError(
                f"y has sides {y_bchw.shape[-2]}x{y_bchw.shape[-1]}, not {self.scale} times those of x, "
                f"{height}x{width}"
            )


def local_contrast(x_bchw: Tensor) -> Tensor:
    """log2 of the standard deviation of the channels' mean over 3 x 3 pixels, in grey levels plus 1: B 1 H W.

    Divided by 4, about the range of images. It tells where x leaves much detail open.
    """
    gray = 255.0 * x_bchw.mean(1, keepdim=True)
    mean = F.avg_pool2d(gray, 3, 1, 1, count_include_pad=False)
    square = F.avg_pool2d(gray.square(), 3, 1, 1, count_include_pad=False)
    return torch.log2(1.0 + (square - mean.square()).clamp_min(0.0).sqrt()) / 4.0


def log_standard_normal(latents: Sequence[Tensor]) -> Tensor:
    """log N(z; 0, I) of all latents of each sample: B."""
    parts = [-0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1) for z in latents]
    return torch.stack(parts).sum(0)

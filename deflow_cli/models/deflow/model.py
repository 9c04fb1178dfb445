"""DeFlow: one conditional flow, two domains, a learned shift between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deflow_cli.config.model import ModelConfig
from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.actnorm import start_actnorms_from_next_batch
from deflow_cli.layers.invertible.base import Condition, RunSettings
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from deflow_cli.models.deflow.conditioning import DomainStatistics, condition_image
from deflow_cli.models.deflow.grain import Grain
from deflow_cli.models.deflow.latent import LatentPrior, log_normal

Conditions = Sequence[Condition | None]

CLEAN, DEGRADED = 0, 1


class DeFlow(nn.Module):
    """Learns p(x) of clean and p(y) of degraded images with one invertible f (Wolf et al., CVPR 2021).

    z_x = f(x; h(x)) ~ N(0, I) and z_y = f(y; h(y)) ~ N(mu, I + M M^T), or with ``flow.gain`` a contraction
    A, N(mu, A A^T + M M^T). Images are float in [0, 1], BCHW; inside the flow their sides must be multiples
    of ``size_multiple`` (else ShapeError).
    :class:`deflow_cli.inference.degradation_model.DegradationModel` takes images of any size.
    """

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        flow = config.flow
        self.encoder = (
            ConditionEncoder(config.encoder, flow, generator) if flow.conditioning == "encoder" else None
        )
        condition_channels = self.encoder.feature_channels if self.encoder is not None else 0
        self.flow = ConditionalFlow.from_config(flow, condition_channels, generator)
        self.prior = LatentPrior(
            [c for c, _ in self.flow.latent_plan],
            flow.components,
            diagonal=flow.shift == "diagonal",
            contracts=flow.gain == "contraction",
        )
        self.statistics = DomainStatistics(flow.in_channels)
        self.grain = Grain(flow.in_channels) if flow.grain == "matched" else None
        self._runs: RunSettings | None = None  # set by ``train_in_runs``

    @property
    def size_multiple(self) -> int:
        """Sides of images inside the flow are multiples of this."""
        return self.config.flow.size_multiple

    def set_net_precision(self, dtype: torch.dtype | None) -> None:
        """Run encoder and nets in ``dtype`` (bfloat16) by autocast; None: as the parameters are."""
        if self.encoder is not None:
            self.encoder.autocast_dtype = dtype
        self.flow.set_network_precision(dtype)

    def train_in_runs(self, *, compiled: bool = False) -> None:
        """Encode with gradients as suits a GPU: layers of equal shapes share their work (``encode_runs``).

        compiled: by functions of ``torch.compile``, made at the first call and shared by layers of one size.
        Weights, their names and what they compute stay, up to rounding.
        """
        self._runs = RunSettings(compiled=compiled)
        if self.encoder is not None:
            self.encoder.trunk_together, self.encoder.compiled = True, compiled

    # -- conditioning ---------------------------------------------------------------------------------

    def condition_image(self, image_bchw: Tensor, domain: int = CLEAN) -> Tensor:
        """h(x) without noise, of images of one domain: (B, C, H / s, W / s)."""
        h = condition_image(image_bchw, self.config.flow.downsample)
        return self.statistics.to_clean_h(h) if domain == DEGRADED else h

    def prepare(self, h_bchw: Tensor) -> Conditions:
        """All that depends on the (noisy) h alone; serves encoding, decoding and every further sample."""
        if self.encoder is None:
            return [None] * len(self.flow.layers)
        return self.flow.prepare(self.encoder.features(h_bchw))

    # -- likelihood -----------------------------------------------------------------------------------

    def encode(
        self, x_bchw: Tensor, h_bchw: Tensor, *, low_memory: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """Latents and log-det per sample, of images and their noisy h.

        low_memory: for training; the nets are computed anew in the backward pass instead of kept.
        """
        in_runs = self._runs is not None and torch.is_grad_enabled()
        if not low_memory and not in_runs:
            return self.encode_conditioned(x_bchw, self.prepare(h_bchw))
        self._check_sides(x_bchw)
        features = None if self.encoder is None else self.encoder.features(h_bchw, recompute=low_memory)
        if self._runs is None or not in_runs:
            return self.flow.encode_recomputing(x_bchw, features)
        return self.flow.encode_runs(x_bchw, features, self._runs._replace(recompute=low_memory))

    def encode_conditioned(self, x_bchw: Tensor, conditions: Conditions) -> tuple[list[Tensor], Tensor]:
        """Latents and log-det per sample."""
        self._check_sides(x_bchw)
        return self.flow.encode(x_bchw, conditions)

    def _check_sides(self, x_bchw: Tensor) -> None:
        height, width = x_bchw.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ShapeError(f"sides {height}x{width} are not multiples of {self.size_multiple}")

    def decode_conditioned(self, latents: Sequence[Tensor], conditions: Conditions) -> Tensor:
        """The image of given latents."""
        return self.flow.decode(latents, conditions)[0]

    def pair_log_prob(
        self, z_clean: Sequence[Tensor], z_degraded: Sequence[Tensor], log_det: Tensor, jitter: float = 1e-3
    ) -> Tensor:
        """log p(y | x) = log N(z_y - A z_x; mu, M M^T) + log|det| (eq. 5), in nats per sample.

        ``jitter`` (a variance) keeps M M^T invertible. Both latents come from the same conditions, h(x):
        given x, they must not depend on y. log_det: of the encoding of y, B.
        """
        parts = []
        for latent, zx, zy in zip(self.prior.shared(), z_clean, z_degraded, strict=True):
            eye = torch.eye(latent.channels, dtype=zy.dtype, device=zy.device)
            covariance = latent.covariance() + jitter * eye
            parts.append(log_normal(zy - latent.kept(zx), latent.mean, covariance_kcc=covariance))
        return torch.logsumexp(torch.stack(parts).sum(0) + self.prior.log_weights(), dim=1) + log_det

    def nats_to_bits_per_dim(
        self, log_prob_b: Tensor, shape: torch.Size, levels: int | None = None
    ) -> Tensor:
        """-log2 p per dimension of images with sides H, W, quantised to ``levels`` (default: training's)."""
        dims = math.prod(shape[1:])
        levels = levels or self.config.flow.quantization_levels
        return (math.log(levels) - log_prob_b / dims) / math.log(2.0)

    # -- start ----------------------------------------------------------------------------------------

    def start_from_next_batch(self) -> None:
        """Make every ActNorm initialise itself from the next batch that it sees."""
        start_actnorms_from_next_batch(self.flow)

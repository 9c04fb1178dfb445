"""The shared latent: clean images are N(0, I), degraded ones N(mu, A A^T + M M^T) or a mixture of such."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2.0 * math.pi)


class SharedLatent(nn.Module):
    """Shift (mu_k, M_k) of one latent tensor, k = 1 .. K (DeFlow, CVPR 2021, eq. 2 and 3).

    mean_kc: mu. root_kcc: M (C x C), or its diagonal root_kc. Positions of the latent are independent.
    gain_cc: A, one for all components, of a latent that ``contracts``; the paper's have none, and A = I.
    """

    gain: Tensor | None

    def __init__(
        self, channels: int, components: int = 1, diagonal: bool = False, contracts: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        self.diagonal = diagonal
        self.mean = nn.Parameter(torch.zeros(components, channels))
        shape = (components, channels) if diagonal else (components, channels, channels)
        self.root = nn.Parameter(torch.zeros(shape))
        self.register_buffer("gain", torch.eye(channels) if contracts else None)

    def kept(self, z_bchw: Tensor) -> Tensor:
        """A z: what a degradation keeps of clean latents."""
        return z_bchw if self.gain is None else torch.einsum("ij,bjhw->bihw", self.gain, z_bchw)

    def kept_covariance(self) -> Tensor:
        """A A^T, of clean latents that are N(0, I): C x C."""
        eye = torch.eye(self.channels, dtype=self.mean.dtype, device=self.mean.device)
        return eye if self.gain is None else self.gain @ self.gain.T

    def root_matrix(self) -> Tensor:
        """M as K x C x C."""
        return torch.diag_embed(self.root) if self.diagonal else self.root

    def covariance(self) -> Tensor:
        """C = M M^T as K x C x C."""
        root = self.root_matrix()
        return root @ root.mT

    def detail_kept(self) -> float:
        """Share of the clean latents' variance that degraded ones keep: the mean eigenvalue of A A^T."""
        return float(torch.trace(self.kept_covariance()) / self.channels)

    def spectrum(self) -> Tensor:
        """Eigenvalues of M M^T, largest first (K x C, float64)."""
        return torch.linalg.svdvals(self.root_matrix().detach().double()).square()

    @torch.no_grad()
    def set_moments(self, component: int, mean_c: Tensor, covariance_cc: Tensor) -> None:
        """Take mu and the positive part of a covariance as M M^T (eigenvalues clipped at 0)."""
        self.mean[component].copy_(mean_c)
        if self.diagonal:
            self.root[component].copy_(torch.diagonal(covariance_cc).clamp_min(0).sqrt())
            return
        values, vectors = torch.linalg.eigh(covariance_cc.double())
        self.root[component].copy_(vectors * values.clamp_min(0).sqrt())

    @torch.no_grad()
    def set_gain(self, gain_cc: Tensor) -> None:
        """Take A, of a latent that contracts."""
        assert self.gain is not None
        self.gain.copy_(gain_cc)

    def log_prob_degraded(self, z_bchw: Tensor) -> Tensor:
        """log N(z; mu_k, A A^T + M_k M_k^T) summed over positions: B x K."""
        if self.diagonal and self.gain is None:
            return log_normal(z_bchw, self.mean, variance_kc=1.0 + self.root.square())
        return log_normal(z_bchw, self.mean, covariance_kcc=self.kept_covariance() + self.covariance())

    def posterior_matrices(self) -> tuple[Tensor, Tensor]:
        """Of z_x given z_y: B = A^T (A A^T + C)^-1 and a root of the covariance I - B A, each K x C x C.

        With A = I those are (I + C)^-1 and C (I + C)^-1.
        """
        if self.gain is not None:
            kept = self.gain.double()
            both = kept @ kept.T + self.covariance().double()
            back = torch.linalg.solve(both, kept.expand_as(both)).mT
            left_over = torch.eye(self.channels, dtype=both.dtype, device=both.device) - back @ kept
            values, vectors = torch.linalg.eigh(0.5 * (left_over + left_over.mT))
            spread = vectors * values.clamp_min(0).sqrt()[:, None, :]
            return back.to(self.mean.dtype), spread.to(self.mean.dtype)
        left, singular, _ = torch.linalg.svd(self.root_matrix().double())
        power = singular.square()
        gain = (left / (1.0 + power)[:, None, :]) @ left.mT
        root = left * (power / (1.0 + power)).sqrt()[:, None, :]
        return gain.to(self.mean.dtype), root.to(self.mean.dtype)


def log_normal(
    z_bchw: Tensor,
    mean_kc: Tensor,
    *,
    covariance_kcc: Tensor | None = None,
    variance_kc: Tensor | None = None,
) -> Tensor:
    """log N(z; mean_k, covariance_k) per position, summed over the positions of an image: B x K.

    Either a covariance, or the variances of one that is diagonal. NaN where a covariance is not positive
    definite.
    """
    batch, channels = z_bchw.shape[:2]
    positions = z_bchw[0, 0].numel()
    z_cn = z_bchw.flatten(2).transpose(0, 1).reshape(channels, -1)
    centred_kcn = z_cn[None] - mean_kc[:, :, None]
    if variance_kc is not None:
        square_kn = (centred_kcn.square() / variance_kc[:, :, None]).sum(1)
        log_det_k = variance_kc.log().sum(1)
    else:
        assert covariance_kcc is not None
        factor_kcc, log_det_k = factorised(covariance_kcc)
        white_kcn = torch.linalg.solve_triangular(factor_kcc, centred_kcn, upper=False)
        square_kn = white_kcn.square().sum(1)
    square_kb = square_kn.reshape(-1, batch, positions).sum(2)
    constant = positions * (channels * LOG_2PI + log_det_k)
    return -0.5 * (square_kb + constant[:, None]).T


def factorised(covariance_kcc: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors (K x C x C) and log-determinants (K) of covariances.

    The log-determinant is NaN where a covariance is not positive definite. ``torch.linalg.cholesky`` raises
    there, for which the host waits for the device at every call.
    """
    factor_kcc, info_k = torch.linalg.cholesky_ex(covariance_kcc)
    log_det_k = 2.0 * torch.diagonal(factor_kcc, dim1=1, dim2=2).log().sum(1)
    return factor_kcc, log_det_k.masked_fill(info_k != 0, math.nan)


class LatentPrior(nn.Module):
    """All latents together; with K > 1 components one k per image, shared by its latents and positions.

    p(z_y) = sum_k pi_k prod N(z; mu_k, A A^T + M_k M_k^T), the product over latents and positions.
    """

    def __init__(
        self, channels: Sequence[int], components: int = 1, diagonal: bool = False, contracts: bool = False
    ) -> None:
        super().__init__()
        self.components = components
        self.latents = nn.ModuleList(SharedLatent(c, components, diagonal, contracts) for c in channels)
        self.weight_logits = nn.Parameter(torch.zeros(components), requires_grad=components > 1)

    def shared(self) -> list[SharedLatent]:
        return cast("list[SharedLatent]", list(self.latents))

    def log_weights(self) -> Tensor:
        """log pi_k."""
        return torch.log_softmax(self.weight_logits, dim=0)

    def log_prob_clean(self, latents: Sequence[Tensor]) -> Tensor:
        """log N(z; 0, I) over all latents: B."""
        return -0.5 * torch.stack([(z.square() + LOG_2PI).flatten(1).sum(1) for z in latents]).sum(0)

    def log_prob_components(self, latents: Sequence[Tensor]) -> Tensor:
        """log pi_k + log p(z | k) of degraded latents: B x K."""
        parts = [latent.log_prob_degraded(z) for latent, z in zip(self.shared(), latents, strict=True)]
        return torch.stack(parts).sum(0) + self.log_weights()

    def log_prob_degraded(self, latents: Sequence[Tensor]) -> Tensor:
        """log p(z_y): B."""
        return torch.logsumexp(self.log_prob_components(latents), dim=1)

    def log_prob(self, latents: Sequence[Tensor], labels_b: Tensor) -> Tensor:
        """Clean where the label is 0, degraded where it is 1: B."""
        degraded = labels_b.bool()
        result = torch.empty(labels_b.shape, dtype=latents[0].dtype, device=latents[0].device)
        if bool((~degraded).any()):
            result = result.masked_scatter(~degraded, self.log_prob_clean([z[~degraded] for z in latents]))
        if bool(degraded.any()):
            result = result.masked_scatter(degraded, self.log_prob_degraded([z[degraded] for z in latents]))
        return result

    def responsibilities(self, latents: Sequence[Tensor]) -> Tensor:
        """p(k | z_y): B x K."""
        return torch.softmax(self.log_prob_components(latents), dim=1)

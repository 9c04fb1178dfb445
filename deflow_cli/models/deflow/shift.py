"""The shift between the domains' latents, as a model has learned it or as a reference image shows it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from deflow_cli.models.deflow.latent import LatentPrior

Latents = Sequence[Tensor]


class ShiftDistribution:
    """The distribution of u in z_y = A z_x + u: a prior's components and their probabilities (K).

    The temperature scales all of u's spread about its mean m = sum_k p_k mu_k:
    u = m + T (mu_k - m) + T M_k e. For one component this is the paper's mu + T M e (eq. 40); for several,
    too, T = 0 is deterministic, the mean does not depend on T, and T = 1 is the model itself. What a model
    with gains loses of z_x does not depend on T either: A is the same for every T.
    """

    def __init__(self, prior: LatentPrior, probabilities_k: Tensor | None = None) -> None:
        self.prior = prior
        if probabilities_k is None:
            probabilities_k = prior.log_weights().detach().exp()
        self.probabilities = probabilities_k.double().cpu() / probabilities_k.double().sum().cpu()

    def components_at(self, uniforms: Sequence[float]) -> list[int]:
        """The component that each uniform number in [0, 1) selects."""
        bounds = torch.cumsum(self.probabilities, 0)
        indices = torch.searchsorted(bounds, torch.tensor(uniforms, dtype=torch.float64), right=True)
        return [min(int(index), len(bounds) - 1) for index in indices]

    @property
    def likeliest(self) -> int:
        """The most probable component."""
        return int(self.probabilities.argmax())

    @cached_property
    def _centres(self) -> list[Tensor]:
        weights = self.probabilities
        return [
            torch.einsum("k,kc->c", weights.to(latent.mean), latent.mean.detach())
            for latent in self.prior.shared()
        ]

    @cached_property
    def _posteriors(self) -> list[tuple[Tensor, Tensor]]:
        return [latent.posterior_matrices() for latent in self.prior.shared()]

    @torch.no_grad()
    def degrade(
        self, latents: Latents, noise: Latents | None, temperature_b: Tensor, component_b: Tensor
    ) -> list[Tensor]:
        """Degraded latents A z + u of clean latents z (each B C H W).

        noise: standard normals e of the latents' shapes, or None if every temperature is 0. temperature_b and
        component_b: of each image.
        """
        heat = temperature_b[:, None]
        result = []
        for index, (latent, centre) in enumerate(zip(self.prior.shared(), self._centres, strict=True)):
            mean_bc = centre + heat * (latent.mean[component_b] - centre)
            z = latent.kept(latents[index]) + mean_bc[:, :, None, None]
            if noise is not None:
                root = heat[:, :, None] * latent.root_matrix()[component_b]
                z = z + torch.einsum("bij,bjhw->bihw", root, noise[index])
            result.append(z)
        return result

    @torch.no_grad()
    def restore(
        self, latents: Latents, noise: Latents | None, temperature_b: Tensor, component_b: Tensor
    ) -> list[Tensor]:
        """Clean latents z_x given degraded ones z_y: mean B (z_y - mu), covariance T^2 (I - B A).

        B and I - B A are those of ``SharedLatent.posterior_matrices``; the arguments are ``degrade``'s.
        """
        result = []
        for index, latent in enumerate(self.prior.shared()):
            gain, root = self._posteriors[index]
            centred = latents[index] - latent.mean[component_b][:, :, None, None]
            z = torch.einsum("bij,bjhw->bihw", gain[component_b], centred)
            if noise is not None:
                spread = temperature_b[:, None, None] * root[component_b]
                z = z + torch.einsum("bij,bjhw->bihw", spread, noise[index])
            result.append(z)
        return result


@torch.no_grad()
def responsibilities(prior: LatentPrior, crops: Sequence[Latents]) -> Tensor:
    """p(k | crop) averaged over crops of one degraded image: K. crops: latents, each 1 C H W."""
    return torch.stack([prior.responsibilities(crop)[0] for crop in crops]).mean(0)


@torch.no_grad()
def shift_like(prior: LatentPrior, crops: Sequence[Latents]) -> ShiftDistribution:
    """The shift that a degraded reference shows.

    With several components, their probabilities are their responsibilities for the reference. A single
    component is estimated anew, by the mean of the reference's latents and the positive part of their
    covariance minus that of A z_x. The estimate is blended with the model's moments, which count as if they
    came from as many positions as the latent has channels.
    """
    if prior.components > 1:
        return ShiftDistribution(prior, responsibilities(prior, crops))
    prior = copy.deepcopy(prior)
    for index, latent in enumerate(prior.shared()):
        columns = torch.cat([crop[index][0].flatten(1) for crop in crops], dim=1).double()
        share = latent.channels / (latent.channels + columns.shape[1])
        mean = share * latent.mean[0].double() + (1 - share) * columns.mean(1)
        excess = _positive_excess(columns, latent.kept_covariance().double())
        covariance = share * latent.covariance()[0].double() + (1 - share) * excess
        latent.set_moments(0, mean.to(latent.mean), covariance.to(latent.mean))
    return ShiftDistribution(prior)


def _positive_excess(columns_cn: Tensor, kept_cc: Tensor) -> Tensor:
    """The positive part of Cov - A A^T.

    Eigenvectors come from one half of the positions and the variances along them from the other half, and the
    two ways round are averaged. With the same positions for both, sampling error would count as variance.
    """
    centred = columns_cn - columns_cn.mean(1, keepdim=True)
    channels, count = centred.shape
    if count < 4:
        return torch.zeros(channels, channels, dtype=centred.dtype, device=centred.device)
    halves = [part @ part.T / part.shape[1] - kept_cc for part in (centred[:, 0::2], centred[:, 1::2])]
    total = torch.zeros_like(kept_cc)
    for directions, variances in (halves, halves[::-1]):
        vectors = torch.linalg.eigh(directions)[1]
        along = torch.einsum("ij,ik,kj->j", vectors, variances, vectors).clamp_min(0)
        total += 0.5 * (vectors * along) @ vectors.T
    return total

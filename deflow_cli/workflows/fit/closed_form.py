"""Closed form: the data-dependent start of a flow, and its shift from the moments of many latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deflow_cli.config.fit import RunConfig
from deflow_cli.data.unpaired import Batch, UnpairedSampler
from deflow_cli.models.deflow.initialization import start_constant, start_flow
from deflow_cli.models.deflow.model import CLEAN, DEGRADED, DeFlow
from deflow_cli.models.deflow.moments import LatentSample, start_from_moments
from deflow_cli.models.deflow.objective import draw_training_noise, flow_inputs
from deflow_cli.runtime.seeding import generator

# The sampler draws a batch from its step number alone; training never reaches these.
START_STREAM = 2**40
MOMENT_STREAM = 2**41
MOMENT_CHUNK = 20  # patches that are encoded together for the moments


@dataclass(frozen=True)
class SampleSizes:
    """How many patches a fit looks at outside of its training steps.

    start: patches that initialise the ActNorms. moments: patches of each domain that start mu and M, or
    renew them. final: the same for the last closed form, on the averaged flow. held_out: patches of each
    domain for the held-out bits per dimension.
    """

    start: int = 64
    moments: int = 600
    final: int = 1200
    held_out: int = 32


class ClosedForm:
    """What a fit sets from data without gradients: ActNorms, the linear layers, and mu and M (eq. 2)."""

    def __init__(self, sampler: UnpairedSampler, config: RunConfig, device: torch.device) -> None:
        self.sampler, self.config, self.device = sampler, config, device

    def start(self, model: DeFlow, sizes: SampleSizes) -> list[list[str]]:
        """Initialise a model; returns the noisy images of each component that the moments found."""
        fit = self.config.fit
        random = generator(fit.seed, "start", device=self.device)
        x, h, _ = self._inputs(model, self.sampler.batch(START_STREAM, sizes.start), random)
        start_flow(model, x, h, whiten=fit.whiten)
        if fit.start == "moments" and self.config.flow.shift != "post-hoc":
            return self.match_moments(model, "moments", sizes.moments)
        if fit.start == "constant":
            start_constant(model.prior)
        return []

    def match_moments(self, model: DeFlow, purpose: str, count: int) -> list[list[str]]:
        """Set mu and M from ``count`` patches of each domain; returns the noisy images of each component.

        purpose: names the stream of random numbers.
        """
        clean, noisy = self._latents(model, purpose, count)
        return start_from_moments(model.prior, clean, noisy, generator(self.config.fit.seed, purpose))

    @torch.no_grad()
    def _latents(self, model: DeFlow, purpose: str, count: int) -> tuple[LatentSample, LatentSample]:
        """Latents of many patches of both domains, each with the image it comes from."""
        result = (LatentSample(), LatentSample())
        random = generator(self.config.fit.seed, purpose, device=self.device)
        for step in range(2 * count // MOMENT_CHUNK):
            batch = self.sampler.batch(MOMENT_STREAM + step, MOMENT_CHUNK)
            x, h, labels = self._inputs(model, batch, random)
            latents, _ = model.encode_conditioned(x, model.prepare(h))
            order = torch.argsort(labels, stable=True).tolist()
            # Without an encoder h may show the domain, so images are not compared by the detail in h.
            detail = h if model.encoder is not None else torch.zeros_like(h)
            for row, source in enumerate(order):
                part = [z[row : row + 1] for z in latents]
                result[int(labels[source])].add(batch.keys[source], part, detail[row : row + 1])
        return result

    def _inputs(self, model: DeFlow, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The flow's inputs for a batch, clean images first, and the batch's labels in its own order."""
        images, labels = batch.images_bchw.to(self.device), batch.labels_b.to(self.device)
        images = images.float() / 255
        noise = draw_training_noise(model, images.shape, random)
        x, h = flow_inputs(model, images[labels == CLEAN], images[labels == DEGRADED], noise)
        return x, h, labels

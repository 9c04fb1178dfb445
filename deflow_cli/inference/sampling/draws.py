"""Draws: what is random about the images of a job, for any window, on the model's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.windows import Change
from deflow_cli.models.deflow.grain import GUIDE_SCALE, correlated, strengthened
from deflow_cli.models.deflow.model import DeFlow


class JobDraws:
    """Draws for a model what a job leaves to chance: h's noise, dequantisation, the shift's noise, grain."""

    def __init__(self, model: DeFlow, device: torch.device) -> None:
        self.model, self.device = model, device
        self._stationary = False  # whether the grain's pattern is; asked of the device once per image

    def noisy(self, piece: Tensor, window: Window, job: Job) -> Tensor:
        """Pixels of a window as the flow sees them: with clean statistics, and dequantised."""
        x = piece.to(self.device)
        if job.reverse:
            x = self.model.statistics.to_clean(x)
        noise = [noise.dequantisation(x.shape[1], window, self.device) for noise in job.noises]
        return x + torch.cat(noise) / job.gray_levels

    def temperatures_and_components(self, job: Job, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Temperatures (B) and components (B x samples up to the last one asked for) on the device."""
        count = max(samples, default=-1) + 1
        temperature_b = torch.tensor(job.temperatures, dtype=torch.float32)
        component_bs = torch.tensor([own[:count] for own in job.components], dtype=torch.int64)
        if self.device.type == "cuda":  # from pinned memory, for which the host does not wait
            temperature_b, component_bs = temperature_b.pin_memory(), component_bs.pin_memory()
        return (
            temperature_b.to(self.device, non_blocking=True),
            component_bs.to(self.device, non_blocking=True),
        )

    def change(
        self,
        job: Job,
        window: Window,
        sample: int,
        temperature_b: Tensor,
        component_b: Tensor,
        gain: Tensor | None = None,
    ) -> Change:
        """What a sample does to latents. With a gain u has no noise: that comes as grain, see ``grained``."""
        noise = None
        if gain is None:
            noise = self._latent_noise(job, window, sample)
        return Change(job.shift, job.reverse, noise, temperature_b, component_b)

    def _latent_noise(self, job: Job, window: Window, sample: int) -> list[Tensor] | None:
        noise = None
        if any(job.temperatures):
            noise = [
                torch.cat(
                    [
                        noise.latent(index, sample, channels, window.divided(factor), self.device)
                        for noise in job.noises
                    ]
                )
                for index, (channels, factor) in enumerate(self.model.flow.latent_plan)
            ]
        return noise

    def grained(
        self,
        mean_bchw: Tensor,
        decode: Callable[[Change], Tensor],
        change: Change,
        gain_bchw: Tensor,
        job: Job,
        window: Window,
        sample: int,
    ) -> Tensor:
        """Decoded images of a window with grain (``models.deflow.grain``).

        mean: y_0, decoded from latents without noise; change: the change that did it.
        """
        grain = self.model.grain
        assert grain is not None
        levels = torch.tensor([noise.level(sample) for noise in job.noises], device=self.device)
        amplitude_b = torch.exp(grain.spread * levels)
        if self._stationary:
            white = torch.cat(
                [noise.grain(sample, mean_bchw.shape[1], window, self.device) for noise in job.noises]
            )
            pattern = correlated(grain.kernel_oiyx, white)
            amplitude_b = amplitude_b * change.temperature_b
        else:
            pattern = decode(change._replace(noise=self._latent_noise(job, window, sample))) - mean_bchw
        return mean_bchw + strengthened(pattern, amplitude_b[:, None, None, None] * gain_bchw, grain.basis)

    def gain(self, padded: Tensor, job: Job) -> Tensor | None:
        """The grain's strength over whole images, on the model's device; None where none is drawn."""
        grain = self.model.grain
        if grain is None or job.reverse or not any(job.temperatures) or not bool(grain.matched):
            return None
        self._stationary = bool(grain.stationary)
        whole = Window(0, 0, *padded.shape[-2:]).divided(GUIDE_SCALE)
        noise = torch.cat([noise.guide(whole, self.device) for noise in job.noises])
        return grain.gain(padded.to(self.device), noise)

    def conditioning(self, padded: Tensor, job: Job) -> Tensor | None:
        """h of the whole image with its noise, on the model's device; None for a model without."""
        if self.model.encoder is None:
            return None
        h = self.model.condition_image(padded.to(self.device), job.domain)
        whole = Window(0, 0, *h.shape[-2:])
        noise = torch.cat([noise.h(h.shape[1], whole, self.device) for noise in job.noises])
        return h + self.model.config.flow.h_noise * noise

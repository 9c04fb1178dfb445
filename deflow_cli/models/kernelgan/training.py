"""KernelGAN's training: generator and discriminator of N pictures at once, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deflow_cli.models.kernelgan.constraints import KernelConstraints, bicubic_difference
from deflow_cli.models.kernelgan.discriminator import FIELD, SurroundingsDiscriminator
from deflow_cli.models.kernelgan.generator import (
    GENERATOR_SCALE,
    RECEPTIVE_FIELD,
    DeepLinearGenerator,
    apply_kernels,
)

LARGE_CROP = 64  # px, what the generator down-samples
SMALL_CROP = (LARGE_CROP - RECEPTIVE_FIELD) // GENERATOR_SCALE + 1  # 26 px, what the discriminator sees
assert SMALL_CROP > FIELD
_RATE, _BETAS = 2e-4, (0.5, 0.999)
_RATE_EVERY, _RATE_FALL = 750, 10.0
_NOISE = 1 / 255  # on the scale -1 to 1 for the generator's output; on 0 to 1 for the picture


class KernelGANTraining:
    """Trains N generators against N discriminators, all at their own pictures.

    seeds: one for each picture. All that is random for a picture is drawn by its seed, so that what comes of
    it does not depend on the others, but for rounding.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generator = DeepLinearGenerator(seeds).to(device)
        self.discriminator = SurroundingsDiscriminator(seeds).to(device)
        self.constraints = KernelConstraints(len(seeds), device)
        self._random = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._nets = (list(self.generator.parameters()), list(self.discriminator.parameters()))
        self._optimizers = [torch.optim.Adam(net, _RATE, betas=_BETAS, fused=True) for net in self._nets]
        self._steps = 0

    def step(self, large: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
        """One update of both. large: N x 3 x 64 x 64, small: N x 3 x 26 x 26, crops on the scale -1 to 1.

        Returns the losses of generators (adversarial part) and discriminators before it, N each.
        """
        if self._steps and self._steps % _RATE_EVERY == 0:
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] /= _RATE_FALL
        weights = self.discriminator.normalised()
        noise = self._noise(small)
        generator_loss, difference = self._generator_step(large, noise[:, 0], weights)
        discriminator_loss = self._discriminator_step(large, small, noise[:, 1:], weights)
        self.constraints.after_step(self._steps, difference)
        self._steps += 1
        return generator_loss, discriminator_loss

    def _noise(self, small: Tensor) -> Tensor:
        """Three noises of a step for each picture, N x 3 x the shape of a small crop."""
        drawn = [torch.randn(3, *small.shape[1:], generator=random) for random in self._random]
        return _NOISE * torch.stack(drawn).to(small.device)

    def _generator_step(self, large: Tensor, noise: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The output is judged with the noise that the discriminator learned it with.

        Without, the batch normalisation magnifies an output near zero, as it is at first, by some hundred
        times in each layer, and the first two hundred steps go astray.
        """
        kernels = self.generator.kernels()
        output = apply_kernels(large, kernels)
        judged = (output + noise).unsqueeze(1)
        seen = self.discriminator(judged, [weight.detach() for weight in weights])
        fooling = (seen - 1).abs().mean((1, 2))
        difference = bicubic_difference(output, large)
        self._update(0, fooling + self.constraints.loss(kernels, difference))
        return fooling.detach(), difference.detach()

    def _discriminator_step(
        self, large: Tensor, small: Tensor, noise: Tensor, weights: list[Tensor]
    ) -> Tensor:
        with torch.no_grad():
            output = apply_kernels(large, self.generator.kernels())
        crops = torch.stack([small + 2 * noise[:, 0], output + noise[:, 1]], 1)
        seen = self.discriminator(crops, weights)
        loss = ((seen[:, 0] - 1).abs().mean(1) + seen[:, 1].abs().mean(1)) / 2
        self._update(1, loss)
        return loss.detach()

    def _update(self, which: int, losses: Tensor) -> None:
        """A step on the sum over pictures, in which each has its gradient alone."""
        parameters = self._nets[which]
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(losses.sum(), parameters), strict=True
        ):
            parameter.grad = gradient
        self._optimizers[which].step()

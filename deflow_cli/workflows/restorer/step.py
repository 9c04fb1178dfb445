"""Step of a restorer's training: L1 in the first stage, ESRGAN's three losses in the second."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deflow_cli.config.restorer import SrConfig, StageConfig
from deflow_cli.layers.networks.batch_norm import share_batch_statistics
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.esrgan.losses import (
    Vgg19Features,
    pixel_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.training.deferred_metrics import Outcome
from deflow_cli.training.network import Network
from deflow_cli.training.shared_loss import Loss, SharedLoss, mean_figures


@dataclass(frozen=True)
class Moment:
    """Where a step stands in its stage. iteration: of the stage, from 1. share: of the stage, 0 to 1."""

    stage: str
    iteration: int
    share: float


def rate_factor(stage: StageConfig, moment: Moment) -> float:
    """The learning rate's factor. The schedule moves before the update, as in RealSR and BasicSR.

    Iteration 5000 of ``halve_at = [5000]`` is taken at half the rate.
    """
    if stage.schedule == "steps":
        return float(0.5 ** sum(moment.iteration >= at for at in stage.halve_at))
    if stage.schedule == "cosine":
        return max(0.5 * (1.0 + math.cos(math.pi * min(moment.share, 1.0))), 1e-3)
    return 1.0


def stage_adam(module: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """An Adam whose rates and betas are those of the stage, set at each step (``set_rates``)."""
    on_cuda = device.type == "cuda"  # a graph reads rates from memory
    rate = torch.ones((), device=device) if on_cuda else 1.0
    fused = device.type in ("cuda", "cpu")
    return torch.optim.Adam(module.parameters(), lr=rate, fused=fused, capturable=on_cuda)


def set_rates(networks: Iterable[Network], stage: StageConfig, factor: float) -> None:
    """Give the networks' optimisers the betas of a stage, and ``factor`` of its learning rate."""
    for network in networks:
        for group in network.optimizer.param_groups:
            group["betas"] = stage.betas
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(stage.learning_rate * factor)
            else:
                group["lr"] = stage.learning_rate * factor


class RestorerStep:
    """Trains a generator, and in the GAN stage a discriminator, on the batch of a step.

    batch_of(step): clean and degraded crops, float32 in [0, 1]. moment_of(step, share): the step's stage.
    A step whose losses or gradients are not finite changes no weight, and no batch statistics. The host waits
    for the device nowhere in it.

    Several ranks have a part of the batch each, and take the step of the whole batch, without a CUDA graph:
    gradients and figures are averaged, the discriminator's batch statistics and the means of the relativistic
    losses are those of all parts.

    On a CUDA device the networks are in channels-last order, the convolutions' fastest, and all that follows
    from a batch (losses, gradients, both updates) is replayed as one CUDA graph, recorded anew for a stage.
    """

    def __init__(
        self,
        generator: RRDBNet,
        discriminator: nn.Module | None,
        features: Vgg19Features | None,
        config: SrConfig,
        batch_of: Callable[[int], tuple[Tensor, Tensor]],
        moment_of: Callable[[int, float], Moment],
        precision: torch.dtype | None = None,
    ) -> None:
        self.config, self.batch_of, self.moment_of, self.precision = config, batch_of, moment_of, precision
        self.features, self.ranks = features, Ranks.current()
        self.device = next(generator.parameters()).device
        if self.device.type == "cuda":
            for module in (generator, discriminator, features):
                if module is not None:
                    module.to(memory_format=torch.channels_last)
            generator.trunk_together = True
        self.generator = Network(generator, stage_adam(generator, self.device))
        self._pixel_loss = SharedLoss(self._pixel_loss_of, [generator])
        self._gan_loss = SharedLoss(self._gan_loss_of, [generator])
        self.discriminator = None
        self._losses = [self._pixel_loss, self._gan_loss]
        if discriminator is not None:
            if self.ranks.size > 1:
                share_batch_statistics(discriminator, self.ranks.differentiable_mean, self.ranks.size)
            self.discriminator = Network(
                discriminator, stage_adam(discriminator, self.device), "discriminator."
            )
            self._judge_loss = SharedLoss(self._judge_loss_of, [discriminator])
            self._losses.append(self._judge_loss)
        self._names: tuple[str, ...] = ()
        self._stage = ""
        self._replacements = self._count_replacements()
        self._update = GraphedFunction(
            self._computed, before_recording=self._clear_gradients, enabled=self.ranks.size == 1
        )

    @property
    def networks(self) -> list[Network]:
        return [network for network in (self.generator, self.discriminator) if network is not None]

    def forget(self) -> None:
        """Begin a stage with optimisers that have seen nothing."""
        for network in self.networks:
            network.optimizer.state.clear()
        self._update.forget()

    def __call__(self, step: int, share: float, restored_factor: float) -> Outcome:
        moment = self.moment_of(step, share)
        stage: StageConfig = getattr(self.config, moment.stage)
        factor = rate_factor(stage, moment) * restored_factor
        set_rates(self.networks, stage, factor)
        if (moment.stage, self._count_replacements()) != (self._stage, self._replacements):
            self._update.forget()
            for loss in self._losses:
                loss.forget()
            self._stage, self._replacements = moment.stage, self._count_replacements()
        *figures, finite = self._update(*self.batch_of(step))
        return Outcome(dict(zip(self._names, figures, strict=True)), factor, finite)

    def _count_replacements(self) -> int:
        return sum(network.replacements for network in self.networks)

    def _clear_gradients(self) -> None:
        for network in self.networks:
            network.optimizer.zero_grad(set_to_none=True)

    def _computed(self, gt: Tensor, lq: Tensor) -> list[Tensor]:
        """The update of the stage; returns the figures to log, and whether all was finite."""
        figures, finite = self._psnr(gt, lq) if self._stage == "psnr" else self._gan(gt, lq)
        self._names = tuple(figures)
        return [*mean_figures(figures).values(), finite]

    def _psnr(self, gt: Tensor, lq: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        pixel, figures = self._pixel_loss(gt, lq)
        norm = self._backward(self.generator, pixel)
        finite = self.ranks.all_true(torch.isfinite(pixel.detach()) & torch.isfinite(norm))
        self.generator.update(finite)
        return {**figures, "gradient_norm": norm}, finite

    def _pixel_loss_of(self, gt: Tensor, lq: Tensor) -> Loss:
        with self._nets():
            restored = self.generator.module(lq)
        pixel = pixel_loss(restored.float(), gt)
        return pixel, {"pixel": pixel}

    def _gan(self, gt: Tensor, lq: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """One iteration in RealSR's order: both losses before either update, which needs neither's result.

        The discriminator judges the same restored images that the generator was trained by.
        """
        assert self.discriminator is not None
        judge = self.discriminator.module
        buffers = [(buffer, buffer.clone()) for buffer in judge.buffers()]
        judge.requires_grad_(False)
        total, made = self._gan_loss(gt, lq)
        norm = self._backward(self.generator, total)
        judge.requires_grad_(True)
        judged, logits = self._judge_loss(gt, made["restored"])
        judge_norm = self._backward(self.discriminator, judged)
        sums = torch.stack([total.detach(), norm, judged.detach(), judge_norm])
        finite = self.ranks.all_true(torch.isfinite(sums).all())
        for network in self.networks:
            network.update(finite)
        for buffer, before in buffers:  # batch statistics and singular vectors, which forward passes move
            torch.where(finite, buffer, before, out=buffer)
        figures = {name: value for name, value in made.items() if name != "restored"}
        return {**figures, "discriminator": judged, **logits, "gradient_norm": norm}, finite

    def _gan_loss_of(self, gt: Tensor, lq: Tensor) -> Loss:
        """The generator's loss; its figures have the restored images too, for the discriminator."""
        assert self.discriminator is not None
        judge, loss = self.discriminator.module, self.config.loss
        with self._nets():
            restored = self.generator.module(lq)
            perceptual = self.features.loss(restored, gt) if self.features is not None else None
            fake, real = judge(restored), judge(gt).detach()
        pixel = pixel_loss(restored.float(), gt)
        adversarial = relativistic_generator_loss(real, fake, self._batch_mean)
        total = loss.pixel * pixel + loss.adversarial * adversarial
        figures = {"pixel": pixel, "adversarial": adversarial, "restored": restored.detach()}
        if perceptual is not None:
            total = total + loss.perceptual * perceptual
            figures["perceptual"] = perceptual
        return total, figures

    def _judge_loss_of(self, gt: Tensor, restored: Tensor) -> Loss:
        """The discriminator's loss on clean images and restored ones."""
        assert self.discriminator is not None
        judge = self.discriminator.module
        with self._nets():
            real, fake = judge(gt), judge(restored)
        judged = relativistic_discriminator_loss(real, fake, self._batch_mean)
        return judged, {"real_logit": real.float().mean(), "fake_logit": fake.float().mean()}

    def _batch_mean(self, values: Tensor) -> Tensor:
        return self.ranks.differentiable_mean(values.mean())

    def _backward(self, network: Network, loss: Tensor) -> Tensor:
        """Gradients of one network; returns their norm before clipping."""
        network.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.sr.clip_gradients or math.inf
        return torch.nn.utils.clip_grad_norm_(network.parameters, limit)

    def _nets(self) -> AbstractContextManager[object]:
        """Autocast to the nets' precision; in a graph no cast may be taken from outside the recording."""
        enabled, cached = self.precision is not None, self.device.type != "cuda"
        return torch.autocast(self.device.type, self.precision, enabled=enabled, cache_enabled=cached)

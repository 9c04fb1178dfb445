"""Frequency separation: the step of DSGAN and of DASR's down-sampling network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deflow_cli.checkpoints.hub import locate
from deflow_cli.config.translation import FrequencyConfig, ResidualGeneratorConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.metrics.quality.lpips import Lpips
from deflow_cli.models.translation.discriminators import FrequencyDiscriminator
from deflow_cli.models.translation.frequencies import FrequencySplit
from deflow_cli.models.translation.generators import ResidualGenerator
from deflow_cli.models.translation.losses import colour_loss, log_discriminator_loss, log_generator_loss
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import generator as seeded
from deflow_cli.workflows.translation.data import TranslationBatch
from deflow_cli.workflows.translation.trainer import (
    Figures,
    TranslationRunConfig,
    TranslationTrainer,
    backward,
    go_back_unless,
    snapshot,
)


class FrequencyTrainer(TranslationTrainer):
    """Low frequencies stay as the clean picture has them, high ones are to look like the noisy pictures'.

    L_G = colour |low(G(x)) - low(t)| + perceptual LPIPS(G(x), t) + adversarial mean -log(D(high(G(x)))),
    where t is the small clean picture (arXiv 1911.07850, section 3; arXiv 2004.01178, section 3.1).

    The discriminator takes its step first. In the published code the generator then learns from what the
    discriminator had said of G(x) before that step, which autograd no longer allows once the weights have
    changed in place: here D(high(G(x))) is computed again, by the discriminator that has just learned.
    Batch statistics move in all three of its passes. A step that is not finite is undone.
    """

    def __init__(
        self,
        config: TranslationRunConfig,
        section: FrequencyConfig,
        sizes: ResidualGeneratorConfig,
        lpips: Lpips | None,
        device: torch.device,
    ) -> None:
        super().__init__(config, device)
        self.section, self.lpips = section, lpips
        self.split = FrequencySplit(section.frequencies)
        seed = config.fit.seed
        self._generator = ResidualGenerator(sizes, seeded(seed, "generator"))
        judge = FrequencyDiscriminator(
            self.split.high_channels,
            section.discriminator_channels,
            section.normalisation,
            seeded(seed, "discriminator"),
        )
        self.networks = [self.network(self._generator), self.network(judge, "discriminator.")]

    @property
    def generator(self) -> ResidualGenerator:
        return self._generator

    @property
    def facts(self) -> dict[str, Any]:
        named = Path(self.section.features_file).name
        return {"perceptual": {"features": self.section.features, "file": named}}

    def train(self, step: int, batch: TranslationBatch) -> tuple[Figures, Tensor]:
        own, judge = self.networks
        degraded = self._generator(batch.inputs)
        before = snapshot(judge)
        judged, judge_norm = self._judge_step(batch.reals, degraded.detach())
        judge.module.requires_grad_(False)
        fake = judge.module(self.split.high(degraded))
        figures = {
            "colour": colour_loss(self.split.low(degraded), self.split.low(batch.targets)),
            "adversarial": log_generator_loss(fake),
        }
        if self.lpips is not None:
            figures["perceptual"] = self.lpips.distances(degraded, batch.targets).mean()
        total = torch.stack([getattr(self.section, key) * value for key, value in figures.items()]).sum()
        norm = backward(own, total)
        sums = torch.stack([total.detach(), norm, judged, judge_norm])
        finite = Ranks.current().all_true(torch.isfinite(sums).all())
        own.update(finite)
        go_back_unless(finite, judge, before)
        return {
            **{key: value.detach() for key, value in figures.items()},
            "discriminator": judged,
            "fake_probability": fake.detach().mean(),
            "gradient_norm": norm,
        }, finite

    def _judge_step(self, reals: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's update; its loss, and the norm of its gradients."""
        judge = self.networks[1]
        judge.module.requires_grad_(True)
        real, fake = (judge.module(self.split.high(part)) for part in (reals, fakes))
        loss = log_discriminator_loss(real, fake)
        norm = backward(judge, loss)
        judge.update(torch.isfinite(norm) & torch.isfinite(loss.detach()))
        return loss.detach(), norm


def load_lpips(section: FrequencyConfig, device: torch.device, reporter: Reporter) -> Lpips | None:
    """LPIPS on AlexNet; None where it was chosen to do without, which is told.

    Raises CheckpointError naming both ways out where the weights are not on this machine.
    """
    if section.features == "none":
        reporter.note("no perceptual loss (--perceptual none): colours and the discriminator alone decide")
        return None
    try:
        given = Path(section.features_file) if section.features_file else None
        return Lpips(locate("alexnet", given, "--perceptual-weights"), "alex", device)
    except CheckpointError as error:
        raise CheckpointError(
            str(error), next_step=f"{error.next_step}; or train without them: --perceptual none"
        ) from error

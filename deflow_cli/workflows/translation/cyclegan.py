"""CycleGAN: there and back between small clean pictures and noisy ones (Lugmayr et al., arXiv 1909.09629)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deflow_cli.config.translation import CycleGanRunConfig
from deflow_cli.layers.networks.patch_discriminator import PatchDiscriminator
from deflow_cli.models.translation.generators import CycleGenerator, draw_normal
from deflow_cli.models.translation.history import ImageHistory
from deflow_cli.models.translation.losses import (
    cycle_loss,
    eight_bits,
    squares_discriminator_loss,
    squares_generator_loss,
)
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import generator as seeded
from deflow_cli.training.network import Network
from deflow_cli.workflows.translation.data import CropRecipe, TranslationBatch
from deflow_cli.workflows.translation.trainer import (
    Figures,
    TranslationTrainer,
    backward,
    gradient_norm,
)

LEVELS_OF_BYTES = 255


class JudgeWithHistory(nn.Module):
    """A discriminator, and the generated pictures that it may see again: both are a training's state."""

    def __init__(self, channels: int, capacity: int, side: int, generator: torch.Generator) -> None:
        super().__init__()
        self.judge = PatchDiscriminator(channels, normalisation="instance")
        for part in self.judge.modules():
            if isinstance(part, nn.Conv2d):
                draw_normal(part, generator)
        self.history = ImageHistory(capacity, side)

    def forward(self, images_bchw: Tensor) -> Tensor:
        values: Tensor = self.judge(2 * images_bchw - 1)
        return values


class CycleGanTrainer(TranslationTrainer):
    """G degrades small clean pictures x, F cleans noisy ones y (Zhu et al., ICCV 2017).

    L = cycle (|F(G(x)) - x| + |G(F(y)) - y|) + identity (|G(y) - y| + |F(x) - x|) + adversarial (least
    squares of both), differences on the scale of [-1, 1]. Each discriminator learns from real pictures and
    from generated ones of its history. No code of the paper is published; what it leaves open is as in the
    original CycleGAN, or said in the configuration.

    The generators come first, then the discriminators; the losses of all four are computed before any of them
    moves, which gives the same weights, since the discriminators see the generated pictures that there were.
    """

    name = "cyclegan"
    recipe = CropRecipe(source="clean", real_in_large=False)

    def __init__(self, config: CycleGanRunConfig, device: torch.device) -> None:
        super().__init__(config, device)
        section, seed = config.cyclegan, config.fit.seed
        self.section, self._seed = section, seed
        self.degrading, self.cleaning = (
            CycleGenerator(section.generator, seeded(seed, name)) for name in ("generator", "cleaning")
        )
        self.judges = [
            JudgeWithHistory(
                section.discriminator_channels, section.history, section.patch_size, seeded(seed, name)
            )
            for name in ("noisy judge", "clean judge")
        ]
        self.networks = [
            self.network(self.degrading),
            self.network(self.cleaning, "cleaning."),
            self.network(self.judges[0], "noisy_judge."),
            self.network(self.judges[1], "clean_judge."),
        ]

    @classmethod
    def build(cls, config: CycleGanRunConfig, device: torch.device, reporter: Reporter) -> CycleGanTrainer:
        return cls(config, device)

    @property
    def generator(self) -> CycleGenerator:
        return self.degrading

    def train(self, step: int, batch: TranslationBatch) -> tuple[Figures, Tensor]:
        clean, noisy = batch.inputs, batch.reals
        degraded, cleaned = self.degrading(clean), self.cleaning(noisy)
        figures, norms = self._generators_step(clean, noisy, degraded, cleaned)
        random = seeded(self._seed, "history", step)
        kept = []
        losses = []
        for network, judge, real, fake in zip(
            self.networks[2:], self.judges, (noisy, clean), (degraded, cleaned), strict=True
        ):
            judge.requires_grad_(True)
            shown, places = judge.history.exchange(fake, random)
            loss = squares_discriminator_loss(judge(real), judge(shown))
            norms.append(backward(network, loss))
            losses.append(loss.detach())
            kept.append(places)
        sums = torch.stack([*figures.values(), *losses, *norms])
        finite = Ranks.current().all_true(torch.isfinite(sums).all())
        for network in self.networks:
            network.update(finite)
        for judge, places in zip(self.judges, kept, strict=True):
            judge.history.commit(places, finite)
        judged = torch.stack(losses).mean()
        return {**figures, "discriminator": judged, "gradient_norm": norms[0]}, finite

    def _generators_step(
        self, clean: Tensor, noisy: Tensor, degraded: Tensor, cleaned: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The gradients of both generators; the losses before weighting, and the gradients' norms."""
        section, noisy_judge, clean_judge = self.section, *self.judges
        for judge in self.judges:
            judge.requires_grad_(False)
        losses = {
            "adversarial": squares_generator_loss(noisy_judge(degraded))
            + squares_generator_loss(clean_judge(cleaned)),
            "cycle": cycle_loss(self.cleaning(degraded), clean) + cycle_loss(self.degrading(cleaned), noisy),
        }
        if section.identity:
            losses["identity"] = cycle_loss(self.degrading(noisy), noisy) + cycle_loss(
                self.cleaning(clean), clean
            )
        generators: list[Network] = self.networks[:2]
        for network in generators:
            network.optimizer.zero_grad(set_to_none=True)
        torch.stack([getattr(section, key) * value for key, value in losses.items()]).sum().backward()
        norms = [gradient_norm(network) for network in generators]
        return {key: value.detach() for key, value in losses.items()}, norms

    @torch.no_grad()
    def held_out_figures(self, batch: TranslationBatch) -> dict[str, float]:
        """How well clean pictures come back, in grey levels, and by how much worse through a file of 8 bits.

        A large gap tells that the picture is hidden in amplitudes that no file keeps (Chu et al., 2017).
        """
        self.cleaning.eval()
        degraded = self.degrading(batch.inputs)
        exact, rounded = (
            LEVELS_OF_BYTES * (self.cleaning(picture) - batch.inputs).abs().mean().item()
            for picture in (degraded, eight_bits(degraded))
        )
        self.cleaning.train()
        return {"cycle": exact, "cycle_8bit": rounded, "cycle_gap": rounded - exact}

"""Networks of `deflow sr-train`: generator, discriminator and perceptual features, built or loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from deflow_cli.checkpoints.hub import locate
from deflow_cli.checkpoints.restorer import load_esrgan
from deflow_cli.config.restorer import RESTORER_SIZES, LossConfig, SrConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.esrgan.discriminators import build_discriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.esrgan.initialization import start_bicubic, start_identity
from deflow_cli.models.esrgan.losses import Vgg19Features
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import generator as seeded


def start_from(path: Path, scale: int, arch: str | None, reporter: Reporter) -> RRDBNet:
    """The generator of ``--init``: an ESRGAN file of any dialect, which must fit the pairs' scale.

    arch: where asked for by name, the file's sizes must be those. Raises CheckpointError naming the file.
    """
    model, facts = load_esrgan(path, tell=reporter.note)
    found = model.config
    if found.scale != scale:
        raise CheckpointError(
            f"{path}: restores x{found.scale}, the pairs are x{scale}", next_step="pass one of that scale"
        )
    if found.image_channels != 3:
        raise CheckpointError(f"{path}: is for images of {found.image_channels} channels, not 3")
    sizes = (found.channels, found.blocks, found.growth_channels)
    if arch is not None and sizes != RESTORER_SIZES[arch]:
        raise CheckpointError(
            f"{path}: {sizes[0]} features and {sizes[1]} blocks, not those of {arch}",
            next_step="leave --arch out",
        )
    reporter.note(f"the generator starts from {path} ({facts['dialect']} keys)")
    return model.train()


def new_generator(config: SrConfig) -> RRDBNet:
    """A generator at its start."""
    model = RRDBNet(config.restorer, seeded(config.sr.seed, "generator"))
    if config.sr.start == "identity":
        start_identity(model)
    elif config.sr.start == "bicubic":
        start_bicubic(model)
    return model


def new_discriminator(config: SrConfig) -> nn.Module | None:
    """The discriminator; None for a run without a GAN stage."""
    if "gan" not in config.stages:
        return None
    loss, random = config.loss, seeded(config.sr.seed, "discriminator")
    return build_discriminator(loss.discriminator, config.sr.gt_size, loss.discriminator_channels, random)


def load_features(config: SrConfig, device: torch.device, reporter: Reporter) -> Vgg19Features | None:
    """VGG19 for the GAN stage; None without one, or where it was chosen to do without, which is told.

    Raises CheckpointError naming both ways out where the weights are not on this machine.
    """
    loss = config.loss
    if "gan" not in config.stages:
        return None
    if loss.features == "none":
        reporter.warn("no perceptual loss (--perceptual none): pixels and the GAN alone shape the result")
        return None
    try:
        path = locate("vgg19", _given(loss), "--perceptual-weights")
        return Vgg19Features(path).to(device)
    except CheckpointError as error:
        raise CheckpointError(
            str(error), next_step=f"{error.next_step}; or train without them: --perceptual none"
        ) from error


def _given(loss: LossConfig) -> Path | None:
    return Path(loss.features_file) if loss.features_file else None


def with_sizes_of(config: SrConfig, model: RRDBNet) -> SrConfig:
    """The configuration with a loaded generator's sizes."""
    return dataclasses.replace(config, restorer=model.config)

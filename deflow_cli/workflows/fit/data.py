"""What `deflow fit` finds out about two folders before it trains, and the choices it makes for the user."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.contents import folder_contents
from deflow_cli.data.folder_sample import MOST_IMAGES, centre, evenly_spread
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.images.statistics import channel_statistics
from deflow_cli.data.pairs.aligned import AlignedSampler, scan_aligned
from deflow_cli.data.unpaired import Batch, UnpairedSampler
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.metrics.distances.tone import (
    DIFFERENCES,
    NoiseLevel,
    ToneChange,
    block_means,
    tone_change,
    with_means,
    with_saturation,
)
from deflow_cli.metrics.noise.quiet_spectrum import QUIET_PATCH, quiet_spectrum
from deflow_cli.models.deflow.conditioning import DomainStatistics
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.domains import Domains, open_folders
from deflow_cli.workflows.fit.compression import choose_compression
from deflow_cli.workflows.fit.conditioning import choose_conditioning

_NOISE_IMAGES = 48  # whose quiet patches tell how strong the noise is
LEAK_CANDIDATES = (4, 8, 16)  # downsamplings of h that the domain-leak test tries, in this order


def patch_size(config: RunConfig) -> int:
    """The patch of the preset, which must hold whole cells of every level. Raises ConfigError."""
    size, multiple = config.fit.patch_size, config.flow.size_multiple
    if size % multiple:
        raise ConfigError(
            f"fit.patch_size is {size}, the flow needs a multiple of {multiple}",
            next_step=f"pass --set fit.patch_size={max(size // multiple, 1) * multiple}",
        )
    return size


def open_domains(clean: Path, noisy: Path, config: RunConfig, has_pairs: bool, reporter: Reporter) -> Domains:
    """Scan, check and split both folders. Raises DataError early, with the reason."""
    size = patch_size(config)
    return open_folders((clean, noisy), (size, size), config.fit, reporter, has_pairs=has_pairs)


@dataclass(frozen=True)
class ColourStatistics:
    """Rows: clean, degraded, clean h, degraded h; columns: R G B. saturation: what degraded images keep."""

    mean: Tensor
    std: Tensor
    saturation: float = 1.0

    @classmethod
    def of_tone(cls, change: ToneChange) -> ColourStatistics:
        """Statistics whose map from clean to degraded is a change of tone, alike of images and of h."""
        mean = torch.tensor([[0.0, 0.0, 0.0], change.offset]).repeat(2, 1)
        std = torch.tensor([[1.0, 1.0, 1.0], change.contrast]).repeat(2, 1)
        return cls(mean, std, change.saturation)

    def give(self, statistics: DomainStatistics) -> DomainStatistics:
        """Set a model's statistics to these."""
        statistics.set(self.mean, self.std, self.saturation)
        return statistics


def choose_settings(
    domains: Domains, config: RunConfig, reporter: Reporter
) -> tuple[RunConfig, ColourStatistics | None, dict[str, Any]]:
    """Choose what the preset leaves open: channel statistics, compression, then s and the noise on h.

    Returns the configuration with the choices made, the statistics if used, and the facts to keep.
    """
    facts: dict[str, Any] = {}
    fit, flow = config.fit, config.flow
    colour: ColourStatistics | None = None
    if fit.channel_statistics == "auto":
        change = find_tone(domains)
        verb = "used" if change.found else "not used"
        reporter.note(f"channel statistics {verb}: {change.text}")
        facts["channel_statistics"] = change.text
        colour = ColourStatistics.of_tone(change) if change.found else None
    if fit.compression == "auto":
        compression = choose_compression(domains.clean.paths, domains.noisy.paths, reporter)
        if compression is not None:
            facts["compression"] = compression.to_dict()
    if fit.channel_statistics == "yes":
        colour = measure_colours(domains, flow.downsample)
    if fit.leak_test and flow.conditioning == "encoder":
        noisy_map = None if colour is None else colour.give(DomainStatistics()).to_clean_h
        choice = choose_conditioning(
            domains.clean,
            domains.noisy,
            held_clean=domains.held_clean,
            held_noisy=domains.held_noisy,
            h_noise=flow.h_noise,
            candidates=[s for s in LEAK_CANDIDATES if fit.patch_size % s == 0] or [flow.downsample],
            seed=fit.seed,
            noisy_map=noisy_map,
        )
        reporter.note(choice.text)
        facts["leak_test"] = [list(row) for row in choice.table]
        flow = dataclasses.replace(flow, downsample=choice.downsample, h_noise=choice.h_noise)
        if fit.channel_statistics == "yes":
            colour = measure_colours(domains, flow.downsample)
    decided = dataclasses.replace(fit, leak_test=False)
    if colour is None:
        decided = dataclasses.replace(decided, channel_statistics="no")
    config = dataclasses.replace(config, flow=flow, fit=decided)
    patch_size(config)
    return config, colour, facts


def find_tone(domains: Domains) -> ToneChange:
    """How contrast, black, cast and saturation differ between the folders, by images that can be read."""
    clean, noisy = ([block_means(each) for each in _readable(pool)] for pool in _pools(domains))
    change = tone_change(clean, noisy)
    if not change.found:
        return change
    noise = _NoiseOfFolder.of(domains)
    change = tone_change(clean, noisy, noise.channels)
    if not change.found:
        return change
    return with_means(with_saturation(change, clean, noisy, noise.differences), clean, noisy)


def _pools(domains: Domains) -> tuple[ImageCache, ImageCache]:
    return domains.clean, domains.noisy


def _readable(pool: ImageCache, most: int = MOST_IMAGES) -> Iterator[Pixels]:
    """Images of a folder, evenly spread over the names; broken ones are left out."""
    for number in evenly_spread(range(len(pool)), most):
        try:
            yield pool.get(number)
        except DataError:
            continue


@dataclass(frozen=True)
class _NoiseOfFolder:
    """Noise of channels, and of their differences in means of blocks: the excess of quiet patches."""

    channels: list[NoiseLevel]
    differences: list[float]

    @classmethod
    def of(cls, domains: Domains) -> _NoiseOfFolder:
        """None is taken to be there where images are too small to tell."""
        spectra = []
        for pool in _pools(domains):
            windows = [centre(each) for each in _readable(pool, _NOISE_IMAGES)]
            usable = [each for each in windows if min(each.shape[:2]) >= QUIET_PATCH]
            if not usable:
                return cls([NoiseLevel(0.0, 0.0)] * 3, [0.0] * 2)
            spectra.append(quiet_spectrum(usable) / 255**2)
        excess = spectra[1] - spectra[0]
        differences = np.einsum("ka,yxab,kb->kyx", DIFFERENCES, excess, DIFFERENCES).real
        channels = np.einsum("yxcc->cyx", excess).real
        return cls(
            [NoiseLevel.of_power(power) for power in channels],
            [NoiseLevel.of_power(power).blocks for power in differences],
        )


def measure_colours(domains: Domains, downsample: int) -> ColourStatistics:
    """Channel means and stds of both domains, of the images and of h."""
    sets = [channel_statistics(pool) for pool in (domains.clean, domains.noisy)]
    sets += [channel_statistics(pool, downsample=downsample) for pool in (domains.clean, domains.noisy)]
    mean = torch.tensor([s.mean for s in sets])
    std = torch.tensor([s.std for s in sets])
    return ColourStatistics(mean, std)


StepBatch = tuple[Batch, tuple[Tensor, Tensor] | None]  # unpaired patches; clean and noisy ones of pairs


@dataclass(frozen=True)
class Samplers:
    """Stateless samplers of training patches. size: of a batch; pair_share: of it, where there are pairs.

    ranks: among which a batch is divided.
    """

    unpaired: UnpairedSampler
    aligned: AlignedSampler | None
    size: int
    pair_share: float
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self) -> None:
        self.ranks.check_parts("fit.batch_size", self.unpaired_size, 2)
        if self.aligned is not None:
            self.ranks.check_parts("fit.batch_size", self.paired_size)

    @property
    def unpaired_size(self) -> int:
        """Patches per batch that are not pairs: an even number."""
        if self.aligned is None:
            return self.size
        return max(2, 2 * round(self.size * (1 - self.pair_share) / 2))

    @property
    def paired_size(self) -> int:
        """Pairs per batch, where there are some."""
        return max(1, self.size - self.unpaired_size)

    def batch(self, step: int, unpaired_size: int) -> StepBatch:
        """This rank's part of what a step is trained on. Raises DataError if nothing is left."""
        pairs = None
        if self.aligned is not None:
            pairs = self.aligned.batch(step, self.paired_size, self.ranks.part(self.paired_size))
        return self.unpaired.batch(step, unpaired_size, self.ranks.part(unpaired_size)), pairs


def pair_contents(pairs: Path) -> dict[str, str]:
    """The contents of aligned pairs, clean and noisy. Raises DataError for pairs that do not match."""
    return folder_contents(pairs, (path for pair in scan_aligned(pairs) for path in pair))


def samplers(domains: Domains, pairs: Path | None, config: RunConfig, ranks: Ranks) -> Samplers:
    """The samplers of a run.

    Raises DataError for pairs that do not match, ConfigError for a batch that cannot be divided among ranks.
    """
    fit = config.fit
    unpaired = UnpairedSampler(
        domains.clean,
        domains.noisy,
        patch_size=fit.patch_size,
        align=config.flow.downsample,
        flips=fit.flips,
        seed=fit.seed,
    )
    if pairs is None:
        return Samplers(unpaired, None, fit.batch_size, fit.pair_share, ranks)
    cache = fit.cache_mib * 2**18
    aligned = AlignedSampler(
        scan_aligned(pairs),
        patch_size=fit.patch_size,
        align=config.flow.downsample,
        flips=fit.flips,
        seed=fit.seed,
        cache_bytes=cache,
    )
    return Samplers(unpaired, aligned, fit.batch_size, fit.pair_share, ranks)

"""Generators: the published numbers of parameters, sizes, and how far a pixel reaches."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.config.translation import CycleGeneratorConfig, ResidualGeneratorConfig
from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.models.translation.discriminators import FrequencyDiscriminator
from deflow_cli.models.translation.generators import CycleGenerator, ResidualGenerator


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: ResidualGenerator(ResidualGeneratorConfig()), 594_380),  # DSGAN
        (lambda: ResidualGenerator(ResidualGeneratorConfig(scale=4)), 668_238),  # De-Resnet x4
        (lambda: ResidualGenerator(ResidualGeneratorConfig(scale=2)), 594_380 + 64 * 64 * 9 + 64 + 1),
        (lambda: CycleGenerator(CycleGeneratorConfig(downsample=2)), 11_378_179),  # the original ResNet-9
        (lambda: FrequencyDiscriminator(), 4_864 + 204_928 + 256 + 819_456 + 512 + 257),
        (lambda: FrequencyDiscriminator(9, normalisation="instance"), 14_464 + 204_928 + 819_456 + 257),
    ],
)
def test_numbers_of_parameters(build, count):
    with torch.device("meta"):
        assert parameters(build()) == count


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_change_reaches_as_far_as_the_radius_says_and_no_farther(scale):
    generator = ResidualGenerator(
        ResidualGeneratorConfig(6, 2, scale), torch.Generator().manual_seed(0)
    ).double()
    image = torch.rand(1, 3, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    image.requires_grad_(True)
    place = 48 // scale
    generator(image)[0, 0, place, place].backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)).nonzero()
    lowest, highest = seen.min(0).values.tolist(), seen.max(0).values.tolist()
    assert lowest == [48 - generator.radius] * 2
    assert all(48 <= value <= 48 + scale - 1 + generator.radius for value in highest)


def test_results_are_in_range_and_smaller_by_the_scale():
    image = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    for generator, shape in (
        (ResidualGenerator(ResidualGeneratorConfig(4, 1)), (2, 3, 24, 32)),
        (ResidualGenerator(ResidualGeneratorConfig(4, 1, 4)), (2, 3, 6, 8)),
        (CycleGenerator(CycleGeneratorConfig(4, 1)), (2, 3, 24, 32)),
        (CycleGenerator(CycleGeneratorConfig(4, 1, 2)), (2, 3, 24, 32)),
    ):
        result = generator(image)
        assert result.shape == shape
        assert 0 <= result.min() <= result.max() <= 1


def test_starts_are_drawn_from_the_generator():
    def start(seed: int) -> torch.Tensor:
        return next(CycleGenerator(CycleGeneratorConfig(), torch.Generator().manual_seed(seed)).parameters())

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    assert start(1).std().item() == pytest.approx(0.02, rel=0.03)


def test_what_cannot_be_is_told():
    with pytest.raises(ShapeError, match="30x24 px; this generator takes multiples of 4"):
        ResidualGenerator(ResidualGeneratorConfig(4, 1, 4))(torch.zeros(1, 3, 24, 30))
    for stages, side, least in ((0, 3, 4), (1, 2, 4), (2, 4, 8)):
        small = CycleGenerator(CycleGeneratorConfig(4, 1, stages))
        with pytest.raises(ShapeError, match=f"{side}x16 px; CycleGAN's generator takes {least} px"):
            small(torch.zeros(1, 3, 16, side))
        assert small(torch.zeros(1, 3, 16, least)).shape == (1, 3, 16, least)
    with pytest.raises(ConfigError, match="scale 3"):
        ResidualGeneratorConfig(scale=3)


def test_the_discriminator_sees_thirteen_pixels():
    judge = FrequencyDiscriminator(3, 4, generator=torch.Generator().manual_seed(0)).eval().double()
    detail = torch.rand(1, 3, 33, 33, dtype=torch.float64, requires_grad=True)
    judge(detail)[0, 0, 16, 16].backward()
    assert detail.grad is not None
    seen = detail.grad.abs().sum((0, 1)).nonzero()
    assert (seen.min().item(), seen.max().item()) == (10, 22)

"""The encoder: sizes of its levels, order of its channels, and the projection's short cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.config.model import EncoderConfig, FlowConfig
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from tests.golden.tolerances import tolerance
from tests.layers.invertible.bijection import randomise

CONFIG = EncoderConfig(channels=4, growth_channels=2, blocks=3, stacked_blocks=(2, 0))


def encoder(levels: int, downsample: int, condition_channels: int = 0) -> ConditionEncoder:
    flow = FlowConfig(levels=levels, downsample=downsample, condition_channels=condition_channels)
    module = ConditionEncoder(CONFIG, flow)
    randomise(module, torch.Generator().manual_seed(3))
    return module


def h_image(height: int, width: int) -> Tensor:
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@torch.no_grad()
def explicit_features(module: ConditionEncoder, h: Tensor) -> list[Tensor]:
    """The published definition, written out: every level's own tensor, then the stacked blocks."""
    x = module.conv_first(h)
    outputs = []
    for block in module.body:
        x = block(x)
        outputs.append(x)
    last = x + module.conv_body(x)
    stacked = torch.cat((outputs[2], outputs[0]), dim=1)
    up = {1: last}  # factor over h's resolution -> features
    for index in range(1, module.up_convs + 1):
        larger = up[2 ** (index - 1)].repeat_interleave(2, 2).repeat_interleave(2, 3)
        conv = getattr(module, f"conv_up{index}")
        assert isinstance(conv, nn.Conv2d)
        # the next convolution starts from the activated tensor, and the flow sees it activated too
        up[2**index] = F.leaky_relu(conv(larger), 0.2)
    result = []
    for level in range(1, module.levels + 1):
        height = h.shape[-2] * 2**module.log2_downsample // 2**level
        factor = height / h.shape[-2]
        if factor >= 1:
            own = up[int(factor)]
        else:
            own = F.interpolate(last, scale_factor=0.5, mode="bilinear", align_corners=False)
            for _ in range(int(1 / factor).bit_length() - 2):
                own = F.interpolate(own, scale_factor=0.5, mode="bilinear", align_corners=False)
        result.append(torch.cat((own, F.interpolate(stacked, size=own.shape[-2:], mode="nearest")), dim=1))
    return result


CASES = [(s, levels) for s in (2, 4, 8, 16) for levels in (1, 3, 4)]


@pytest.mark.parametrize(("downsample", "levels"), CASES)
@torch.no_grad()
def test_levels_have_their_sizes_and_the_published_features(downsample: int, levels: int) -> None:
    module = encoder(levels, downsample)
    side = max(downsample, 2**levels)
    h = h_image(side // downsample, 3 * side // downsample)
    features = module(h)
    assert [f.shape for f in features] == [
        (2, CONFIG.feature_channels, side // 2**level, 3 * side // 2**level) for level in range(1, levels + 1)
    ]
    assert module.feature_channels == CONFIG.feature_channels == 12
    for ours, expected in zip(features, explicit_features(module, h), strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance("encoder"), atol=tolerance("encoder"))


@pytest.mark.parametrize(("downsample", "levels"), CASES)
@torch.no_grad()
def test_projection_equals_concatenation_then_1x1(downsample: int, levels: int) -> None:
    module = encoder(levels, downsample, condition_channels=5)
    side = max(downsample, 2**levels)
    h = h_image(side // downsample, 2 * side // downsample)
    projected = module(h)
    assert module.project is not None
    assert module.feature_channels == 5
    for ours, full, conv in zip(projected, explicit_features(module, h), module.project, strict=True):
        torch.testing.assert_close(ours, conv(full), rtol=tolerance("encoder"), atol=tolerance("encoder"))


@torch.no_grad()
def test_level_below_h_is_a_2x2_mean() -> None:
    module = encoder(levels=3, downsample=4)
    _, middle, low = module(h_image(4, 6))
    own = middle[:, :4]
    mean = (own[..., ::2, ::2] + own[..., 1::2, ::2] + own[..., ::2, 1::2] + own[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(low[:, :4], mean)


@torch.no_grad()
def test_bfloat16_encoder_is_close() -> None:
    module = encoder(levels=3, downsample=4).float()
    h = h_image(8, 8).float()
    exact = module(h)
    module.autocast_dtype = torch.bfloat16
    for rough, fine in zip(module(h), exact, strict=True):
        difference = (rough.float() - fine).abs().max() / fine.abs().max()
        assert 0 < difference < 0.05

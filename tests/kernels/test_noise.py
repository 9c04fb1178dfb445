"""Noise by counter: the published Philox words, at their positions, with the moments they should have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.kernels.noise import BAND, Place, noise_field, reference_field

ONES = 2**64 - 1
# Random123's kat_vectors: counter, key, words
KNOWN = (
    ((0,) * 4, (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    (
        (ONES,) * 4,
        (ONES, ONES),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
)


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x64-10 in Python's integers."""
    c, (k0, k1) = counter, key
    for _ in range(10):
        first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = ((second >> 64) ^ c[1] ^ k0, second & ONES, (first >> 64) ^ c[3] ^ k1, first & ONES)
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & ONES, (k1 + 0xBB67AE8584CAA73B) & ONES
    return c


def word_at(key: int, channels: int, row: int, column: int, channel: int) -> int:
    """The 32-bit word of a position, by the definition."""
    number = (column * BAND + row % BAND) * channels + channel
    word = philox((number // 8 + 1, row // BAND, 0, 0), (key & ONES, key >> 64))[number % 8 // 2]
    return word >> 32 * (number % 2) & 0xFFFFFFFF


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_words(counter, key, words):
    assert philox(counter, key) == words


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_numbers_are_those_of_their_words(channels):
    key = (123 << 64) + 456
    place = Place(10, 5, 7, 6)
    uniform = reference_field("uniform", key, channels, place)[0]
    normal = reference_field("normal", key, channels, place)[0]
    for channel, y, x in np.ndindex(*uniform.shape):
        where = (place.top + y, place.left + x, channel)
        word = word_at(key, channels, *where)
        assert float(uniform[channel, y, x]) == (word >> 8) / 2**24 - 0.5
        number = (where[1] * BAND + where[0] % BAND) * channels + channel
        block = (number // 8 + 1, where[0] // BAND, 0, 0)
        pair = philox(block, (key & ONES, key >> 64))[number % 8 // 2]
        radius = np.sqrt(-2 * np.log(((pair & 0xFFFFFFFF) + 0.5) / 2**32))
        angle = 2 * np.pi * (pair >> 32) / 2**32
        expected = radius * (np.sin(angle) if number % 2 else np.cos(angle))
        assert float(normal[channel, y, x]) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_places_are_cut_from_one_plane(kind):
    plane = reference_field(kind, 9, 5, Place(0, 0, 23, 31))
    for place in (Place(0, 0, 1, 1), Place(3, 4, 9, 20), Place(22, 30, 1, 1), Place(8, 8, 8, 8)):
        cut = plane[..., place.top : place.top + place.height, place.left : place.left + place.width]
        assert torch.equal(reference_field(kind, 9, 5, place), cut)
    wide = reference_field(kind, 9, 5, Place(0, 0, 23, 4000))  # several chunks
    assert torch.equal(wide[..., :31], plane)


def test_moments_and_independence():
    planes = [
        noise_field("normal", key, channels, Place(1, 3, 300, 300)).double()[0]
        for key, channels in ((1, 4), (2, 4), (1, 3))
    ]
    for plane in planes:
        assert abs(float(plane.mean())) < 0.006
        assert abs(float(plane.var()) - 1) < 0.01
        assert abs(float((plane**3).mean())) < 0.02
        assert abs(float((plane**4).mean()) - 3) < 0.05
        assert 4 < float(plane.abs().max()) < 7
        for other in (plane.roll(1, -1), plane.roll(1, -2), plane.roll(1, 0)):
            assert abs(float((plane * other).mean())) < 0.006
            assert abs(float((plane**2 * other**2).mean()) - 1) < 0.03
    for other in (planes[1][:3], planes[2]):
        assert abs(float((planes[0][:3] * other).mean())) < 0.01
    uniform = noise_field("uniform", 1, 4, Place(0, 0, 300, 300)).double()
    assert -0.5 <= float(uniform.min()) < -0.4999
    assert 0.4999 < float(uniform.max()) < 0.5
    assert abs(float(uniform.var()) - 1 / 12) < 5e-4

"""Checks of noise fields drawn on a device against the ones drawn on the CPU."""

from __future__ import annotations

import torch

from deflow_cli.kernels.noise import NoiseKind, Place, reference_field

PLACES = (
    (3, Place(5, 7, 9, 50)),
    (1, Place(0, 0, 1, 1)),
    (12, Place(1, 1, 3, 11)),
    (48, Place(100_003, 300_000, 2, 40)),
)
KEYS = (0, 2**128 - 1, 0x0123456789ABCDEF_FEDCBA9876543210)


def check_field(kind: NoiseKind, channels: int, place: Place, key: int, device: str = "cpu") -> None:
    from deflow_cli.kernels.triton import noise

    ours = noise.noise_field(kind, key, channels, place, torch.device(device)).cpu()
    expected = reference_field(kind, key, channels, place)
    if kind == "uniform":
        assert torch.equal(ours, expected)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)

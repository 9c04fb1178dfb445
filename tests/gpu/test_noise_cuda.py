"""On a GPU noise is drawn there, and is the CPU's."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.inference.positional_noise import PositionalNoise
from deflow_cli.kernels import noise
from deflow_cli.kernels.noise import NoiseKind, Place
from tests.kernels import noise_checks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize(
    ("channels", "place"), [*noise_checks.PLACES, (3, Place(96, 1000, 500, 700))], ids=str
)
def test_noise_is_the_reference_noise(kind: NoiseKind, channels: int, place: Place) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    for key in noise_checks.KEYS:
        noise_checks.check_field(kind, channels, place, key, "cuda")


def test_fields_are_drawn_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    on_cpu = PositionalNoise(3, "a").normal("s", 12, 5, 6, 70, 80)
    monkeypatch.setattr(noise, "reference_field", None)
    on_device = PositionalNoise(3, "a").normal("s", 12, 5, 6, 70, 80, "cuda")
    assert on_device.is_cuda
    torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=1e-5, atol=1e-5)

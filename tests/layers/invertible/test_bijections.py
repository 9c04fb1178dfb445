"""Every layer is the bijection it says it is, in float64 and in both directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.base import Bijection
from deflow_cli.layers.invertible.coupling import FlowStep, TransitionStep
from deflow_cli.layers.invertible.invconv import DenseConv1x1, InvertibleConv1x1
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.squeeze import Squeeze
from deflow_cli.layers.invertible.variant import FlowVariant
from deflow_cli.layers.networks.upsampled import LevelFeatures
from tests.layers.invertible.bijection import assert_bijection, randomise

VARIANTS = [
    FlowVariant(),
    FlowVariant("multiply"),
    FlowVariant(injector="before"),
    FlowVariant(pointwise="dense"),
    FlowVariant("multiply", "before", "dense", split_eps=0.0),
]
FORMS = [ScaleForm("published", eps=1e-3), ScaleForm("bounded", bound=0.7)]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(), dtype=torch.float64)


@pytest.mark.parametrize(
    "layer",
    [ActNorm(5), InvertibleConv1x1(5), DenseConv1x1(5), TransitionStep(5), Squeeze()],
    ids=lambda layer: type(layer).__name__,
)
def test_plain_layers(layer: Bijection) -> None:
    randomise(layer, generator())
    assert_bijection(layer, image(2, 5, 4, 2))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
@pytest.mark.parametrize("channels", [4, 5])  # halves differ when odd
@pytest.mark.parametrize("condition_channels", [0, 3])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_flow_step(form: ScaleForm, channels: int, condition_channels: int, variant: FlowVariant) -> None:
    step = FlowStep(channels, condition_channels, 6, form, variant=variant)
    randomise(step, generator())
    features = LevelFeatures(image(2, condition_channels, 4, 3))
    condition = step.condition(features if condition_channels else None)
    assert_bijection(step, image(2, channels, 4, 3), condition)


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("name", ["bijection", "bijection.split"])
def test_split(channels: int, name: str) -> None:
    split = Split(channels, eps=0.0) if name == "bijection" else Split(channels)
    randomise(split, generator())
    assert_bijection(split, image(2, channels, 4, 3), name=name)


class _WrongLogDet(ActNorm):
    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = super().forward(x_bchw)
        return y, log_det + 1e-3

    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z_bchw)
        return x, log_det - 1e-3


class _WrongInverse(ActNorm):
    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z_bchw)
        return x + 1e-6, log_det


class _SeesOthers(ActNorm):
    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = super().forward(x_bchw)
        return y + 1e-12 * y.flip(0), log_det


@pytest.mark.parametrize("kind", [_WrongLogDet, _WrongInverse, _SeesOthers])
def test_the_proof_can_fail(kind: type[ActNorm]) -> None:
    layer = kind(3)
    randomise(layer, generator())
    with pytest.raises(AssertionError):
        assert_bijection(layer, image(2, 3, 2, 2))

"""Adding a layer: one class, used in a flow as it is, with nothing registered anywhere else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.base import Bijection, Condition
from deflow_cli.layers.invertible.coupling import FlowStep
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.networks.upsampled import LevelFeatures
from tests.layers.invertible.bijection import FlowAsBijection, assert_bijection, randomise


class Stretch(Bijection):
    """y = x exp(tanh(g)), g a learned map of the mean feature: a conditional layer."""

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(condition_channels, channels)

    def condition(self, features: LevelFeatures | None) -> Condition | None:
        assert features is not None
        return (torch.tanh(self.gate(features.own.mean((2, 3))))[:, :, None, None],)

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        assert condition is not None
        return x_bchw * condition[0].exp(), self._log_det(x_bchw, condition[0])

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        assert condition is not None
        return z_bchw * (-condition[0]).exp(), -self._log_det(z_bchw, condition[0])

    def _log_det(self, x_bchw: Tensor, logs: Tensor) -> Tensor:
        return logs.sum((1, 2, 3)) * x_bchw[0, 0].numel()


class Shed(Bijection):
    """The last channel becomes a latent as it is."""

    latent_channels = 1

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return x_bchw, x_bchw.new_zeros(x_bchw.shape[0])

    inverse = forward


def test_a_new_layer_is_one_class() -> None:
    generator = torch.Generator().manual_seed(3)
    levels = [[FlowStep(12, 2, 3, ScaleForm()), Stretch(12, 2), Shed()], [Stretch(44, 2), Split(44, eps=0.0)]]
    flow = ConditionalFlow(3, levels)
    assert flow.latent_plan == [(1, 2), (22, 4), (22, 4)]
    randomise(flow, generator)
    x = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    features = [
        LevelFeatures(torch.randn(2, 2, side, side, generator=generator, dtype=torch.float64))
        for side in (2, 1)
    ]
    assert_bijection(levels[0][1], x.repeat(1, 4, 1, 1), levels[0][1].condition(features[0]))
    assert_bijection(FlowAsBijection(flow, (4, 4)), x, flow.prepare(features))
    latents, log_det = flow.encode(x, flow.prepare(features))
    again, log_det_again = flow.encode_recomputing(x, features)
    assert all(torch.equal(one, other) for one, other in zip(latents, again, strict=True))
    assert torch.equal(log_det, log_det_again)

"""Published generators of FSSR (DSGAN) and DASR, whose tensors are recognised by their order and shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deflow_cli.checkpoints.architectures import Loaded, TranslatorArchitecture
from deflow_cli.config.translation import ResidualGeneratorConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.translation.generators import ResidualGenerator

ASSUMED = (
    "the tensors lie in the order in which the network computes with them",
    "the input is RGB in [0, 1], and a sigmoid ends the network",
)


class PublishedTranslator(TranslatorArchitecture):
    """The residual generator of FSSR and of DASR's down-sampling network, from anyone's training program.

    Neither paper names the layers. What is read is a state dict whose tensors, in the file's order, have the
    shapes of a convolution and PReLU, residual blocks (convolution, PReLU, convolution), convolutions of
    stride 2 with PReLU, and a last convolution, weights before biases. The numbers of each follow: every
    residual block has two convolutions and one slope, every halving one of each.
    """

    name = "residual generator"

    def detects(self, state: Mapping[str, Tensor]) -> bool:
        return _sizes(state) is not None

    def load(self, state: Mapping[str, Tensor]) -> Loaded[ResidualGenerator]:
        sizes = _sizes(state)
        if sizes is None:
            raise CheckpointError(
                "not a generator of FSSR or DASR: its tensors have other shapes, or another order",
                next_step="give the generator's state dict as its program saved it (.pth keeps the order)",
            )
        with torch.device("meta"):
            model = ResidualGenerator(sizes)
        tensors = dict(zip(model.state_dict(), state.values(), strict=True))
        model.load_state_dict(tensors, strict=True, assign=True)
        return Loaded(model.requires_grad_(False).eval(), "by order", assumed=list(ASSUMED))

    def method(self, model: ResidualGenerator) -> str:
        return "dasr" if model.scale > 1 else "dsgan"


def _sizes(state: Mapping[str, Tensor]) -> ResidualGeneratorConfig | None:
    """The sizes by which a network has tensors of these shapes in this order; None where there are none."""
    shapes = [tuple(value.shape) for value in state.values()]
    if not shapes or len(shapes[0]) != 4:
        return None
    channels = shapes[0][0]
    slopes = shapes.count((1,)) - 1
    blocks = shapes.count((channels, channels, 3, 3)) - slopes
    halvings = slopes - blocks
    if blocks < 1 or not 0 <= halvings <= 3:
        return None
    sizes = ResidualGeneratorConfig(channels, blocks, 2**halvings)
    with torch.device("meta"):
        expected = [tuple(value.shape) for value in ResidualGenerator(sizes).state_dict().values()]
    return sizes if shapes == expected else None

"""Restorers as graphs: the images of the generator itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.onnx.restorer import write_onnx_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.inference.restoring import Restorer
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.checkpoints.onnx.running import session
from tests.golden.tolerances import tolerance
from tests.inference.small import smooth_images

TOLERANCE = tolerance("onnx.restorer")  # of values in [0, 1]


def network(scale: int, channels: int = 3) -> RRDBNet:
    config = RestorerConfig(scale=scale, channels=8, blocks=2, image_channels=channels)
    return RRDBNet(config, torch.Generator().manual_seed(2)).eval()


@pytest.mark.parametrize(("scale", "channels"), [(1, 3), (2, 3), (4, 3), (8, 3), (4, 1)])
def test_a_graph_gives_the_images_of_the_restorer(tmp_path, scale, channels):
    model = network(scale, channels)
    write_onnx_restorer(tmp_path / "r.onnx", model, {"deflow.scale": str(scale)})
    runs = session(tmp_path / "r.onnx")
    assert [given.name for given in runs.get_inputs()] == ["image"]
    for size in ((20, 24), (13, 7), (1, 1)):
        images = smooth_images(2, *size)
        found = runs.run(None, {"image": images.numpy()})[0]
        assert found.shape == (2, 3, scale * size[0], scale * size[1])
        assert np.abs(found - Restorer(model, tile=0)(images).numpy()).max() < TOLERANCE


def test_other_channels_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="2 channels"):
        write_onnx_restorer(tmp_path / "r.onnx", network(4, 2), {})

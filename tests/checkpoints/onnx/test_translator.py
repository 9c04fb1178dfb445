"""Networks of DSGAN, DASR and CycleGAN as graphs: the images that the degrader makes of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.onnx.translator import write_onnx_translator
from deflow_cli.config.translation import CycleGeneratorConfig, ResidualGeneratorConfig
from deflow_cli.degraders.translator.tiled import ImageTranslator
from deflow_cli.errors import CheckpointError
from deflow_cli.models.translation.generators import CycleGenerator, Generator, ResidualGenerator
from tests.checkpoints.onnx.running import session
from tests.golden.tolerances import tolerance
from tests.inference.small import smooth_images

TOLERANCE = tolerance("onnx.translator")  # of values in [0, 1]
SIZES = ((24, 32), (29, 23), (21, 10), (5, 7))

NETWORKS = {
    "dsgan": ResidualGeneratorConfig(channels=8, blocks=2),
    "dasr x2": ResidualGeneratorConfig(channels=8, blocks=1, scale=2),
    "dasr x4": ResidualGeneratorConfig(channels=8, blocks=2, scale=4),
    "dasr x8": ResidualGeneratorConfig(channels=4, blocks=1, scale=8),
    "cyclegan": CycleGeneratorConfig(channels=6, blocks=2),
    "cyclegan, the original's stages": CycleGeneratorConfig(channels=4, blocks=2, downsample=2),
}


def network(sizes: ResidualGeneratorConfig | CycleGeneratorConfig) -> Generator:
    """One whose results differ from pixel to pixel: weights, slopes and biases are all random."""
    kind = CycleGenerator if isinstance(sizes, CycleGeneratorConfig) else ResidualGenerator
    model, random = kind(sizes), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.dim() == 4 else 16
            parameter.copy_(torch.randn(parameter.shape, generator=random) / fan_in**0.5)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_images_of_the_degrader(tmp_path, name):
    model = network(NETWORKS[name])
    write_onnx_translator(tmp_path / "t.onnx", model, {"deflow.method": name})
    runs = session(tmp_path / "t.onnx")
    assert [given.name for given in runs.get_inputs()] == ["image"]
    assert runs.get_modelmeta().custom_metadata_map == {"deflow.method": name}
    for height, width in SIZES:
        images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        images = (images + smooth_images(2, height, width)) / 2
        found = runs.run(None, {"image": images.numpy()})[0]
        wanted = ImageTranslator(model, tile=0)(images).numpy()
        assert found.shape == wanted.shape == (2, 3, -(-height // model.scale), -(-width // model.scale))
        assert np.abs(found - wanted).max() < TOLERANCE
        if (height, width) == SIZES[0]:
            assert wanted[0].std() > 0.01
            assert np.abs(found[0] - found[1]).max() > 0.01


def test_residual_networks_take_the_smallest_images(tmp_path):
    model = network(NETWORKS["dasr x4"])
    write_onnx_translator(tmp_path / "t.onnx", model, {})
    for size in ((1, 1), (2, 5), (3, 4)):
        images = smooth_images(1, *size)
        found = session(tmp_path / "t.onnx").run(None, {"image": images.numpy()})[0]
        assert np.abs(found - ImageTranslator(model, tile=0)(images).numpy()).max() < TOLERANCE


def test_a_layer_without_a_form_is_refused(tmp_path):
    model = network(NETWORKS["dsgan"])
    model.body[0].activation = torch.nn.GELU()
    with pytest.raises(CheckpointError, match="a layer GELU has no form in ONNX"):
        write_onnx_translator(tmp_path / "t.onnx", model, {})
    assert not (tmp_path / "t.onnx").exists()

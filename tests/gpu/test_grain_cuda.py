"""On a GPU grain is the CPU's, in windows of one size and by recorded graphs, and every time the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from tests.inference.sampling.test_grain_sampling import grained
from tests.inference.small import smooth_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def sampled(translator: Translator, image: Tensor) -> Tensor:
    """Three samples of two components: S C H W on the CPU."""
    job = Job(ShiftDistribution(translator.model.prior), [ImageNoise(1, "a")], [[0, 1, 0]], [1.0])
    result = torch.full((3, *image.shape[1:]), torch.nan)

    def write(sample, window, piece):
        result[sample][(..., *window.slices)] = piece[0].cpu()

    translator.translate(image, job, range(3), write)
    return result


@pytest.mark.parametrize("stationary", [True, False], ids=["stationary", "latent"])
def test_grain_is_the_cpus(stationary: bool) -> None:
    image = smooth_images(1, 150, 203)
    expected = sampled(Translator(grained(stationary), "cpu", tile=0), image)
    translator = Translator(grained(stationary), "cuda", tile=64, recorder=GraphedFunction)
    first = sampled(translator, image)
    assert float((first - expected).abs().max()) < 0.5 / 255
    for _ in range(3):  # later images of a size are replayed
        assert torch.allclose(sampled(translator, image), first, atol=1e-6)

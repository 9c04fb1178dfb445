"""Spatial LPIPS: the package's own map, and refusals of what does not fit."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.quality.lpips import Lpips
from deflow_cli.metrics.quality.spatial_lpips import SpatialLpips
from tests.metrics.space.challenge import alexnet


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    return Lpips(alexnet())


def _image(seed: int, height: int = 41, width: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_plain_value_is_that_of_the_scorer_and_the_map_has_the_image_s_size(lpips):
    reference, image = _image(0), _image(1)
    found = SpatialLpips(lpips, reference)(image)
    assert found.plain == pytest.approx(lpips(image[None], reference[None])[0].value, rel=1e-6)
    assert found.map_hw.shape == (41, 60)
    assert float(found.map_hw.mean()) == pytest.approx(found.plain, rel=0.05)


def test_the_map_is_that_of_the_package(lpips):
    reference, image = _image(0), _image(1)
    lpips._model.spatial = True
    try:
        signed = [picture[None].float() / 127.5 - 1 for picture in (image, reference)]
        expected = lpips._model(*signed)[0, 0]
    finally:
        lpips._model.spatial = False
    assert torch.allclose(SpatialLpips(lpips, reference)(image).map_hw, expected, rtol=1e-5, atol=1e-7)


def test_distance_is_where_the_images_differ(lpips):
    reference = _image(2, 64, 128)
    image = reference.clone()
    image[:, :, 96:] = 255 - image[:, :, 96:]
    found = SpatialLpips(lpips, reference)(image).map_hw
    assert float(found[:, 96:].mean()) > 20 * float(found[:, :32].mean())
    assert float(SpatialLpips(lpips, reference)(reference).map_hw.abs().max()) == 0


def test_what_does_not_fit_is_refused(lpips):
    with pytest.raises(ShapeError, match="at least 31 px"):
        SpatialLpips(lpips, _image(0, 30, 60))
    with pytest.raises(ShapeError, match="uint8 3 x H x W"):
        SpatialLpips(lpips, _image(0).float())
    with pytest.raises(ShapeError, match="as its reference"):
        SpatialLpips(lpips, _image(0))(_image(1, 41, 61))

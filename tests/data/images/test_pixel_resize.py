"""Downsampling rules: recorded numbers, MATLAB's own pairs, the weight-matrix form."""

import doctest
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deflow_cli.data.images import resize
from deflow_cli.data.images.resize import _apply_axis, downsample
from deflow_cli.errors import ConfigError

DATA = os.environ.get("DEFLOW_DATA", "")
GOLDEN = os.environ.get("DEFLOW_GOLDEN", "")
RECORDED = [
    [[101, 6, 123], [135, 26, 127], [135, 36, 119]],
    [[143, 26, 132], [123, 118, 128], [135, 163, 136]],
]


def blocks(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(37 * y + 101 * x) % 256, (y * x * 7) % 256, 255 * ((x + y) % 2)], -1).astype(np.uint8)


def test_numbers_recorded_from_the_rule_checked_against_matlab() -> None:
    assert downsample(blocks(6, 7), 3).tolist() == RECORDED
    assert downsample(blocks(6, 7), 3, "deflow").shape == (2, 3, 3)


def test_rules_differ_on_ties_only() -> None:
    pixels = blocks(64, 64)
    up, even = downsample(pixels, 2).astype(int), downsample(pixels, 2, "deflow").astype(int)
    assert np.abs(up - even).max() == 1
    interior = (slice(2, -2), slice(2, -2), 2)
    assert (downsample(pixels, 2)[interior] == 128).all()  # 127.5 is nearest to two


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_weight_matrix_equals_the_whole_factor_path(factor: int) -> None:
    pixels = blocks(37, 29)
    matrix = _apply_axis(_apply_axis(pixels / 255.0, factor, 0), factor, 1)
    np.testing.assert_allclose(downsample(pixels, factor, "matlab-double"), matrix, atol=1e-12)


def test_other_factors_and_depths() -> None:
    pixels = np.full((20, 31, 3), 77, np.uint8)
    assert (downsample(pixels, 2.5) == 77).all()
    assert downsample(pixels, 2.5).shape == (8, 13, 3)
    assert downsample(pixels[..., 0], 2).shape == (10, 16)
    deep = downsample(np.full((8, 8, 3), 60001, np.uint16), 2)
    assert deep.dtype == np.uint16
    assert (deep == 60001).all()
    assert downsample(np.zeros((8, 8, 3)), 2, "matlab-double").dtype == np.float64


def test_errors() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        downsample(blocks(8, 8), 2, "area")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="float64"):
        downsample(np.zeros((8, 8, 3)), 2)
    with pytest.raises(ConfigError, match="below 1"):
        downsample(blocks(8, 8), 0.5)


@pytest.mark.skipif(not GOLDEN, reason="DEFLOW_GOLDEN is not set")
@pytest.mark.parametrize("name", ["noise37x53", "smooth64x48", "steps40x40"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_golden_half_even(name: str, factor: int) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(Path(GOLDEN) / "resize_and_norm.safetensors")
    np.testing.assert_array_equal(
        downsample(tensors[f"{name}.u8"], factor, "deflow"), tensors[f"{name}.down{factor}"]
    )
    if factor == 4:
        double = downsample(tensors[f"{name}.u8"], 4, "matlab-double")
        np.testing.assert_allclose(double, tensors[f"{name}.down4_f64"], rtol=0, atol=1e-12)


@pytest.mark.skipif(not DATA, reason="DEFLOW_DATA is not set")
def test_matlab_pairs_away_from_their_old_border_rule() -> None:
    from PIL import Image

    files = sorted((Path(DATA) / "iqa/matlab-resize/set5").glob("*_HR.png"))
    assert len(files) == 15
    for file in files:
        expected = np.array(Image.open(str(file).replace("_HR", "_LR")))
        found = downsample(np.array(Image.open(file)), int(file.stem[9]))
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found[3:-3, 3:-3], expected[3:-3, 3:-3])


@pytest.mark.skipif(not DATA, reason="DEFLOW_DATA is not set")
def test_matlab_doubles_at_other_factors() -> None:
    scipy_io = pytest.importorskip("scipy.io")
    from PIL import Image

    folder = Path(DATA) / "iqa/matlab-resize"
    pixels = np.array(Image.open(folder / "butterfly.png").convert("RGB")) / 255.0
    expected = scipy_io.loadmat(folder / "butterfly_123x234_aa.mat")["down_down_butterfly_irregular_aa"]
    found = _apply_axis(_apply_axis(pixels, 256 / 123, 0), 256 / 234, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_the_example_runs():
    result = doctest.testmod(resize)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_the_two_definitions_of_the_weights_agree(factor):
    """numpy's weights for any factor, torch's for whole ones: equal but for rounding in float64."""
    values = np.random.default_rng(0).random((37, 51, 3))
    ours = _apply_axis(_apply_axis(values, factor, 0), factor, 1)
    assert np.abs(downsample(values, factor, "matlab-double") - ours).max() < 2e-15

"""PIQE against golden figures, a plain implementation and MATLAB's values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.metrics.quality.piqe import Piqe, piqe
from tests.golden.tolerances import tolerance
from tests.metrics.quality import iqa_plain
from tests.metrics.quality.iqa_data import (
    golden_picture,
    golden_rows,
    official_values,
    picture,
    rounded_close,
)
from tests.metrics.quality.iqa_golden import NAMES, as_batch, figures, golden_batch, golden_pixels


@pytest.mark.parametrize("name", NAMES)
def test_golden_figures(name: str) -> None:
    images, row = golden_batch(name), figures()[name]
    assert Piqe()(images)[0].value == pytest.approx(float(row["piqe"]), abs=tolerance("iqa.piqe"))
    symmetric = Piqe("symmetric")(images)[0].value
    assert symmetric == pytest.approx(float(row["piqe_sympad"]), abs=tolerance("iqa.piqe"))


@pytest.mark.parametrize(("padding", "mode"), [("replicate", "edge"), ("symmetric", "symmetric")])
@pytest.mark.parametrize("cut", [(64, 80), (3, 5), (1, 1), (16, 17), (33, 31)])
def test_sizes_are_those_of_the_plain_implementation(cut: tuple[int, int], padding: str, mode: str) -> None:
    for name in ("A_noise", "A_blur"):
        pixels = golden_pixels(name)[: cut[0], : cut[1]]
        value = Piqe(padding)(as_batch(pixels))[0].value  # type: ignore[arg-type]
        assert value == pytest.approx(iqa_plain.piqe(pixels, mode), abs=tolerance("iqa.plain"))


def test_flat_borders_and_noise_are_seen() -> None:
    """Blocks of JPEG-like plateaus are impaired; photographs under noise are noisy."""
    rng = np.random.default_rng(0)
    plateaus = rng.integers(0, 256, (8, 8, 3)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    plateaus[4::16] ^= 64  # something in each block, not on its border
    smooth = golden_pixels("A")[:128, :128]
    noisy = np.clip(smooth + rng.integers(-60, 61, smooth.shape), 0, 255).astype(np.uint8)
    values = piqe(as_batch(plateaus, smooth, noisy))
    assert float(values[0]) > float(values[1]) + 20
    assert float(values[2]) > float(values[1]) + 20


def test_a_uniform_image_has_100_by_definition() -> None:
    scores = Piqe()(torch.full((2, 3, 20, 5), 7, dtype=torch.uint8))
    assert [score.value for score in scores] == [100.0, 100.0]
    assert [score.reason for score in scores] == ["", ""]


def test_batch_and_memory_layout_do_not_matter() -> None:
    images = golden_batch("A", "A_flat", "A_dark")
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for index, score in enumerate(Piqe()(images)):
        assert Piqe()(strided[index : index + 1])[0] == score
        assert float(piqe(images)[index]) == pytest.approx(score.value, abs=tolerance("iqa.batch"))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError):
        Piqe()(golden_batch("A").float())
    with pytest.raises(ConfigError, match="zeros"):
        Piqe("zeros")  # type: ignore[arg-type]


def test_published_values() -> None:
    for row in official_values("piqe"):
        value = Piqe()(picture(row["image"]))[0].value
        assert rounded_close(value, row["value"]), (row["image"], value)


def test_research_figures() -> None:
    for row in golden_rows("nr.csv"):
        value = Piqe()(golden_picture(row))[0].value
        assert value == pytest.approx(float(row["piqe"]), abs=tolerance("iqa.piqe")), row["image"]

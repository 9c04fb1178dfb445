"""PSNR and SSIM against golden figures, scikit-image and published values."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.metrics.nss import matlab_gray
from deflow_cli.metrics.quality.fidelity import Psnr, Ssim, luma_y, psnr, ssim_gaussian, ssim_uniform
from tests.golden.tolerances import tolerance
from tests.metrics.quality.iqa_data import golden_rows, official_values, picture, rounded_close
from tests.metrics.quality.iqa_golden import WITH_REFERENCE, figures, golden_batch, golden_pixels

SCORERS = {
    "psnr_rgb": partial(Psnr),
    "psnr_rgb_crop4": partial(Psnr, crop_border=4),
    "psnr_y": partial(Psnr, color="y"),
    "ssim_gauss_rgb": partial(Ssim, "gaussian"),
    "ssim_gauss_rgb_crop4": partial(Ssim, "gaussian", crop_border=4),
    "ssim_gauss_y": partial(Ssim, "gaussian", color="y"),
    "ssim_uniform7_rgb": partial(Ssim, "uniform"),
}


def row_tolerance(column: str) -> float:
    return tolerance("iqa.psnr" if column.startswith("psnr") else "iqa.ssim")


@pytest.mark.parametrize("column", SCORERS)
def test_golden_figures_in_one_batch(column: str) -> None:
    images = golden_batch(*WITH_REFERENCE)
    scores = SCORERS[column]()(images, golden_batch("A").expand_as(images))
    for name, score in zip(WITH_REFERENCE, scores, strict=True):
        assert score.value == pytest.approx(float(figures()[name][column]), abs=row_tolerance(column)), name


@pytest.mark.parametrize(
    "cut", [(slice(None), slice(None)), (slice(0, 7), slice(3, 50)), (slice(1, 64), slice(0, 8))]
)
def test_ssim_is_scikit_images(cut: tuple[slice, slice]) -> None:
    a, b = (golden_pixels(name)[cut] for name in ("A", "A_noise"))
    tensors = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (a, b)]
    plain = structural_similarity(a, b, channel_axis=-1)
    assert float(ssim_uniform(*tensors)) == pytest.approx(plain, abs=tolerance("iqa.plain"))
    if min(a.shape[:2]) >= 11:
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        plain = structural_similarity(a, b, channel_axis=-1, **options)
        assert float(ssim_gaussian(*tensors)) == pytest.approx(plain, abs=tolerance("iqa.plain"))


def test_noise_of_known_error_has_its_closed_form() -> None:
    flat = torch.full((2, 3, 20, 30), 100, dtype=torch.uint8)
    shifted = flat.clone()
    shifted[0] += 5
    shifted[1, 1] += 6  # one channel of three: an MSE of 12
    assert psnr(flat, shifted).tolist() == pytest.approx(
        [20 * math.log10(255 / 5), 10 * math.log10(255**2 / 12)], abs=1e-12
    )
    luminance = (2 * 100 * 105 + (0.01 * 255) ** 2) / (100**2 + 105**2 + (0.01 * 255) ** 2)
    assert float(ssim_uniform(flat, shifted)[0]) == pytest.approx(luminance, abs=1e-12)
    assert float(ssim_gaussian(flat, shifted)[0]) == pytest.approx(luminance, abs=1e-12)


def test_identity_and_wrap_around() -> None:
    image = golden_batch("A")
    assert Psnr()(image, image)[0].value == math.inf
    assert Psnr(4, "y")(image, image)[0].value == math.inf
    assert Ssim()(image, image)[0].value == pytest.approx(1, abs=1e-12)
    black, white = (
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        torch.full((1, 3, 16, 16), 255, dtype=torch.uint8),
    )
    assert Psnr()(black, white)[0].value == pytest.approx(0, abs=1e-12)


def test_luma_is_studio_range() -> None:
    corners = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0]], dtype=torch.uint8)[:, :, None, None]
    assert luma_y(corners).flatten().tolist() == pytest.approx([16, 235, 16 + 65.481], abs=1e-12)


def test_swapped_channels_are_noticed_on_y_only() -> None:
    images, references = golden_batch("A_noise"), golden_batch("A")
    swapped = images.flip(1), references.flip(1)
    assert Psnr()(*swapped)[0].value == pytest.approx(Psnr()(images, references)[0].value, abs=1e-12)
    assert abs(Psnr(0, "y")(*swapped)[0].value - Psnr(0, "y")(images, references)[0].value) > 0.01


@pytest.mark.parametrize("column", SCORERS)
def test_batch_and_memory_layout_do_not_matter(column: str) -> None:
    images, references = golden_batch("A_noise", "A_blur"), golden_batch("A", "A_dark")
    scorer = SCORERS[column]()
    together = scorer(images, references)
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for index in range(2):
        alone = scorer(strided[index : index + 1], references[index : index + 1])[0]
        assert alone.value == together[index].value


def test_functions_of_a_batch_are_those_of_its_images() -> None:
    images, references = golden_batch("A_noise", "A_blur"), golden_batch("A", "A_dark")
    for function in (psnr, ssim_uniform, ssim_gaussian):
        together = function(images, references)
        for index in range(2):
            alone = function(images[index : index + 1], references[index : index + 1])
            assert float(alone) == pytest.approx(float(together[index]), abs=tolerance("iqa.batch"))


def test_too_small_after_the_crop_is_told() -> None:
    images = torch.zeros(2, 3, 18, 12, dtype=torch.uint8)
    references = torch.ones_like(images)
    for scorer, needed in ((Psnr(6), "1x1"), (Ssim("uniform", 3), "7x7"), (Ssim("gaussian", 1), "11x11")):
        scores = scorer(images, references)
        assert len(scores) == 2
        for score in scores:
            assert math.isnan(score.value)
            assert "12x18 less a border" in score.reason
            assert score.reason.endswith(f"smaller than {needed}")
    assert not math.isnan(
        Ssim("gaussian")(torch.zeros(1, 3, 11, 11, dtype=torch.uint8), references[:1, :, :11, :11])[0].value
    )


def test_wrong_input_is_refused() -> None:
    image = golden_batch("A")
    for wrong in (None, image[..., :-1], image[:, :1], image.float()):
        with pytest.raises(ShapeError):
            Psnr()(image, wrong)
    with pytest.raises(ConfigError, match="-1"):
        Psnr(-1)
    with pytest.raises(ConfigError, match="lab"):
        Ssim(color="lab")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="box"):
        Ssim("box")  # type: ignore[arg-type]


def test_variants_are_told_apart() -> None:
    variants = {make().metric.variant for make in SCORERS.values()}
    assert len(variants) == len(SCORERS)
    assert Psnr().metric.higher_is_better
    assert Psnr().metric.needs_reference
    assert Psnr().metric.unit == "dB"


def compared(images: Tensor, references: Tensor, note: str, metric: str) -> float:
    """The published variant that a row's note tells."""
    crop, color = 4 if "crop border 4" in note else 0, "y" if metric.endswith("_y") else "rgb"
    if metric.startswith("psnr"):
        return Psnr(crop, color)(images, references)[0].value  # type: ignore[arg-type]
    if "gray" in note or "downsampling by 2" in note:
        a, b = matlab_gray(images)[:, None], matlab_gray(references)[:, None]
        if "including its downsampling" in note:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        return float(ssim_gaussian(a, b))
    return Ssim("gaussian", crop, color)(images, references)[0].value  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["psnr", "psnr_y", "ssim", "ssim_y"])
def test_published_values(metric: str) -> None:
    for row in official_values(metric):
        value = compared(picture(row["image"]), picture(row["ref"]), row["note"], metric)
        assert rounded_close(value, row["value"]), (row, value)


def test_research_figures() -> None:
    for row in golden_rows("fr.csv"):
        pair = [picture(f"calibra/{side}/{row['image']}.bmp") for side in ("dist", "ref")]
        for column, make in SCORERS.items():
            value = make()(*pair)[0].value
            assert value == pytest.approx(float(row[column]), abs=row_tolerance(column)), (
                row["image"],
                column,
            )


def test_y_is_unrounded() -> None:
    y = luma_y(golden_batch("A"))
    assert np.any(np.abs(y.numpy() - np.rint(y.numpy())) > 0.1)

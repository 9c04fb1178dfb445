"""On a GPU the image-quality metrics have the CPU's values."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.metrics.quality.brisque import brisque_features
from deflow_cli.metrics.quality.fidelity import Psnr, Ssim
from deflow_cli.metrics.quality.niqe import Niqe, read_niqe_model
from deflow_cli.metrics.quality.piqe import Piqe
from deflow_cli.paths import weights_folder
from tests.golden.tolerances import tolerance
from tests.metrics.quality.iqa_golden import golden_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_scores_agree_with_the_cpu() -> None:
    model = read_niqe_model(weights_folder() / "niqe-live.safetensors")
    images = golden_batch("A_noise", "A_flat", "A_blur")
    references = golden_batch("A").expand_as(images)
    pairs = [
        (Niqe(model), Niqe(model, "cuda"), None),
        (Piqe(), Piqe(), None),
        (Psnr(4, "y"), Psnr(4, "y"), references),
        (Ssim(), Ssim(), references),
        (Ssim("gaussian"), Ssim("gaussian"), references),
    ]
    for on_cpu, on_gpu, reference in pairs:
        ours = on_cpu(images, reference)
        theirs = on_gpu(images.cuda(), None if reference is None else reference.cuda())
        for a, b in zip(ours, theirs, strict=True):
            assert a.value == pytest.approx(b.value, abs=tolerance("iqa.batch")), on_cpu.metric.name


def test_brisque_features_agree_with_the_cpu() -> None:
    images = golden_batch("A_noise", "A_flat")
    torch.testing.assert_close(
        brisque_features(images.cuda()).cpu(), brisque_features(images), rtol=0, atol=tolerance("iqa.batch")
    )

"""A flow as a degrader gives what `deflow degrade` gives."""

from __future__ import annotations

import torch

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.shift import ShiftDistribution
from tests.inference.small import small_model, smooth_images


def test_flow_gives_what_degrade_gives_whatever_the_tiles():
    model, image = small_model(), smooth_images(1, 70, 90)
    shift, expected = ShiftDistribution(model.prior), torch.empty(2, 3, 70, 90)

    def write(sample, window, piece):
        expected[sample][(..., *window.slices)] = piece[0].clamp(0, 1)

    components = draw_components(shift, 3, "photo.png", 2)
    job = Job(shift, [ImageNoise(3, "photo.png")], [components], [0.8])
    Translator(model).translate(image, job, [0, 1], write)
    for tile in (None, 32):
        degrader = FlowDegrader(model, tile=tile)
        for sample in (0, 1):
            result = degrader.degrade(image, [Draw(3, "photo.png", sample, 0.8)])
            assert torch.allclose(result[0], expected[sample], atol=2e-3 if tile else 1e-6)

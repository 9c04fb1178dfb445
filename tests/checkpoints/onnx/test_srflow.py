"""SRFlow as a graph: the samples of `deflow restore`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.onnx.noise import SeededNoise
from deflow_cli.checkpoints.onnx.srflow import write_onnx_srflow
from deflow_cli.inference.positional_noise import LatentNoise
from deflow_cli.inference.super_resolving import SampleRequest, SuperResolver
from tests.checkpoints.onnx.running import session
from tests.golden.tolerances import tolerance
from tests.inference.small_srflow import images, started_srflow

TOLERANCE = tolerance("onnx.srflow")  # of values in [0, 1]
KEY = "a.png"

MODELS = {
    "ours": {},
    "published": {"form": "direct", "affine": "published", "residual": "none", "splits": "published"},
    "told": {"noise": "strength", "contrast": True, "residual": "bicubic", "condition_channels": 8},
    "large": {"scale": 8, "form": "direct", "pointwise": "lu", "coupling_bound": 0.1},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_gives_the_samples_of_deflow_restore(tmp_path, name):
    model = started_srflow(**MODELS[name])
    path = tmp_path / "s.onnx"
    write_onnx_srflow(path, model, SeededNoise(KEY, 5), {}, temperature=0.8)
    runs = session(path)
    assert [given.name for given in runs.get_inputs()] == ["image"]
    for height, width in ((12, 16), (7, 9)):
        x = images(2, height, width)
        for temperature in (0.8, 0.0):
            given = {"temperature": np.array([temperature], np.float32)} if temperature != 0.8 else {}
            found = runs.run(None, {"image": x.numpy(), **given})[0]
            wanted = torch.empty(found.shape)

            def write(sample, window, piece, wanted=wanted):
                wanted[(..., *window.slices)] = piece

            noise = [LatentNoise(5 + index, KEY) for index in range(2)]
            SuperResolver(model, tile=0).restore(x, SampleRequest(noise, [temperature]), write)
            assert np.abs(found - wanted.clamp(0, 1).numpy()).max() < TOLERANCE
    assert float((wanted - wanted.mean()).std()) > 0.01

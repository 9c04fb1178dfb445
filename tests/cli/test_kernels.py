"""`deflow kernels`: what the workflow is asked for, what is refused before it, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deflow_cli.config.kernels import KernelSettings
from deflow_cli.data.blur.pools import KernelRecord
from deflow_cli.workflows.kernels import run as workflow
from tests.cli.conftest import Recorder

RECORD = KernelRecord(
    image="a.png",
    image_sha256="0",
    file="a.npy",
    covariance=[[1.0, 0.0], [0.0, 4.0]],
    narrow=1.0,
    wide=2.0,
    angle=0.0,
    contrast=[0.3, 0.01],
    sharpness="blur of 1.00 x 2.00 px, wide along 0 degrees; keeps 30% x 1% of the finest detail",
    seconds=0.2,
)


@pytest.fixture
def recorder(monkeypatch):
    found = Recorder(workflow.KernelsReport(Path("out"), KernelSettings(), [RECORD]))
    monkeypatch.setattr(workflow, "estimate_kernels", found)
    return found


def test_request_by_default(deflow, folders, recorder):
    result = deflow("kernels", folders[1], "out")
    assert result.exit_code == 0, result.output
    assert recorder.requests == [workflow.KernelsRequest(folders[1], Path("out"))]
    assert "blur of 1.00 x 2.00 px, wide along 0 degrees" in result.stdout
    assert "1 kernels written to out" in result.stdout


def test_request_with_everything(deflow, folders, recorder):
    args = ["--method", "kernelgan", "--scale", "4", "--limit", "9", "--iterations", "100", "--seed", "3"]
    result = deflow("kernels", folders[1], "out", *args, "--batch", "4", "--device", "cpu")
    assert result.exit_code == 0, result.output
    settings = KernelSettings("kernelgan", 4, 100, 3)
    assert recorder.requests == [workflow.KernelsRequest(folders[1], Path("out"), settings, 9, 4, "cpu")]


def test_json(deflow, folders, recorder):
    result = deflow("kernels", folders[1], "out", "--json")
    told = json.loads(result.stdout)
    assert told["settings"] == {"method": "spectrum", "scale": 2, "iterations": 3000, "seed": 0}
    assert told["records"][0]["covariance"] == [[1.0, 0.0], [0.0, 4.0]]


def test_failures_are_named_and_end_with_1(deflow, folders, recorder):
    recorder.answer = workflow.KernelsReport(
        Path("out"), KernelSettings(), [RECORD], [], [(Path("b.png"), "flat")]
    )
    result = deflow("kernels", folders[1], "out")
    assert result.exit_code == 1
    assert "failed: b.png: flat" in result.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--method", "magic"], "use spectrum or kernelgan"),
        (["--scale", "3"], "use 2 or 4"),
        (["--iterations", "100"], "--iterations is KernelGAN's"),
        (["--batch", "2"], "--batch is KernelGAN's"),
        (["--device", "tpu"], "--device is 'tpu'"),
    ],
)
def test_refused_before_the_workflow(deflow, folders, recorder, args, says):
    result = deflow("kernels", folders[1], "out", *args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not recorder.requests


def test_no_folder(deflow, recorder):
    result = deflow("kernels", "nowhere", "out")
    assert result.exit_code == 1
    assert "pass a folder of images as NOISY" in result.stderr

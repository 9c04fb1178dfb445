"""The adapter in its host: threads, order and other people's random numbers do not matter."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deflow_cli.checkpoints.format import save_model
from deflow_cli.cli.main import app
from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.integrations.wtp import WtpDegradation
from tests.inference.small import small_model, smooth_images
from tests.integrations.host import lay_out, started


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, small_model(), {})
    return path


def pictures(count: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for one in smooth_images(count, 40, 52)]


def test_in_the_host_from_threads(model: Path, tmp_path: Path) -> None:
    process = lay_out(tmp_path)
    done = CliRunner().invoke(app, ["export", "wtp", str(process), "--model", str(model)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in process.iterdir()) == [
        "__init__.py",
        "deflow_degr.py",
        "deflow_degr.safetensors",
    ]
    assert (process / "deflow_degr.safetensors").read_bytes() == model.read_bytes()
    assert str(tmp_path) not in (process / "deflow_degr.py").read_text()
    images = pictures(6)
    with started(tmp_path) as classes:
        step = classes["deflow"]({"type": "deflow", "temperature": [0.6, 1.2], "seed": 3})
        np.random.seed(5)  # noqa: NPY002  # as the host does
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        alone = [step.run(image, image) for image in images]
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(lambda image: step.run(image, image), images[::-1]))[::-1]
        assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
        again = classes["deflow"]({"type": "deflow", "temperature": [0.6, 1.2], "seed": 4})
        other = again.run(images[0], images[0])[0]
    for image, (lq, hq), (threaded, _) in zip(images, alone, together, strict=True):
        assert hq is image
        assert (lq.dtype, lq.shape) == (np.float32, image.shape)
        assert lq.flags.c_contiguous
        assert 0 <= lq.min() <= lq.max() <= 1
        assert np.abs(lq - image).std() > 0.01
        assert np.array_equal(lq, threaded)
    assert not np.array_equal(other, alone[0][0])


def test_probability_grey_and_pickling(model: Path) -> None:
    images = pictures(40)
    step = pickle.loads(pickle.dumps(WtpDegradation(model, {"probability": 0.5, "seed": 1})))
    small = [image[:8, :8] for image in images]
    changed = [not np.array_equal(step.run(image, image)[0], image) for image in small]
    assert 8 < sum(changed) < 32
    always = WtpDegradation(model, {})
    before = images[0].copy()
    grey = images[0][..., 1]
    lq, hq = always.run(grey, grey)
    assert lq.shape == grey.shape
    assert hq is grey
    assert np.abs(lq - grey).std() > 0.005
    assert np.array_equal(images[0], before)
    with pytest.raises(ShapeError, match="expected H x W"):
        always.run(np.zeros((4, 4, 4), np.float32), before)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"strength": 2}, "strength is unknown"),
        ({"temperature": [1.2, 0.6]}, "1.2 to 0.6"),
        ({"temperature": [1, 2, 3]}, "temperature is"),
        ({"probability": 2}, "probability is 2"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_blocks_that_will_not_do(model: Path, block: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WtpDegradation(model, block)

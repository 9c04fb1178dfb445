"""The transform: every type of picture comes back as it was, and workers draw noise of their own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from deflow_cli.checkpoints.format import save_model
from deflow_cli.errors import ConfigError, DataError, ShapeError
from deflow_cli.integrations.transforms import DegradeTransform
from tests.inference.small import small_model, smooth_images


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, small_model(), {})
    return path


TENSOR = smooth_images(1, 21, 30)[0]
BYTES = (TENSOR * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        TENSOR,
        TENSOR[:1],
        TENSOR.double(),
        TENSOR.expand(2, -1, -1, -1),
        BYTES,
        TENSOR.permute(1, 2, 0).numpy(),
        BYTES.permute(1, 2, 0).numpy(),
        BYTES[0].numpy(),
        (TENSOR * 65535).round().to(torch.uint16).permute(1, 2, 0).numpy(),
        *(
            Image.fromarray(BYTES.permute(1, 2, 0).numpy()).convert(mode)
            for mode in ("RGB", "L", "RGBA", "LA")
        ),
    ],
    # Equal in every process, as the tests' workers want it: a tensor's own `mode` is a method.
    ids=lambda picture: f"{type(picture).__name__} {getattr(picture, 'dtype', None) or picture.mode}",
)
def test_every_picture_keeps_its_type(model, picture):
    degraded = DegradeTransform(model, seed=1)(picture)
    assert type(degraded) is type(picture) or isinstance(degraded, Image.Image)
    if isinstance(picture, Image.Image):
        assert (degraded.mode, degraded.size) == (picture.mode, picture.size)
        if "A" in picture.getbands():
            assert degraded.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
        degraded, picture = np.asarray(degraded), np.asarray(picture)
    assert (degraded.shape, degraded.dtype) == (picture.shape, picture.dtype)
    before, after = (torch.as_tensor(np.asarray(each).astype(np.float64)) for each in (picture, degraded))
    top = {"uint8": 255.0, "uint16": 65535.0}.get(str(picture.dtype).removeprefix("torch."), 1.0)
    assert 0.005 < float((after - before).std()) / top < 0.3


def test_a_seed_makes_it_a_function_of_the_pixels(model):
    seeded, free = DegradeTransform(model, seed=1), DegradeTransform(model)
    assert torch.equal(seeded(TENSOR), seeded(TENSOR))
    assert not torch.equal(seeded(TENSOR), DegradeTransform(model, seed=2)(TENSOR))
    assert not torch.equal(free(TENSOR), free(TENSOR))
    torch.manual_seed(3)
    first = free(TENSOR)
    torch.manual_seed(3)
    assert torch.equal(free(TENSOR), first)
    assert torch.equal(pickle.loads(pickle.dumps(seeded))(TENSOR), seeded(TENSOR))
    assert len(pickle.dumps(seeded)) < 1000


def test_in_a_pipeline_of_torchvision(model):
    picture = Image.fromarray(BYTES.permute(1, 2, 0).numpy())
    steps = v2.Compose(
        [v2.RandomCrop(16), DegradeTransform(model), v2.ToImage(), v2.ToDtype(torch.float32, True)]
    )
    assert steps(picture).shape == (3, 16, 16)


class Same(Dataset[torch.Tensor]):
    """One picture again and again."""

    def __init__(self, transform: DegradeTransform) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(TENSOR)


def test_workers_draw_noise_of_their_own(model):
    def epochs(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        loader = DataLoader(Same(DegradeTransform(model)), batch_size=1, num_workers=2)
        return [batch[0] for _ in range(2) for batch in loader]

    first = epochs(1)
    assert len({picture.numpy().tobytes() for picture in first}) == 8
    assert all(torch.equal(one, two) for one, two in zip(first, epochs(1), strict=True))


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        (torch.zeros(4, 5, 5), ShapeError, "1 or 3 channels"),
        (np.zeros((5, 5, 2), np.uint8), ShapeError, "H x W x 1 or 3"),
        (torch.zeros(3, 5, 5, dtype=torch.int64), DataError, "int64"),
        ([[1, 2]], DataError, "list"),
        (torch.full((3, 5, 5), 200.0), DataError, "200"),
    ],
)
def test_pictures_that_are_none(model, picture, error, words):
    with pytest.raises(error, match=words):
        DegradeTransform(model)(picture)


def test_a_temperature_that_is_none():
    with pytest.raises(ConfigError, match="temperature"):
        DegradeTransform(temperature=(2, 1))

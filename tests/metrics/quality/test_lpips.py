"""LPIPS: the package's value by an independent computation, limits, refusals, and the official figures."""

from __future__ import annotations

import csv
import math
import os
import warnings
from pathlib import Path

import lpips as package
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, max_pool2d

from deflow_cli.checkpoints import hub
from deflow_cli.errors import CheckpointError, ConfigError, ShapeError
from deflow_cli.metrics.quality.lpips import Lpips

# torchvision's `features`: convolutions by index (out, in, kernel, stride, padding), pools by index (kernel).
LAYERS = {
    "alex": (
        {0: (64, 3, 11, 4, 2), 3: (192, 64, 5, 1, 2), 6: (384, 192, 3, 1, 1)}
        | {8: (256, 384, 3, 1, 1), 10: (256, 256, 3, 1, 1)},
        {2: 3, 5: 3},
        (1, 4, 7, 9, 11),
    ),
    "vgg": (
        {0: (64, 3, 3, 1, 1), 2: (64, 64, 3, 1, 1), 5: (128, 64, 3, 1, 1), 7: (128, 128, 3, 1, 1)}
        | {10: (256, 128, 3, 1, 1), 12: (256, 256, 3, 1, 1), 14: (256, 256, 3, 1, 1)}
        | {17: (512, 256, 3, 1, 1)}
        | {index: (512, 512, 3, 1, 1) for index in (19, 21, 24, 26, 28)},
        {4: 2, 9: 2, 16: 2, 23: 2},
        (3, 8, 15, 22, 29),
    ),
}


def _random_trunk(net: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for index, (out, into, kernel, _, _) in LAYERS[net][0].items():
        spread = math.sqrt(2 / (into * kernel * kernel))
        shape = (out, into, kernel, kernel)
        tensors[f"features.{index}.weight"] = torch.randn(shape, generator=generator) * spread
        tensors[f"features.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
    return tensors


@pytest.fixture(scope="module")
def trunks(tmp_path_factory) -> dict[str, Path]:
    """Files as torchvision's, with random tensors and a classifier that is not read."""
    folder = tmp_path_factory.mktemp("trunks")
    paths = {"alex": folder / "alex.pth", "vgg": folder / "vgg.safetensors"}
    unread = {"classifier.1.weight": torch.zeros(2, 2)}
    torch.save(_random_trunk("alex") | unread, paths["alex"])
    save_file(_random_trunk("vgg") | unread, paths["vgg"])
    return paths


def _images(count: int = 2, height: int = 50, width: int = 67, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def _by_the_book(net: str, image_chw: torch.Tensor, reference_chw: torch.Tensor) -> float:
    """The definition, in float64: unit features, squared differences, 1x1 weights, means, sum."""
    tensors = {key: value.double() for key, value in _random_trunk(net).items()}
    lin = torch.load(
        Path(package.__file__).parent / f"weights/v0.1/{net}.pth", map_location="cpu", weights_only=True
    )
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
    convolutions, pools, taps = LAYERS[net]
    stacks = []
    for picture in (image_chw, reference_chw):
        x = (((picture.double() / 127.5 - 1) - shift) / scale)[None]
        features = []
        for index in range(max(taps) + 1):
            if index in convolutions:
                _, _, _, stride, padding = convolutions[index]
                weight, bias = tensors[f"features.{index}.weight"], tensors[f"features.{index}.bias"]
                x = conv2d(x, weight, bias, stride=stride, padding=padding)
            elif index in pools:
                x = max_pool2d(x, pools[index], 2)
            else:
                x = x.clamp(min=0)
            if index in taps:
                features.append(x[0] / (x[0].square().sum(0).sqrt() + 1e-10))
        stacks.append(features)
    total = 0.0
    for level, (one, other) in enumerate(zip(*stacks, strict=True)):
        weights = lin[f"lin{level}.model.1.weight"].double().reshape(-1, 1, 1)
        total += float(((one - other).square() * weights).sum(0).mean())
    return total


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_agrees_with_the_definition(trunks, net):
    images, references = _images(seed=1), _images(seed=2)
    references[1] = (images[1].float() * 0.9 + 5).to(torch.uint8)
    scores = Lpips(trunks[net], net)(images, references)
    expected = [_by_the_book(net, *pair) for pair in zip(images, references, strict=True)]
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-5)
    assert min(expected) > 1e-3
    assert max(expected) > 2 * min(expected)


def test_identical_images_are_at_zero_and_order_does_not_matter(trunks):
    scorer = Lpips(trunks["alex"])
    images, references = _images(seed=3), _images(seed=4)
    assert [score.value for score in scorer(images, images)] == [0.0, 0.0]
    one, other = scorer(images, references), scorer(references, images)
    assert [s.value for s in one] == pytest.approx([s.value for s in other], rel=1e-6)


def test_a_score_does_not_depend_on_the_batch(trunks):
    scorer = Lpips(trunks["alex"])
    images, references = _images(4, seed=5), _images(4, seed=6)
    batch = [score.value for score in scorer(images, references)]
    alone = [scorer(images[i : i + 1], references[i : i + 1])[0].value for i in range(4)]
    assert batch == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("vgg", 16)])
def test_smallest_image(trunks, net, least):
    scorer = Lpips(trunks[net], net)
    score = scorer(_images(1, least, least, 7), _images(1, least, least, 8))[0]
    assert math.isfinite(score.value)
    assert score.value > 0
    assert score.reason == ""
    below = scorer(_images(1, 40, least - 1, 7), _images(1, 40, least - 1, 8))[0]
    assert math.isnan(below.value)
    assert f"{least - 1}x40" in below.reason
    assert f"at least {least} px" in below.reason


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("vgg", 16)])
def test_the_limit_is_the_networks_own(trunks, net, least):
    """One pixel less leaves a pooling layer nothing."""
    model = Lpips(trunks[net], net)._model
    with pytest.raises(RuntimeError, match="too small"):
        model(torch.zeros(1, 3, 40, least - 1), torch.zeros(1, 3, 40, least - 1))


def test_metric_tells_its_variant(trunks):
    metric = Lpips(trunks["alex"]).metric
    assert (metric.name, metric.higher_is_better, metric.needs_reference) == ("lpips", False, True)
    for word in ("AlexNet", "v0.1", "full image", "no crop"):
        assert word in metric.variant
    assert Lpips(_random_trunk("vgg"), "vgg").metric.name == "lpips-vgg"


def test_loading_is_silent_and_draws_nothing(trunks):
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lpips(trunks["alex"])
    assert torch.equal(before, torch.get_rng_state())


def test_a_missing_tensor_is_named(tmp_path):
    path = tmp_path / "cut.pth"
    tensors = _random_trunk("alex")
    del tensors["features.8.bias"]
    torch.save(tensors, path)
    with pytest.raises(CheckpointError, match=r"cut\.pth: has no tensor features\.8\.bias"):
        Lpips(path)


def test_the_other_networks_file_is_refused(trunks):
    with pytest.raises(CheckpointError, match=r"vgg\.safetensors: features\.0\.weight is \(64, 3, 3, 3\)"):
        Lpips(trunks["vgg"], "alex")


def test_a_tensor_too_many_is_named():
    tensors = _random_trunk("alex") | {"features.12.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"features\.12\.weight has no place"):
        Lpips(tensors)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_broken_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=name):
        Lpips(tmp_path / name)


def test_a_file_of_something_else_and_a_missing_one(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: holds no state dict"):
        Lpips(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        Lpips(tmp_path / "absent.pth")


def test_wrong_input_is_refused(trunks):
    scorer = Lpips(trunks["alex"])
    images = _images()
    with pytest.raises(ShapeError, match="references"):
        scorer(images)
    with pytest.raises(ShapeError, match="differ"):
        scorer(images, images[:, :, :-1])
    with pytest.raises(ShapeError, match="uint8"):
        scorer(images.float(), images.float())
    with pytest.raises(ConfigError, match="squeeze"):
        Lpips(trunks["alex"], "squeeze")


def test_official_values():
    """The published figures of the original code, where AlexNet's weights and the images are at hand."""
    trunk = hub.find(hub.remote_file("alexnet"))
    if trunk is None:
        pytest.skip("AlexNet's weights are not on this machine (deflow weights pull alexnet)")
    data = os.environ.get("DEFLOW_DATA")
    if data is None:
        pytest.skip("DEFLOW_DATA names no folder of research data")
    from deflow_cli.data.images.files import read_rgb8

    folder = Path(data) / "iqa"
    scorer = Lpips(trunk)
    with open(folder / "official_values.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "lpips"]
    assert rows
    for row in rows:
        image, reference = (
            torch.from_numpy(read_rgb8(folder / row[key])).permute(2, 0, 1)[None] for key in ("image", "ref")
        )
        # the figures are printed with four digits
        assert scorer(image, reference)[0].value == pytest.approx(float(row["value"]), abs=2e-4), row["image"]

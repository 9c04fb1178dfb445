"""The Python API: shapes, round trips, generators, likelihoods; in worker processes too."""

from __future__ import annotations

import doctest
import importlib
import pickle
import pkgutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import deflow_cli
import deflow_cli.workflows.api
from deflow_cli.checkpoints.format import save_model
from deflow_cli.config.fit import FitConfig, RunConfig
from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting, compress, read_history
from deflow_cli.errors import CheckpointError, ConfigError, DataError, ShapeError
from deflow_cli.inference.degradation_model import DegradationModel
from tests.example_folder import lay_out_examples
from tests.inference.small import build, small_config, small_model, smooth_images
from tests.listening import Listener


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    return DegradationModel(small_model())


THEMES = [found.name for found in pkgutil.iter_modules(deflow_cli.workflows.api.__path__)]


@pytest.mark.parametrize("theme", [name for name in THEMES if name != "arguments"])
def test_examples_of_the_documentation(tmp_path, monkeypatch, theme):
    lay_out_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    result = doctest.testmod(importlib.import_module(f"deflow_cli.workflows.api.{theme}"))
    assert result.attempted > 3
    assert result.failed == 0


def test_public_names_are_what_they_say():
    assert set(deflow_cli.__all__) - {"__version__"} == set(deflow_cli._HOMES)
    for name in deflow_cli.__all__:
        assert getattr(deflow_cli, name) is not None
    for function in deflow_cli.workflows.api.__all__:
        assert ">>> " in getattr(deflow_cli, function).__doc__  # Python 3.13 takes the indentation away
        assert getattr(deflow_cli, function) is getattr(deflow_cli.workflows.api, function)


@pytest.mark.parametrize("temperature", [-1.0, (1.2, 0.6), float("nan")])
def test_wrong_temperatures_are_refused(tmp_path, temperature):
    with pytest.raises(ConfigError, match="temperature is"):
        deflow_cli.degrade(tmp_path, tmp_path / "out", temperature=temperature)


def test_load_model_from_file_and_run_folder(tmp_path, model):
    path = tmp_path / "run" / "model.safetensors"
    save_model(path, small_model(), {"step": 3})
    image = smooth_images(1, 20, 20)
    expected = model.degrade(image, generator=seeded())
    for given in (path, str(path), path.parent):
        loaded = deflow_cli.load_model(given)
        assert loaded.facts["step"] == 3
        assert torch.equal(loaded.degrade(image, generator=seeded()), expected)
    with pytest.raises(CheckpointError, match="no such model"):
        deflow_cli.load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("size", [(1, 1), (21, 30), (32, 32)])
def test_shapes_and_range(model, size):
    image = smooth_images(2, *size)
    one = model.degrade(image, generator=seeded())
    several = model.degrade(image, samples=3, generator=seeded())
    assert one.shape == image.shape
    assert several.shape == (2, 3, 3, *size)
    assert model.restore(image).shape == image.shape
    for result in (one, several):
        assert result.dtype == torch.float32
        assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_generator_decides(model):
    image = smooth_images(1, 24, 24)
    assert torch.equal(model.degrade(image, generator=seeded(1)), model.degrade(image, generator=seeded(1)))
    assert not torch.equal(
        model.degrade(image, generator=seeded(1)), model.degrade(image, generator=seeded(2))
    )
    generator = seeded(1)
    assert not torch.equal(
        model.degrade(image, generator=generator), model.degrade(image, generator=generator)
    )
    torch.manual_seed(5)
    first = model.degrade(image)
    torch.manual_seed(5)
    assert torch.equal(first, model.degrade(image))


def test_the_same_image_twice_in_a_batch_gives_two_samples(model):
    image = smooth_images(1, 24, 24).expand(2, -1, -1, -1)
    drawn = model.degrade(image, generator=seeded())
    assert float((drawn[0] - drawn[1]).abs().mean()) > 1 / 255
    still = model.degrade(image, temperature=0.0, generator=seeded())
    assert torch.allclose(still[0], still[1], atol=1e-6)


def test_encode_decode_round_trip(model):
    image = smooth_images(2, 21, 30)
    for degraded in (False, True):
        encoded = model.encode(image, seeded(), degraded=degraded)
        assert encoded.size == (21, 30)
        assert float((model.decode(encoded) - image).abs().max()) <= 0.51 / 255
    shifted = encoded.with_latents([z + 0.3 for z in encoded.latents])
    assert float((model.decode(shifted) - image).abs().mean()) > 1 / 255


def test_log_prob_is_the_density_of_the_flow(model):
    """Against the parts, and additive over independent halves of an unconditional model."""
    image = smooth_images(2, 32, 32)
    for degraded in (False, True):
        encoded = model._encode(image, 32, seeded(), degraded)
        prior = model.model.prior
        log_prior = (prior.log_prob_degraded if degraded else prior.log_prob_clean)(encoded.latents)
        expected = (log_prior + encoded.log_det).detach()
        assert torch.allclose(model.log_prob(image, degraded, seeded()), expected)
    bits = model.model.nats_to_bits_per_dim(model.log_prob(image, generator=seeded()), image.shape)
    assert 0 < float(bits.min()) < float(bits.max()) < 30


def test_log_prob_prefers_the_domain_an_image_is_of(model):
    image = smooth_images(4, 64, 64)
    degraded = model.degrade(image, generator=seeded())

    def preference(x):
        return model.log_prob(x, True, seeded()) - model.log_prob(x, False, seeded())

    assert bool((preference(degraded) > preference(image)).all())


def test_log_prob_counts_the_map_of_channel_statistics():
    """Degraded statistics of half the spread: the map to clean stretches by 2 in every dimension."""
    plain, mapped = build(), build()
    mapped.statistics.set(
        torch.full((4, 3), 0.5), torch.tensor([[0.2], [0.1], [0.2], [0.1]]).expand(4, 3).clone()
    )
    image = smooth_images(1, 32, 32).clamp(0.3, 0.7)
    stretched = 0.5 + 2 * (image - 0.5)
    # without noises, whose scale the map would change too
    with torch.no_grad():
        encoded = DegradationModel(mapped)._encode(image, 10**9, seeded(), True)
        same = DegradationModel(plain)._encode(stretched, 10**9, seeded(), True)
    assert torch.allclose(encoded.log_det, same.log_det, atol=1e-2)
    ours = DegradationModel(mapped).log_prob(image, True, seeded())
    inner = DegradationModel(mapped)._encode(image, 32, seeded(), True)
    expected = mapped.prior.log_prob_degraded(inner.latents) + inner.log_det
    assert torch.allclose(ours - expected, torch.tensor(3 * 32 * 32 * 0.6931472), rtol=1e-3)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (torch.rand(3, 8, 8), ShapeError, "expected B x 3"),
        (torch.rand(1, 4, 8, 8), ShapeError, "expected B x 3"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), DataError, "uint8"),
        (torch.full((1, 3, 8, 8), 128.0), DataError, "128"),
        (torch.full((1, 3, 8, 8), torch.nan), DataError, "nan"),
    ],
)
def test_wrong_images_are_refused(model, image, error, words):
    with pytest.raises(error, match=words):
        model.degrade(image)


def test_results_can_feed_a_network_in_training(model):
    image = smooth_images(1, 16, 16).requires_grad_()
    weight = torch.ones(1, 3, 3, 3, requires_grad=True)
    torch.nn.functional.conv2d(model.degrade(image), weight).sum().backward()
    assert weight.grad is not None


def test_pickled_model_is_the_same(model):
    image = smooth_images(1, 16, 16)
    copy = pickle.loads(pickle.dumps(model))
    assert torch.equal(copy.degrade(image, generator=seeded()), model.degrade(image, generator=seeded()))


def test_fit_is_the_command(tmp_path):
    """Two steps on small pictures; what it returns can be loaded, and a run is not overwritten."""
    for index in range(6):
        image = smooth_images(1, 40, 40, seed=index)
        write_image(tmp_path / "clean" / f"{index}.png", Image(to_pixels(image)))
        noise = 0.05 * torch.randn(image.shape, generator=seeded(index))
        noisy = smooth_images(1, 40, 40, seed=100 + index) + noise
        write_image(tmp_path / "noisy" / f"{index}.png", Image(to_pixels(noisy)))
    config = RunConfig(
        small_config("correlated").flow,
        small_config().encoder,
        FitConfig(iterations=2, batch_size=2, patch_size=16),
    )
    folders = tmp_path / "clean", tmp_path / "noisy"
    result = deflow_cli.fit(
        *folders, out=tmp_path / "run", preset=config, settings=["fit.iterations=1"], device="cpu"
    )
    assert result.step == 1
    assert deflow_cli.load_model(result.model_path).facts["step"] == 1
    with pytest.raises(ConfigError, match="holds a run already"):
        deflow_cli.fit(*folders, out=tmp_path / "run", device="cpu")
    heard = Listener()
    again = deflow_cli.fit(
        *folders, out=tmp_path / "run", settings=["fit.seed=5"], resume=True, device="cpu", reporter=heard
    )
    assert again.step == 1
    assert any(text.endswith("not applied: fit.seed") for text in heard.warnings)


class Pictures(Dataset):
    """The same picture again and again, degraded on the fly."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        torch.set_num_threads(1)
        return self.transform(smooth_images(1, 16, 16)[0])


@pytest.mark.slow(seconds=11)
def test_transform_in_loader_workers(model):
    def epoch():
        torch.manual_seed(0)
        loader = DataLoader(Pictures(model), batch_size=2, num_workers=2, multiprocessing_context="spawn")
        return torch.cat(list(loader))

    drawn = epoch()
    assert drawn.shape == (4, 3, 16, 16)
    differences = [(drawn[i] - drawn[j]).abs().mean() for i in range(4) for j in range(i)]
    assert min(float(d) for d in differences) > 1 / 255


def test_samples_are_compressed_as_the_file_records(tmp_path):
    folder = FolderCompression(2, ((JpegSetting.of_quality(60), 0.5), (JpegSetting.of_quality(80), 0.5)))
    save_model(tmp_path / "old.safetensors", small_model(), {})
    save_model(tmp_path / "new.safetensors", small_model(), {"compression": folder.to_dict()})
    image = smooth_images(2, 150, 130)
    old, new = (deflow_cli.load_model(tmp_path / f"{name}.safetensors") for name in ("old", "new"))
    off = deflow_cli.load_model(tmp_path / "new.safetensors", compression="no")
    plain, ours, same = (model.degrade(image, samples=3, generator=seeded()) for model in (old, new, off))
    assert torch.equal(plain, same)
    qualities = set()
    for before, after in zip(plain.flatten(0, 1), ours.flatten(0, 1), strict=True):
        history = read_history(to_pixels(after))
        assert np.array_equal(to_pixels(after), compress(to_pixels(before), history.setting))
        qualities.add(history.setting.quality)
    assert qualities == {60, 80}
    assert torch.equal(old.restore(image), new.restore(image))
    assert torch.equal(new.degrade(image, 0.0), new.degrade(image, 0.0))
    copy = pickle.loads(pickle.dumps(new))
    assert torch.equal(copy.degrade(image, generator=seeded()), new.degrade(image, generator=seeded()))

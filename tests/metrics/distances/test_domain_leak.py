"""Domain leak: a planted leak is found, none is invented, the choice follows."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.errors import ShapeError
from deflow_cli.metrics.distances.domain_leak import Leak, domain_leak, pool_leaks
from deflow_cli.workflows.fit import conditioning as workflow


@pytest.fixture(autouse=True)
def few_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(count: int, seed: int, noise: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        coarse = torch.rand(1, 3, 5, 6, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic")[0].clamp(0, 1)
        out.append(smooth + noise * torch.randn(smooth.shape, generator=generator))
    return out


def measure(noise: float, h_noise: float = 0.0) -> Leak:
    sets = [images(24, 0, 0), images(24, 1, noise), images(12, 2, 0), images(12, 3, noise)]
    return domain_leak(*sets, seed=0, steps=60, h_noise=h_noise)


def test_a_planted_leak_is_found_and_noise_hides_it() -> None:
    leak = measure(0.06)
    assert leak.accuracy > 0.9
    assert leak.exceeds_chance(0.05)
    assert leak == measure(0.06)
    hidden = measure(0.01, h_noise=0.1)
    assert abs(hidden.accuracy - 0.5) < 0.15
    assert not hidden.exceeds_chance(0.05)


def test_nothing_is_invented() -> None:
    leak = measure(0.0)
    assert not leak.exceeds_chance(0.05)
    assert 0.01 < leak.standard_error < 0.12
    assert leak.chance == 0.5


def test_standard_error_counts_images() -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.2, 0.9, (2, 100))
    leak = pool_leaks(
        [
            Leak(0, 0, tuple(shares[0, :50]), tuple(shares[1, :50])),
            Leak(0, 0, tuple(shares[0, 50:]), tuple(shares[1, 50:])),
        ]
    )
    assert leak.accuracy == pytest.approx(shares.mean())
    draws = [
        rng.choice(shares[0], 100).mean() / 2 + rng.choice(shares[1], 100).mean() / 2 for _ in range(2000)
    ]
    assert leak.standard_error == pytest.approx(np.std(draws), rel=0.1)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="8 px"):
        domain_leak(*[[torch.zeros(3, 8, 20)]] * 4, seed=0, steps=1)


def pools(folder: Path, degrade: bool) -> list[ImageCache]:
    rng = np.random.default_rng(5)
    found = []
    for side in ("clean", "noisy"):
        for i in range(12):
            coarse = rng.uniform(30, 220, (12, 12, 3))
            pixels = coarse.repeat(8, 0).repeat(8, 1)
            if side == "noisy":
                pixels += 12 * rng.standard_normal(pixels.shape)
                if degrade:
                    pixels[..., 0] *= 0.4
            write_image(folder / side / f"{i:02d}.png", Image(np.clip(pixels, 0, 255).astype(np.uint8)))
        found.append(ImageCache(sorted((folder / side).iterdir())))
    return found


def test_choice_takes_the_least_that_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "LEAK_TEST_STEPS", 60)
    clean, noisy = pools(tmp_path, False)
    choice = workflow.choose_conditioning(clean, noisy, candidates=(1, 4, 8), levels_multiple=8, seed=0)
    assert (choice.downsample, choice.h_noise) == (4, 0.03)
    assert [row[0] for row in choice.table] == [1, 4]
    assert choice.table[0][2] > 0.65
    assert "1/4 hides" in choice.text


def test_choice_says_when_nothing_hides_and_affine_maps_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "LEAK_TEST_STEPS", 60)
    clean, noisy = pools(tmp_path, True)
    choice = workflow.choose_conditioning(clean, noisy, candidates=(4, 8), seed=0)
    assert choice.h_noise == 0.06
    assert [row[0] for row in choice.table] == [4, 8]
    assert "betrays" in choice.text
    mended = workflow.choose_conditioning(
        clean,
        noisy,
        candidates=(4, 8),
        seed=0,
        noisy_map=lambda h: (h * torch.tensor([2.5, 1, 1])[:, None, None]).clamp(0, 1),
    )
    assert (mended.downsample, mended.h_noise) == (4, 0.03)


def test_choice_keeps_its_time_and_works_on_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "LEAK_TEST_STEPS", 20)
    clean, noisy = pools(tmp_path, True)
    start = time.monotonic()
    choice = workflow.choose_conditioning(clean, noisy, candidates=(1, 2, 4), seed=0, time_limit=0.0)
    assert len(choice.table) == 1
    assert "Time ran out" in choice.text or choice.h_noise == 0.03
    assert time.monotonic() - start < 20
    few = workflow.choose_conditioning(ImageCache(clean.paths[:2]), noisy, seed=0)
    assert (few.downsample, few.table) == (4, ())
    assert "untested" in few.text

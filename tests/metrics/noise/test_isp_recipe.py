"""The bench's camera recipe: exact without noise, repeatable, and its noise has the marks of a camera's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import isp_recipe

    return isp_recipe


def colours():
    """All colours of a 32-level cube, with black, white and the primaries, as a picture."""
    levels = np.linspace(0, 255, 32).round().astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(128, 256, 3)


def half_textured(size=192):
    """Grey of 120, with strong texture of 120 on average in the right half."""
    texture = 40 * np.random.default_rng(3).standard_normal((size, size, 1))
    texture[:, : size // 2] = 0
    return np.clip(np.rint(120 + np.repeat(texture, 3, axis=-1)), 0, 255).astype(np.uint8)


def plain(recipe, **changes):
    """A camera that only adds noise, at a fixed ISO."""
    shot = recipe.draw_shot(recipe.generator_for(0, "camera"))
    off = {"denoise": (0.0, 0.0), "sharpen": 0.0, "quality": None}
    return replace(shot, **{"shot": 6e-4, "read": 3e-7, **off, **changes})


def residual(recipe, pixels, shot, stem="picture"):
    return recipe.isp_degrade(pixels, recipe.generator_for(0, stem), shot).astype(float) - pixels


def test_one_seed_and_stem_give_one_result(recipe):
    pixels = half_textured(64)
    first = recipe.isp_degrade(pixels, recipe.generator_for(0, "a"))
    assert first.dtype == np.uint8
    assert first.shape == pixels.shape
    assert np.array_equal(first, recipe.isp_degrade(pixels, recipe.generator_for(0, "a")))
    assert not np.array_equal(first, recipe.isp_degrade(pixels, recipe.generator_for(0, "b")))
    assert not np.array_equal(first, recipe.isp_degrade(pixels, recipe.generator_for(1, "a")))


@pytest.mark.parametrize("camera", range(5))
def test_rendering_inverts_unprocessing(recipe, camera):
    shot = recipe.draw_shot(recipe.generator_for(camera, "camera"))
    rendered = recipe.render(recipe.unprocess(colours(), shot), shot) * 255
    assert np.abs(rendered - colours()).max() < 0.01


def test_a_camera_without_noise_returns_the_picture(recipe):
    quiet = plain(recipe, shot=0.0, read=0.0)
    for pixels in (colours(), half_textured(65)):  # an odd size too
        difference = residual(recipe, pixels, quiet)
        assert np.abs(difference).max() <= 1
        assert np.abs(difference.mean(axis=(0, 1))).max() < 0.01


def test_noise_has_the_variance_of_its_model(recipe):
    plane, shot = np.full((400, 400), 0.2), plain(recipe, shot=1e-3, read=1e-4)
    noisy = recipe.add_noise(plane, shot, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(0.2, abs=2e-4)
    assert noisy.var() == pytest.approx(0.2 * 1e-3 + 1e-4, rel=0.02)


def test_noise_grows_with_iso(recipe):
    pixels = np.full((96, 96, 3), 120, np.uint8)
    stds = [residual(recipe, pixels, plain(recipe, shot=shot)).std() for shot in (1e-4, 5e-4, 2.5e-3)]
    assert stds[1] > 1.8 * stds[0]
    assert stds[2] > 1.8 * stds[1]


def test_draws_are_of_moderate_strength(recipe):
    pixels = np.full((96, 96, 3), 120, np.uint8)
    stds = []
    for index in range(24):
        difference = recipe.isp_degrade(pixels, recipe.generator_for(0, str(index))).astype(float) - pixels
        stds.append(difference.std())
        assert np.abs(difference.mean(axis=(0, 1))).max() < 2
    assert min(stds) > 2
    assert max(stds) < 16
    assert max(stds) > 1.7 * min(stds)


def test_noise_shifts_colour_little(recipe):
    difference = residual(recipe, half_textured(), plain(recipe, denoise=(0.5, 1.0), sharpen=0.1, quality=90))
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.5


def test_noise_follows_brightness(recipe):
    stds = [
        residual(recipe, np.full((96, 96, 3), level, np.uint8), plain(recipe)).std()
        for level in (8, 120, 250)
    ]
    assert stds[1] > 1.5 * stds[0]
    assert stds[1] > 1.5 * stds[2]


def test_neighbouring_pixels_share_noise(recipe):
    difference = residual(recipe, np.full((192, 192, 3), 120, np.uint8), plain(recipe))
    for channel in (0, 2):
        plane = difference[..., channel]
        assert np.corrcoef(plane[:, 1:].ravel(), plane[:, :-1].ravel())[0, 1] > 0.3


def test_flat_areas_lose_more_noise_than_textured_ones(recipe):
    pixels, half = half_textured(), 96
    before = residual(recipe, pixels, plain(recipe)) @ recipe.RGB_TO_YCC[0]
    after = residual(recipe, pixels, plain(recipe, denoise=(0.5, 1.0))) @ recipe.RGB_TO_YCC[0]
    flat = after[:, : half - 8].std() / before[:, : half - 8].std()
    textured = after[:, half + 8 :].std() / before[:, half + 8 :].std()
    assert flat < 0.8
    assert textured > flat + 0.1


def blockiness(pixels):
    """Mean step across the borders of 8 x 8 blocks over the mean step elsewhere."""
    steps = np.abs(np.diff(pixels.astype(float), axis=1)).mean(axis=(0, 2))
    border = np.arange(len(steps)) % 8 == 7
    return steps[border].mean() / steps[~border].mean()


def test_noise_alone_leaves_scenes_as_they_are(recipe):
    """The mean over draws is the picture, where the whole recipe's has lost and sharpened detail."""
    pixels, changes = half_textured(96), []
    for degrade in (recipe.noise_alone, recipe.isp_degrade):
        draws = [degrade(pixels, recipe.generator_for(n, "mean")).astype(float) for n in range(8)]
        noise = np.std(draws, axis=0, ddof=1).mean() / np.sqrt(8)
        change = np.std((np.mean(draws, axis=0) - pixels)[8:-8, 52:-8].mean(-1))
        changes.append(np.sqrt(max(0.0, change**2 - noise**2)))
    assert changes[1] > 3
    assert changes[0] < 0.2 * changes[1]


def test_jpeg_leaves_blocks(recipe):
    pixels, generator = np.full((256, 256, 3), 120, np.uint8), recipe.generator_for
    smooth = plain(recipe, denoise=(2.0, 2.0))
    raw = recipe.isp_degrade(pixels, generator(0, "p"), smooth)
    compressed = recipe.isp_degrade(pixels, generator(0, "p"), replace(smooth, quality=85))
    assert blockiness(raw) == pytest.approx(1, abs=0.05)
    assert blockiness(compressed) > 1.1


def test_folders_hold_what_the_domain_holds(recipe, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    for folder, stems in (("train", ("a", "b")), ("test", ("c", "d"))):
        (data / "bsd" / folder).mkdir(parents=True)
        for stem in stems:
            Image.fromarray(half_textured(48)).save(data / "bsd" / folder / f"{stem}.png")
    (data / "synthetic").mkdir()
    for name, listed in (("train_clean", "a"), ("train_noisy_sources", "b"), ("test_clean", "c")):
        (data / "synthetic" / f"{name}.txt").write_text(f"{listed}.png\n")
    recipe.write_folders(data, out)
    from realism_data import load_domain, read, with_draws

    domain = load_domain(data, "isp")
    for folder, pictures in (("clean", domain.clean), ("noisy", domain.noisy)):
        [(stem, pixels)] = pictures.named()
        assert np.array_equal(pixels, read(out / "train" / folder / f"{stem}.png"))
    assert [pair.name for pair in domain.pairs] == ["c"]
    assert np.array_equal(domain.pairs[0].clean, read(out / "test" / "clean" / "c.png"))
    assert np.array_equal(domain.pairs[0].noisy, read(out / "test" / "noisy" / "c.png"))
    drawn = with_draws(domain, 2).pairs
    assert [pair.name for pair in drawn] == ["c", "d", "c", "d"]
    assert not np.array_equal(drawn[0].noisy, drawn[2].noisy)

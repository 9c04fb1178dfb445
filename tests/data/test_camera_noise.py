"""The packaged photographs are what their card says; camera noise is what its docstring says."""

import hashlib
import tomllib

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.camera_noise import CameraGain, camera_noise, draw_gain, linearise, tone
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import DataError
from deflow_cli.paths import weights_folder

GAIN = CameraGain(mid_tone=10 / 255, read_share=0.02, blur_rb=0.7, blur_g=0.5, gain_r=1.2, gain_b=1.4)


def grey(value, size=192):
    return np.full((size, size, 3), value, dtype=np.uint8)


def test_halves_share_no_photograph():
    clean, to_degrade = packaged_photos()
    scenes = [{path.stem.split("-")[0] for path in half} for half in (clean, to_degrade)]
    assert len(clean) >= 6
    assert len(to_degrade) >= 6
    assert not scenes[0] & scenes[1]


def test_photographs_match_manifest_and_card():
    folder = weights_folder()
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    card = (folder / "photos" / "CARD.md").read_text(encoding="utf-8")
    listed = {entry["path"]: entry for entry in manifest["file"] if entry["kind"] == "photo"}
    clean, to_degrade = packaged_photos()
    assert sorted(listed) == sorted(path.relative_to(folder).as_posix() for path in clean + to_degrade)
    for path in clean + to_degrade:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert listed[path.relative_to(folder).as_posix()]["sha256"] == digest
        assert digest in card
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert min(image.size) >= 256


def test_halves_agree_in_colour():
    """A model must not learn the scenes' colours as the degradation: means within 8 grey levels."""
    means = [
        np.concatenate([np.asarray(Image.open(path)).reshape(-1, 3) for path in half]).mean(axis=0)
        for half in packaged_photos()
    ]
    assert np.abs(means[0] - means[1]).max() < 8


def test_same_generator_state_same_bytes():
    first, second, other = (camera_noise(grey(120, 32), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert first.dtype == np.uint8


def test_tone_curve_inverts():
    values = np.linspace(0, 1, 11)
    assert tone(linearise(values)) == pytest.approx(values, abs=1e-12)


def test_mid_tone_level_and_channel_gains():
    noise = camera_noise(grey(128), np.random.default_rng(0), GAIN).astype(np.float64) - 128
    assert noise.std(axis=(0, 1)) == pytest.approx([12, 10, 14], rel=0.06)


def test_drawn_gains_give_6_to_14_levels_in_green_mid_tones():
    generator = np.random.default_rng(0)
    levels = [draw_gain(generator).mid_tone * 255 for _ in range(200)]
    assert 6 <= min(levels) < 6.5
    assert 13.5 < max(levels) <= 14


def test_noise_depends_on_light_and_keeps_the_mean():
    generator = np.random.default_rng(0)
    spread, shift = [], []
    for value in (30, 128, 225):
        noise = camera_noise(grey(value), generator, GAIN).astype(np.float64) - value
        spread.append(noise[..., 1].std())
        shift.append(abs(noise.mean()))
    assert spread[0] > 1.05 * spread[1] > 1.5 * spread[2]
    assert max(shift) < 1.6


def test_noise_is_correlated_between_neighbours_but_not_between_channels():
    noise = camera_noise(grey(128), np.random.default_rng(0), GAIN).astype(np.float64)
    noise -= noise.mean(axis=(0, 1))
    variance = (noise**2).mean(axis=(0, 1))
    lag_one = (noise[:, 1:] * noise[:, :-1]).mean(axis=(0, 1)) / variance
    assert lag_one[0] > lag_one[1] + 0.1 > 0.2
    assert abs(np.mean(noise[..., 0] * noise[..., 1]) / np.sqrt(variance[0] * variance[1])) < 0.03


def test_other_arrays_are_refused():
    with pytest.raises(DataError, match="float32"):
        camera_noise(np.zeros((8, 8, 3), np.float32), np.random.default_rng(0))

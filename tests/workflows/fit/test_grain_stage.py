"""The stage after the training: what it needs, what it sets, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.images.listing import list_images
from deflow_cli.metrics.distances.patch_features import patch_features
from deflow_cli.training.domains import Domains
from deflow_cli.workflows.fit import grain as matching
from deflow_cli.workflows.fit import grain_stage
from deflow_cli.workflows.fit.grain_stage import GrainStage
from tests.inference.small import build, smooth_images
from tests.listening import Listener


def domains(folder, count: int, side: int, sigma: float = 8.0) -> Domains:
    random = np.random.default_rng(1)
    pools = []
    for name, images in zip(("clean", "noisy"), smooth_images(2 * count, side, side).chunk(2), strict=True):
        (folder / name).mkdir(parents=True)
        for index, image in enumerate(images):
            pixels = 255 * image.permute(1, 2, 0).numpy()
            if name == "noisy":
                pixels = pixels + sigma * random.standard_normal(pixels.shape)
            pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
        pools.append(ImageCache(list_images(folder / name)))
    return Domains(pools[0], pools[1], pools[0], pools[1], {})


def run(tmp_path, monkeypatch, sigma: float = 8.0):
    monkeypatch.setattr(matching, "ROUNDS", 2)
    monkeypatch.setattr(grain_stage, "MATCH_CROPS", 8)
    model, listener = build(grain="matched"), Listener()
    facts = GrainStage(model, domains(tmp_path, 8, 136, sigma), 0, listener).run()
    return model, facts, listener


def test_too_few_images_are_said_and_change_nothing(tmp_path):
    model, listener = build(grain="matched"), Listener()
    assert GrainStage(model, domains(tmp_path, 3, 136), 0, listener).run() == {}
    assert model.grain is not None
    assert not bool(model.grain.matched)
    assert "needs 8 images of at least 128 px" in listener.notes[0]


def test_the_grain_is_set_and_recorded(tmp_path, monkeypatch):
    model, facts, listener = run(tmp_path, monkeypatch)
    noise, grain = facts["noise"], model.grain
    assert grain is not None
    assert bool(grain.matched)
    assert bool(grain.stationary) == (noise["pattern"] == "stationary")
    assert set(noise["kid"]) == {"latent", "stationary", "unmatched"}
    assert noise["pattern"] in ("latent", "stationary")
    assert noise["found"] > 2 * noise["null"]
    assert np.shape(noise["level_ratios"]) == (3, 4)
    assert any(note.startswith(f"noise: {noise['pattern']} pattern") for note in listener.notes)
    assert not listener.warnings


def judged_alike(stage, matcher, pattern, gain_cbt, spread):
    """Samples as matching makes them, and as good as the noisy images where nothing is matched."""
    if spread == 0 and bool((gain_cbt == 1).all()):
        return patch_features(matcher.data.noisy)
    return patch_features(matcher.degraded(0, gain_cbt, spread, pattern))


def test_samples_that_matching_takes_farther_away_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(GrainStage, "_judged", judged_alike)
    model, facts, listener = run(tmp_path, monkeypatch)
    assert not bool(model.grain.matched)
    assert facts["noise"]["pattern"] == "unmatched"
    assert any("farther from the noisy images" in note for note in listener.notes)


def test_samples_that_are_farther_by_chance_are_matched(tmp_path, monkeypatch):
    monkeypatch.setattr(GrainStage, "_judged", judged_alike)
    monkeypatch.setattr(grain_stage, "kid_difference", lambda *_: (0.9, 1.0))
    model, facts, _ = run(tmp_path, monkeypatch)
    found = facts["noise"]["kid"]
    assert found["unmatched"] < min(found["latent"], found["stationary"])
    assert facts["noise"]["pattern"] != "unmatched"
    assert bool(model.grain.matched)


@pytest.mark.parametrize(("difference", "pattern"), [(0.4, "stationary"), (0.6, "latent")])
def test_the_pattern_of_the_latents_is_taken_where_it_is_nearer_beyond_chance(
    tmp_path, monkeypatch, difference, pattern
):
    monkeypatch.setattr(grain_stage, "kid_difference", lambda *_: (difference, 1.0))
    monkeypatch.setattr(GrainStage, "_distance", lambda *_: 0.0)
    model, facts, _ = run(tmp_path, monkeypatch)
    assert facts["noise"]["pattern"] == pattern
    assert bool(model.grain.stationary) == (pattern == "stationary")


@pytest.mark.slow(seconds=11)
def test_the_same_seed_finds_the_same(tmp_path, monkeypatch):
    one, _, _ = run(tmp_path / "a", monkeypatch)
    two, _, _ = run(tmp_path / "b", monkeypatch)
    assert one.grain is not None
    assert two.grain is not None
    for key, value in one.grain.state_dict().items():
        assert torch.equal(value, two.grain.state_dict()[key])


def test_clean_against_clean_is_warned_of(tmp_path, monkeypatch):
    _, facts, listener = run(tmp_path, monkeypatch, sigma=0.0)
    assert facts["noise"]["found"] < 2 * facts["noise"]["null"]
    assert "what was found may be scenes" in listener.warnings[0]

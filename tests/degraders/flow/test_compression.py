"""Compression of samples: drawn by the draw alone, on the lattice of the settings, never where unrecorded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images.files import to_pixels
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting, compress, read_history
from deflow_cli.degraders.base import DegraderContext, Draw
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.flow.encodings import Encodings
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.runtime.progress import Silent
from tests.inference.small import small_model, smooth_images

COARSE, FINE = JpegSetting.of_quality(60), JpegSetting.of_quality(80, "4:4:4")
FOLDER = FolderCompression(4, ((COARSE, 0.5), (FINE, 0.25)))
COMPRESSION = SampleCompression(FOLDER)


def compressed_by(before: np.ndarray, after: np.ndarray) -> JpegSetting | None:
    """Which setting made a picture of another."""
    if np.array_equal(before, after):
        return None
    return next(setting for setting in (COARSE, FINE) if np.array_equal(compress(before, setting), after))


def test_settings_are_drawn_as_often_as_the_folder_has_them():
    pixels = to_pixels(smooth_images(1, 24, 20))
    drawn = [compressed_by(pixels, COMPRESSION.pixels(pixels, Draw(seed, "a"))) for seed in range(60)]
    assert drawn == [compressed_by(pixels, COMPRESSION.pixels(pixels, Draw(seed, "a"))) for seed in range(60)]
    counts = [drawn.count(setting) for setting in (COARSE, FINE, None)]
    assert 20 <= counts[0] <= 40
    assert min(counts) >= 6
    by_sample = {compressed_by(pixels, COMPRESSION.pixels(pixels, Draw(0, "a", n))) for n in range(12)}
    assert by_sample == {COARSE, FINE, None}


def test_temperature_0_takes_the_most_frequent_setting_whatever_the_seed():
    pixels = to_pixels(smooth_images(1, 24, 20))
    for seed in range(8):
        draw = Draw(seed, "a", sample=seed, temperature=0.0)
        assert compressed_by(pixels, COMPRESSION.pixels(pixels, draw)) == COARSE


@pytest.mark.parametrize("tile", [None, 32])
def test_a_degrader_compresses_the_whole_picture_last(tile):
    image = smooth_images(2, 150, 134)
    draws = [Draw(3, "a"), Draw(9, "b", 2)]
    plain = FlowDegrader(small_model(), tile=0).degrade(image, draws)
    ours = FlowDegrader(small_model(), tile=tile, compression=COMPRESSION).degrade(image, draws)
    assert ours.shape == image.shape
    assert torch.equal(ours, (ours * 255).round() / 255)
    for picture, before, draw in zip(ours, plain, draws, strict=True):
        expected = COMPRESSION.pixels(to_pixels(before), draw).astype(int)
        difference = np.abs(to_pixels(picture) - expected)  # rounding of tiles may tip a coefficient over
        assert (difference > 0).mean() < (0 if tile is None else 0.02) + 1e-9


def test_stored_crops_are_compressed_as_pictures_are():
    degrader = FlowDegrader(small_model(), compression=COMPRESSION)
    images, draws = smooth_images(2, 24, 24), [Draw(5, "a"), Draw(6, "b")]
    encodings = Encodings(degrader, 2)
    encodings.keep([0, 1], images, ["a", "b"])
    stored = encodings.degrade([0, 1], draws)
    assert torch.equal(stored, (stored * 255).round() / 255)
    assert ((stored - degrader.degrade(images, draws)).abs() > 0).float().mean() < 0.02


def prepared(path: Path, **options: object) -> tuple[FlowDegrader, dict[str, object]]:
    context = DegraderContext([], 1, "matlab", torch.device("cpu"), Silent())
    ready = DegraderChoice("deflow", model=path, **options).config().prepare(context)
    assert isinstance(ready.degrader, FlowDegrader)
    return ready.degrader, ready.facts


def test_the_record_of_the_file_decides(tmp_path):
    only = FolderCompression(3, ((COARSE, 1.0),))
    save_model(tmp_path / "old.safetensors", small_model(), {})
    save_model(tmp_path / "new.safetensors", small_model(), {"compression": only.to_dict()})
    image, draws = smooth_images(1, 150, 134), [Draw(1, "a")]
    old, facts = prepared(tmp_path / "old.safetensors")
    assert set(facts) == {"name", "model"}
    plain = FlowDegrader(small_model()).degrade(image, draws)
    assert torch.equal(old.degrade(image, draws), plain)
    new, facts = prepared(tmp_path / "new.safetensors")
    assert set(facts) == {"name", "model"}
    history = read_history(to_pixels(new.degrade(image, draws)))
    assert history is not None
    assert (history.setting.quality, history.phase) == (60, (0, 0))
    off, facts = prepared(tmp_path / "new.safetensors", compression="no")
    assert torch.equal(off.degrade(image, draws), plain)
    assert facts["compression"] == "no"


def test_manifests_repeat_the_choice_and_old_ones_name_none():
    choice = DegraderChoice("deflow")
    facts = {"name": "deflow", "model": {"file": "m", "sha256": "0"}}
    assert vars(choice.repeating(facts))["compression"] == "auto"
    assert vars(choice.repeating({**facts, "compression": "no"}))["compression"] == "no"


def test_what_is_wrong_is_said():
    with pytest.raises(ConfigError, match="compression 'yes' is unknown"):
        DegraderChoice("deflow", compression="yes")
    for broken in ({}, 3, {"examined": 1, "settings": [{"setting": {}}], "phases": []}):
        with pytest.raises(CheckpointError, match="m: its record"):
            SampleCompression.recorded({"compression": broken}, Path("m"))
    assert SampleCompression.recorded({}, Path("m.safetensors")) is None


def test_records_survive_a_file_and_a_worker_process():
    facts = json.loads(json.dumps({"compression": FOLDER.to_dict()}))
    assert SampleCompression.recorded(facts, Path("m")) == COMPRESSION
    assert pickle.loads(pickle.dumps(COMPRESSION.finish))(
        smooth_images(1, 16, 16)[0], 0, "a", 0, 1.0
    ).shape == (3, 16, 16)

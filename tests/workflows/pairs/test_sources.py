"""The clean images: which are left out, and what is said of them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_rgb8
from deflow_cli.errors import CheckpointError, DataError
from tests.listening import Listener
from tests.workflows.pairs.asking import ask, save


def test_unfit_images_are_named_and_left_out(hr, tmp_path, model_path):
    (hr / "broken.png").write_bytes((hr / "a.png").read_bytes()[:300])
    save(hr / "tiny.png", np.zeros((20, 90, 3), np.uint8))
    pixels = read_rgb8(hr / "a.png")
    Pillow.fromarray(pixels).save(hr / "poor.jpg", quality=30)
    save(hr / "soft.png", cv2.GaussianBlur(pixels, (0, 0), 3))
    save(hr / "twin.png", pixels)
    listener = Listener()
    report = ask(hr, tmp_path / "out", model_path, reporter=listener)
    assert report.pairs == 4 + 3
    assert [name for name, _ in report.left_out] == ["broken.png", "tiny.png"]
    doubts = dict(report.doubtful)
    assert set(doubts) == {"poor.jpg", "soft.png", "twin.png"}
    assert "JPEG of quality 30" in doubts["poor.jpg"]
    assert "blurred" in doubts["soft.png"]
    assert doubts["twin.png"] == "the same file as a.png"
    told = " ".join(listener.warnings)
    assert all(name in told for name in ("broken.png", "90x20 is smaller than 32 px", "poor.jpg", "soft.png"))
    manifest = json.loads((tmp_path / "out/deflow.json").read_text())
    assert [name for name, _ in manifest["left_out"]] == ["broken.png", "tiny.png"]


def test_without_a_usable_image_nothing_is_written(hr, tmp_path, model_path):
    with pytest.raises(DataError, match=r"none of its 4 images .*a\.png \(81x70 is smaller than 480 px\)"):
        ask(hr, tmp_path / "out", model_path, crop=480)
    with pytest.raises(CheckpointError):
        ask(hr, tmp_path / "out", tmp_path / "none.safetensors")
    assert not (tmp_path / "out").exists()

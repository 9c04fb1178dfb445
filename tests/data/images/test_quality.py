"""Quality: good pictures raise no doubt, bad ones do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.quality import blockiness, doubts_about, fine_detail_db, jpeg_quality
from deflow_cli.data.photos import packaged_photos

PHOTOS = [path for half in packaged_photos() for path in half]


def load(path):
    return np.asarray(Pillow.open(path).convert("RGB"))


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_packaged_photographs_raise_no_doubt_and_their_blurred_copies_do(path):
    pixels = load(path)
    assert doubts_about(path, pixels) == []
    height, width = pixels.shape[:2]
    small = Pillow.fromarray(pixels).resize((width // 2, height // 2), Pillow.Resampling.BICUBIC)
    enlarged = np.asarray(small.resize((width, height), Pillow.Resampling.BICUBIC))
    for bad in (cv2.GaussianBlur(pixels, (0, 0), 1.5), enlarged):
        assert "blurred or enlarged" in " ".join(doubts_about(path, bad))


def test_jpeg_files_are_judged_by_their_tables(tmp_path):
    pixels = load(PHOTOS[0])
    for quality in (40, 60, 85, 95):
        path = tmp_path / f"{quality}.jpg"
        Pillow.fromarray(pixels).save(path, quality=quality)
        assert jpeg_quality(path) == quality
        told = " ".join(doubts_about(path, load(path)))
        assert (f"JPEG of quality {quality}" in told) == (quality < 80)
    assert jpeg_quality(PHOTOS[0]) is None
    (tmp_path / "no.jpg").write_bytes(b"no")
    assert jpeg_quality(tmp_path / "no.jpg") is None


def test_blocks_are_seen_in_other_files(tmp_path):
    pixels = load(PHOTOS[0])
    Pillow.fromarray(pixels).save(tmp_path / "a.jpg", quality=40)
    decoded = load(tmp_path / "a.jpg")
    assert "JPEG blocks" in " ".join(doubts_about(tmp_path / "a.png", decoded))
    luma = decoded.mean(-1)
    assert blockiness(luma) > 1.25
    assert blockiness(luma[3:, 3:]) < 1.05  # the grid begins in the corner


def test_flat_and_tiny_pictures():
    assert fine_detail_db(np.full((128, 128), 100.0)) == -np.inf
    assert fine_detail_db(np.full((40, 40), 100.0)) == 0.0
    flat = np.full((128, 128, 3), 100, np.uint8)
    assert doubts_about(PHOTOS[0], flat) == ["blurred or enlarged (flat everywhere)"]

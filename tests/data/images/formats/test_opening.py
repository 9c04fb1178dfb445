"""Opening: what libraries print of damaged files, which no user can place, is not printed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.errors import DataError


def test_damaged_tiffs_are_told_by_us_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, path = io.BytesIO(), tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(file, "TIFF", compression="tiff_adobe_deflate")
    data = bytearray(file.getvalue())
    data[60:90] = bytes(30)  # within the compressed pixels
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif: cannot be decoded"):
        read_image(path)
    read_header(path)
    assert capfd.readouterr() == ("", "")

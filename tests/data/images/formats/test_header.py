"""Headers: what they say is what decoding gives, and which of several pictures is the image."""

import io
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.data.images.formats.header import _bits, header_of
from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.errors import DataError

RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> Pillow.Image:
    coarse = RNG.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return Pillow.fromarray(np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[:height, :width]))


def read(path: Path):  # type: ignore[no-untyped-def]
    said: list[str] = []
    with remarks_to(said.append):
        image = read_image(path)
        header = read_header(path)
    assert (header.height, header.width) == image.pixels.shape[:2]
    assert header.has_alpha == (image.alpha is not None)
    return image, [text.removeprefix(f"{path}: ") for text in said]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_orientation_are_those_of_the_decoded_image(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    exif = Pillow.Exif()
    exif[274] = orientation
    picture(32, 48).save(tmp_path / f"a{suffix}", exif=exif.tobytes())
    header = header_of(tmp_path / f"a{suffix}")
    assert header.orientation == orientation
    read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("orientation", [0, 9, 200])
def test_an_orientation_that_does_not_exist_is_none(tmp_path: Path, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[274] = orientation
    picture(32, 48).save(tmp_path / "a.jpg", exif=exif.tobytes())
    image, said = read(tmp_path / "a.jpg")
    assert image.pixels.shape == (32, 48, 3)
    assert said == []


@pytest.mark.parametrize(("suffix", "options"), [(".gif", {}), (".webp", {"lossless": True})])
def test_several_frames_give_the_first(tmp_path: Path, suffix: str, options: dict[str, bool]) -> None:
    frames = [picture(32, 48).quantize(64).convert("RGB") for _ in range(3)]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    image, said = read(path)
    assert said == ["holds 3 frames; only the first is used"]
    assert np.abs(image.pixels.astype(int) - np.asarray(frames[0])).max() <= 1


def test_the_largest_picture_of_an_mpo_is_used(tmp_path: Path) -> None:
    large, small = picture(64, 96), picture(32, 48)
    for order, number in (((large, small), 1), ((small, large), 2), ((large, large), 1)):
        path = tmp_path / "a.jpg"
        order[0].save(path, "MPO", save_all=True, append_images=order[1:], quality=95)
        image, said = read(path)
        assert np.abs(image.pixels.astype(int) - np.asarray(large)).mean() < 15
        assert said == [f"holds 2 pictures; only picture {number} (96x64) is used"]


def test_damaged_exif_is_said_and_costs_nothing(tmp_path: Path) -> None:
    for suffix, kind in ((".jpg", "JPEG"), (".webp", "WEBP")):
        buffer = io.BytesIO()
        picture(32, 48).save(buffer, kind, exif=b"Exif\0\0junkjunkjunk")
        (tmp_path / f"a{suffix}").write_bytes(buffer.getvalue())
        image, said = read(tmp_path / f"a{suffix}")
        assert image.pixels.shape == (32, 48, 3)
        assert said == ["its EXIF data are damaged and were left out"]


@pytest.mark.parametrize(("flags", "bits"), [(0x0C, 8), (0x4C, 10), (0x6C, 12)])
def test_bits_of_avif_are_those_of_its_configuration(flags: int, bits: int) -> None:
    """Pillow gives 8 bits whatever the file has. AV1-ISOBMFF 2.3.3: the flags follow two bytes."""
    file = io.BytesIO(b"....av1C" + bytes([0x81, 0x08, flags, 0]))
    assert _bits(SimpleNamespace(info={}, format="AVIF", fp=file)) == bits
    assert _bits(SimpleNamespace(info={"bit_depth": 10}, format="HEIF", fp=None)) == 10


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "MPO", "BMP"])
def test_damaged_files_are_read_or_refused_and_the_header_agrees(tmp_path: Path, kind: str) -> None:
    exif = Pillow.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    options = {"exif": exif.tobytes()} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {}
    if kind == "MPO":
        options = {"save_all": True, "append_images": [picture(16, 24)]}
    picture(33, 41).save(buffer, kind, **options)
    rng, path = random.Random(kind), tmp_path / "a"
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        for _ in range(rng.choice([1, 2, 4])):
            data[rng.randrange(min(len(data), rng.choice([64, 1 << 20])))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        with remarks_to(lambda text: None):
            try:
                shape = read_image(path).pixels.shape[:2]
                header = read_header(path)
            except DataError:
                continue
        assert (header.height, header.width) == shape

"""Known formats: what is read, with plug-ins where they are installed, and what is said of the others."""

import io
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.data.images.formats import known
from deflow_cli.data.images.formats.known import format_of, name_unread, read_suffixes
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.errors import DataError

RGB = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8), 8, 0), 8, 1)


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(known, "_is_ready", lambda plugin: False)
    read_suffixes.cache_clear()
    yield None
    read_suffixes.cache_clear()


@pytest.mark.parametrize("suffix", [".gif", ".tga", ".jp2", ".j2k", ".jfif", ".mpo"])
def test_what_pillow_reads_itself_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    options = {"quality_layers": [0]} if suffix in (".jp2", ".j2k") else {}
    Pillow.fromarray(RGB).save(path, {".jfif": "JPEG"}.get(suffix), **options)
    image = read_image(path)
    header = read_header(path)
    assert (header.height, header.width) == image.pixels.shape[:2] == RGB.shape[:2]
    near = 60 if suffix in (".jfif", ".mpo", ".gif") else 0
    assert np.abs(image.pixels.astype(int) - RGB).mean() <= near
    assert list_images(tmp_path) == [path]


def test_without_plugins_it_is_said_how_to_read_them(tmp_path: Path, no_plugins: object) -> None:
    for name in ("a.png", "b.HEIC", "c.heic", "d.avif", "e.jxl", "f.psd", "g.txt"):
        (tmp_path / name).touch()
    said: list[str] = []
    with remarks_to(said.append):
        assert [path.name for path in list_images(tmp_path)] == ["a.png"]
    assert said == [
        f"{tmp_path}: pictures of formats that are not read were left alone:"
        " 1 AVIF (to read them: pip install pillow-avif-plugin, or convert them to PNG),"
        " 2 HEIF (to read them: pip install pillow-heif, or convert them to PNG),"
        " 1 JPEG XL (to read them: pip install pillow-jxl-plugin, or convert them to PNG),"
        " 1 PSD (export them as PNG or TIFF)"
    ]


def test_a_file_named_itself_says_how_to_read_it(tmp_path: Path, no_plugins: object) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(DataError, match="known format") as caught:
        read_image(tmp_path / "a.heic")
    assert caught.value.next_step == "to read them: pip install pillow-heif, or convert them to PNG"


def test_an_installed_plugin_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    plugin = types.SimpleNamespace(start=lambda: started.append("start"))
    monkeypatch.setattr(
        known, "_PLUGINS", (known._Optional("X", frozenset({".xyz"}), "p", "some_x", "start"),)
    )
    monkeypatch.setattr(known.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(known.importlib, "import_module", lambda name: plugin)
    read_suffixes.cache_clear()
    assert ".xyz" in read_suffixes()
    assert started == ["start"]
    monkeypatch.setattr(known.importlib, "import_module", lambda name: types.SimpleNamespace())
    read_suffixes.cache_clear()
    assert format_of(".XYZ") == ("X", "to read them: pip install p, or convert them to PNG")  # a broken one
    monkeypatch.undo()
    read_suffixes.cache_clear()


def test_heif_by_its_plugin(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(Pillow.fromarray(RGB)).save(buffer, quality=-1, chroma=444)
    (tmp_path / "a.heic").write_bytes(buffer.getvalue())
    image = read_image(tmp_path / "a.heic")
    assert np.abs(image.pixels.astype(int) - RGB).max() <= 4
    assert list_images(tmp_path) == [tmp_path / "a.heic"]


def test_avif_by_pillow(tmp_path: Path) -> None:
    if ".avif" not in read_suffixes():
        pytest.skip("Pillow was built without AVIF")
    for orientation in (1, 6):
        exif = Pillow.Exif()
        exif[274] = orientation
        Pillow.fromarray(RGB).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4", exif=exif.tobytes())
        expected = RGB if orientation == 1 else np.rot90(RGB, -1)
        image = read_image(tmp_path / "a.avif")
        assert image.pixels.shape == expected.shape
        assert np.abs(image.pixels.astype(int) - expected).max() <= 3
        header = read_header(tmp_path / "a.avif")
        assert (header.height, header.width) == expected.shape[:2]


def test_jpeg_2000_of_more_bits_is_refused(tmp_path: Path) -> None:
    """Pillow would cut colours of 16 bits to 8 without a word."""
    cv2 = pytest.importorskip("cv2")
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.jp2"), deep)
    with pytest.raises(DataError, match="samples of 16 bits; JPEG 2000 is read with up to 8"):
        read_image(tmp_path / "a.jp2")
    with pytest.raises(DataError, match="16 bits"):
        read_header(tmp_path / "a.jp2")


def test_other_files_are_no_pictures() -> None:
    assert format_of(".txt") is None
    assert format_of(".png") is None
    assert name_unread([".txt", ".json", ""]) == ""

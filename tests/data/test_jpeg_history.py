"""JPEG history: settings read back from pixels and headers, none where there are none, and compression."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.jpeg_history import (
    FolderCompression,
    JpegSetting,
    compress,
    compress_alike,
    read_folder_compression,
    read_history,
    read_pixels,
)
from deflow_cli.data.jpeg_lattice import SUBSAMPLINGS, nearest_quality, standard_tables
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import ConfigError, DataError

# cat-wide.png is left out: its original, cut without scaling, had been a JPEG file, and reads as one.
PATHS = [path for half in packaged_photos() for path in half if path.stem != "cat-wide"]
PHOTOS = [read_rgb8(path) for path in PATHS[::4]]


def cropped(pixels, top, left):
    return np.ascontiguousarray(pixels[top:, left:])


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [50, 68, 75, 86, 92, 95])
def test_settings_of_photographs_are_read_back(quality, subsampling):
    for index, photo in enumerate(PHOTOS):
        found = read_pixels(compress(photo, JpegSetting.of_quality(quality, subsampling)))
        assert found is not None, index
        assert found.setting.quality is not None
        assert abs(found.setting.quality - quality) <= 2
        assert found.setting.subsampling in (subsampling, None)
        assert found.phase == (0, 0)
        assert found.source == "pixels"
        assert found.confidence > 0.5


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_chroma_of_colourful_photographs_is_read(subsampling):
    setting = JpegSetting.of_quality(80, subsampling)
    assert [read_pixels(compress(photo, setting)).setting for photo in PHOTOS] == [setting] * len(PHOTOS)


@pytest.mark.parametrize(("top", "left"), [(0, 1), (3, 6), (8, 5), (7, 7), (12, 9)])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_grid_is_found_in_crops(top, left, subsampling):
    setting = JpegSetting.of_quality(85, subsampling)
    found = read_pixels(cropped(compress(PHOTOS[0], setting), top, left))
    assert found.phase == (-top % 8, -left % 8)
    assert found.setting == setting


def test_uncompressed_photographs_show_nothing():
    assert [path.stem for path in PATHS if read_pixels(read_rgb8(path)) is not None] == []


@pytest.mark.parametrize("sigma", [2.0, 10.0])
def test_noise_after_a_compression_hides_it(sigma):
    generator = np.random.default_rng(0)
    for photo in PHOTOS:
        noisy = compress(photo, JpegSetting.of_quality(75)) + generator.normal(0, sigma, photo.shape)
        assert read_pixels(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)) is None


def test_flat_small_and_random_pictures_show_nothing():
    generator = np.random.default_rng(0)
    assert read_pixels(np.full((96, 96, 3), 77, np.uint8)) is None
    assert read_pixels(generator.integers(0, 256, (96, 96, 3), dtype=np.uint8)) is None
    assert read_pixels(PHOTOS[0][:20, :20]) is None
    steps = np.repeat(np.repeat(generator.integers(1, 255, (12, 12, 3), dtype=np.uint8), 8, 0), 8, 1)
    assert read_pixels(steps) is None


def test_the_last_of_two_compressions_is_reported():
    first = cropped(compress(PHOTOS[0], JpegSetting.of_quality(90)), 3, 2)
    found = read_pixels(compress(first, JpegSetting.of_quality(60)))
    assert found.setting.quality == 60
    assert found.phase == (0, 0)
    milder = read_pixels(
        compress(cropped(compress(PHOTOS[0], JpegSetting.of_quality(60)), 3, 2), JpegSetting.of_quality(92))
    )
    assert milder.setting.quality == 92
    assert milder.phase == (0, 0)


def test_tables_that_no_quality_explains_are_read():
    luma, chroma = (list(table) for table in standard_tables(80))
    luma[:4] = [9, 11, 13, 15]
    setting = JpegSetting(tuple(luma), tuple(chroma), "4:2:0")
    found = read_pixels(compress(PHOTOS[0], setting))
    assert setting.quality is None
    assert found.setting.luma[:4] == (9, 11, 13, 15)
    assert found.setting.quality is None
    assert found.setting.subsampling == "4:2:0"
    assert abs(nearest_quality(found.setting.luma) - 80) <= 2


def test_grey_pictures_tell_no_chroma():
    grey = np.repeat(PHOTOS[0][..., 1:2], 3, axis=-1)
    found = read_pixels(compress(grey, JpegSetting.of_quality(70)))
    assert found.setting == JpegSetting(standard_tables(70)[0])
    assert found.setting.quality == 70


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 95, 100])
def test_standard_tables_are_those_of_the_library(quality):
    buffer = io.BytesIO()
    Image.fromarray(PHOTOS[0]).save(buffer, "JPEG", quality=quality)
    tables = Image.open(buffer).quantization
    assert (tuple(tables[0]), tuple(tables[1])) == standard_tables(quality)
    assert JpegSetting.of_quality(quality).quality == quality


def test_an_impossible_quality_is_an_error():
    with pytest.raises(ConfigError, match=r"JPEG quality 0 is not in 1\.\.100"):
        standard_tables(0)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_headers_of_files_are_read(tmp_path, subsampling):
    path = tmp_path / "a.jpg"
    Image.fromarray(PHOTOS[0]).save(path, quality=83, subsampling=subsampling)
    found = read_history(path)
    assert (found.setting, found.phase, found.source) == (
        JpegSetting.of_quality(83, subsampling),
        (0, 0),
        "header",
    )
    Image.fromarray(PHOTOS[0][..., 0]).save(path, quality=83)
    assert read_history(path).setting == JpegSetting(standard_tables(83)[0])


def test_lossless_files_are_read_by_their_pixels(tmp_path):
    path = tmp_path / "a.png"
    setting = JpegSetting.of_quality(83, "4:2:2")
    Image.fromarray(cropped(compress(PHOTOS[0], setting), 5, 0)).save(path)
    found = read_history(path)
    assert (found.setting, found.phase, found.source) == (setting, (3, 0), "pixels")


def test_compression_is_that_of_a_file_and_repeats(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(PHOTOS[0]).save(path, quality=77, subsampling="4:2:0")
    setting = JpegSetting.of_quality(77)
    once = compress(PHOTOS[0], setting)
    assert once.dtype == np.uint8
    assert np.array_equal(once, np.array(Image.open(path)))
    assert np.array_equal(once, compress(PHOTOS[0].copy(), setting))


def test_compression_errs_within_the_steps():
    luma, chroma = standard_tables(90)
    for photo in PHOTOS:
        error = compress(photo, JpegSetting(luma, chroma, "4:4:4")).astype(float) - photo
        # Half a step per coefficient: the orthonormal transform bounds the mean square by that of the steps.
        of_luma = error @ [0.299, 0.587, 0.114]
        assert np.square(of_luma).mean() < np.square(luma).mean() / 4 + 1
        assert abs(error.mean()) < 0.3
        exact = compress(photo, JpegSetting.of_quality(100, "4:4:4")).astype(float) - photo
        assert np.abs(exact).max() <= 8


def test_folders_are_summarised(tmp_path):
    often, seldom = JpegSetting.of_quality(80, "4:2:0"), JpegSetting.of_quality(60, "4:4:4")
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    for index, path in enumerate(paths[:3]):
        Image.fromarray(cropped(compress(PHOTOS[index], often), 0, index)).save(path)
    Image.fromarray(compress(PHOTOS[3], seldom)).save(paths[3])
    Image.fromarray(PHOTOS[4]).save(paths[4])
    found = read_folder_compression(paths)
    assert found.examined == 5
    assert found.settings == ((often, 0.6), (seldom, 0.2))
    assert found.phases == (((0, 0), 0.4), ((0, 7), 0.2), ((0, 6), 0.2))
    assert found.share == pytest.approx(0.8)
    assert read_folder_compression([read_rgb8(path) for path in paths]) == found
    assert read_folder_compression(paths, most=2).examined == 2
    assert read_folder_compression([]) == FolderCompression(examined=0)


def test_pictures_without_colour_take_chroma_from_the_others():
    setting = JpegSetting.of_quality(70, "4:2:2")
    grey = compress(np.repeat(PHOTOS[0][..., 1:2], 3, axis=-1), setting)
    assert read_folder_compression([compress(PHOTOS[0], setting), grey]).settings == ((setting, 1.0),)


def test_tables_of_one_camera_are_counted_as_one():
    luma, chroma = (list(table) for table in standard_tables(80))
    luma[:4] = [9, 11, 13, 15]
    setting = JpegSetting(tuple(luma), tuple(chroma), "4:2:2")
    found = read_folder_compression([compress(photo, setting) for photo in PHOTOS])
    ((read, weight),) = found.settings
    assert weight == 1.0
    assert read.luma[:4] == (9, 11, 13, 15)
    assert read.subsampling == "4:2:2"


def test_records_survive_json():
    odd = JpegSetting(tuple(range(1, 65)), tuple(range(2, 66)), "4:2:2")
    found = FolderCompression(
        examined=8,
        settings=(
            (JpegSetting.of_quality(90), 0.5),
            (odd, 0.25),
            (JpegSetting(standard_tables(40)[0]), 0.125),
        ),
        phases=(((0, 0), 0.5), ((3, 7), 0.375)),
    )
    assert FolderCompression.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert FolderCompression.from_dict(FolderCompression(examined=3).to_dict()) == FolderCompression(3)


@pytest.mark.parametrize("array", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)])
def test_other_arrays_are_an_error(array):
    with pytest.raises(DataError, match="JPEG needs uint8 pixels H x W x 3, got"):
        read_pixels(array)
    with pytest.raises(DataError, match="JPEG needs uint8 pixels H x W x 3, got"):
        compress(array, JpegSetting.of_quality(75))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.png"):
        read_history(tmp_path / "missing.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        read_history(tmp_path / "broken.jpg")


def test_settings_are_drawn_by_their_shares():
    often, seldom = JpegSetting.of_quality(90, "4:2:2"), JpegSetting.of_quality(70)
    found = FolderCompression(8, ((often, 0.5), (seldom, 0.25)))
    assert [found.setting_at(u) for u in (0.0, 0.49, 0.5, 0.74, 0.75, 0.99)] == [
        often,
        often,
        seldom,
        seldom,
        None,
        None,
    ]
    assert (found.found, found.usual_quality, found.text) == (6, 90, "quality 70 to 90, 4:2:2, 4:2:0")
    random, again = np.random.default_rng(4), np.random.default_rng(4)
    for _ in range(12):
        setting = found.setting_at(again.random())
        expected = PHOTOS[0] if setting is None else compress(PHOTOS[0], setting)
        assert np.array_equal(compress_alike(PHOTOS[0], found, random), expected)
    assert FolderCompression(0).usual_quality is None


def test_a_picture_too_long_for_a_jpeg_is_refused():
    with pytest.raises(DataError, match="65500"):
        compress(np.zeros((1, 65501, 3), np.uint8), JpegSetting.of_quality(90))

"""Samples of a space: every layout finds its references, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.samples.matching import SampleSet, SampleSource, match_samples, scale_of
from deflow_cli.errors import DataError

Size = tuple[int, int]


def _folder(root: Path, name: str, files: list[str], size: Size = (16, 8)) -> Path:
    for file in files:
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
    return root / name


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    return _folder(tmp_path, "gt", ["0801.png", "0802.png"])


def _match(folder: Path, reference: Path, low: Path | None = None) -> tuple[SampleSet, ...]:
    return match_samples([SampleSource(folder)], reference, low)


def _short(sets: tuple[SampleSet, ...]) -> dict[float | None, dict[str, list[str]]]:
    return {
        one.temperature: {
            image.name: [path.relative_to(one.source).as_posix() for path in image.samples]
            for image in one.images
        }
        for one in sets
    }


LAYOUTS = {
    "deflow": ["0801_s02.png", "0801_s01.png", "0802_s01.png", "0802_s02.png"],
    "of inputs named by scale": ["0801x4_s02.png", "0801x4_s01.png", "0802x4_s01.png", "0802x4_s02.png"],
    "ntire": [f"{i:06d}_sample{k:05d}.png" for i in (0, 1) for k in (1, 0)],
    "by image": ["0801/b.png", "0801/a.png", "0802/a.png", "0802/b.png"],
    "by sample": ["s2/0801.png", "s1/0801.png", "s1/0802.png", "s2/0802.png"],
}


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts_are_recognised(tmp_path, gt, files):
    sets = _match(_folder(tmp_path, "out", files), gt)
    assert [one.temperature for one in sets] == [None]
    assert [image.name for image in sets[0].images] == ["0801", "0802"]
    assert [image.reference for image in sets[0].images] == [gt / "0801.png", gt / "0802.png"]
    assert sets[0].samples == 2
    for image, names in zip(sets[0].images, (files[:2], files[2:]), strict=True):
        assert [path.relative_to(tmp_path / "out").as_posix() for path in image.samples] == sorted(names)


def test_samples_are_in_the_order_of_their_numbers(tmp_path):
    gt = _folder(tmp_path, "gt", ["a.png"])
    out = _folder(tmp_path, "out", [f"a_s{k}.png" for k in range(1, 12)])
    assert _short(_match(out, gt)) == {None: {"a": [f"a_s{k}.png" for k in range(1, 12)]}}


def test_temperatures_of_folders_and_of_names(tmp_path, gt):
    names = ["0801_s01.png", "0802_s01.png"]
    out = _folder(tmp_path, "out", [f"{folder}/{name}" for folder in ("t0.90", "t0.0") for name in names])
    expected = {
        t: {name[:4]: [f"{folder}/{name}"] for name in names} for t, folder in ((0.0, "t0.0"), (0.9, "t0.90"))
    }
    assert _short(_match(out, gt)) == expected
    flat = _folder(
        tmp_path, "flat", [f"080{i}_t{t}_s0{k}.png" for i in (1, 2) for t in (0.5, 1) for k in (1, 2)]
    )
    found = _short(_match(flat, gt))
    assert list(found) == [0.5, 1.0]
    assert found[1.0]["0802"] == ["0802_t1_s01.png", "0802_t1_s02.png"]


def test_temperatures_given_with_their_folders(tmp_path, gt):
    low, high = (_folder(tmp_path, name, ["0801.png", "0802.png"]) for name in ("cold", "hot"))
    sets = match_samples([SampleSource(high, 0.9), SampleSource(low, 0.1)], gt)
    assert [(one.temperature, one.source, one.samples) for one in sets] == [(0.1, low, 1), (0.9, high, 1)]
    with pytest.raises(DataError, match=r"samples of temperature 0\.1 too"):
        match_samples([SampleSource(high, 0.1), SampleSource(low, 0.1)], gt)


def test_single_images_need_no_equal_names(tmp_path):
    gt = _folder(tmp_path, "gt", ["truth.png"]) / "truth.png"
    low = _folder(tmp_path, "lq", ["small.png"], (4, 2)) / "small.png"
    (found,) = _match(_folder(tmp_path, "out", ["photo_s01.png", "photo_s02.png"]), gt, low)
    assert (found.images[0].reference, found.images[0].low, found.samples) == (gt, low, 2)
    assert scale_of(found.images) == 4


def test_low_resolutions_and_their_scale(tmp_path, gt):
    out = _folder(tmp_path, "out", LAYOUTS["deflow"], (15, 8))
    low = _folder(tmp_path, "lq", ["0801x3.png", "0802x3.png"], (5, 2))
    (found,) = _match(out, gt, low)
    assert [image.low for image in found.images] == [low / "0801x3.png", low / "0802x3.png"]
    assert scale_of(found.images) == 3
    lonely = _folder(tmp_path, "one", ["0801.png", "0999.png"], (5, 2))
    with pytest.raises(DataError, match="1 of 2 references have no low resolution: 0802"):
        _match(out, gt, lonely)


def test_scales_that_are_none_or_differ(tmp_path, gt):
    out = _folder(tmp_path, "out", LAYOUTS["deflow"])
    stretched = _folder(tmp_path, "stretched", ["0801.png", "0802.png"], (4, 4))
    with pytest.raises(DataError, match="no whole scale"):
        scale_of(_match(out, gt, stretched)[0].images)
    mixed = _folder(tmp_path, "mixed", ["0801.png"], (8, 4))
    _folder(tmp_path, "mixed", ["0802.png"], (4, 2))
    with pytest.raises(DataError, match="the scale of 0802 is 4, that of 0801 is 2"):
        scale_of(_match(out, gt, mixed)[0].images)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no such file or folder"),
        (["a_s01.png", "b_s01.png"], "2 of 2 images are samples of no image in .*gt: a_s01, b_s01"),
        (["0801_s01.png", "0801_s02.png"], "1 of 2 references have no samples: 0802"),
        ([*LAYOUTS["deflow"], "other_s01.png"], "1 of 5 images are samples of no image in .*gt: other_s01"),
        (
            [*LAYOUTS["deflow"], "0801_s03.png"],
            r"1 of 2 images do not have 3 samples as the others do: 0802 \(2\)",
        ),
        (
            ["t0.8/0801_s01.png", "t0.8/0802_s01.png", "0801_s01.png"],
            "1 of 3 images lie beside the folders of",
        ),
        (
            ["t0.8/0801_s01.png", "t0.8/0802_s01.png", "t0.9/0801_s01.png"],
            "1 of 2 references .* have no samples: 0802",
        ),
        (
            ["0801/0801.png", "0801/0802.png", "0802/0801.png", "0802/0802.png"],
            "can be read as a folder for every",
        ),
        ([*LAYOUTS["deflow"], "0801_s01.bmp"], "two candidates for one name"),
        (["000000_sample00000.png", "000002_sample00000.png"], "1 of 2 images are samples of no image"),
    ],
)
def test_what_is_missing_is_named(tmp_path, gt, files, message):
    with pytest.raises(DataError, match=message) as caught:
        _match(_folder(tmp_path, "out", files), gt)
    assert caught.value.next_step


def test_sizes_that_cannot_belong_together(tmp_path, gt):
    out = _folder(tmp_path, "out", LAYOUTS["deflow"])
    _folder(tmp_path, "out", ["0802_s02.png"], (15, 8))
    with pytest.raises(DataError, match=r"0802_s02\.png: 15x8, but 0802_s01\.png is 16x8"):
        _match(out, gt)
    small = _folder(tmp_path, "small", LAYOUTS["deflow"], (4, 2))
    with pytest.raises(DataError, match=r"4x2, but its reference .*0801\.png is 16x8"):
        _match(small, gt)


def test_a_broken_file_stays_in_the_set(tmp_path, gt):
    out = _folder(tmp_path, "out", LAYOUTS["deflow"])
    (out / "0801_s01.png").write_bytes(b"no")
    (found,) = _match(out, gt)
    assert found.images[0].sample_size == (16, 8)
    assert found.samples == 2


def test_two_references_of_one_name_are_refused(tmp_path, gt):
    _folder(tmp_path, "gt", ["0801.bmp"])
    with pytest.raises(DataError, match="two candidates for one name"):
        _match(_folder(tmp_path, "out", LAYOUTS["deflow"]), gt)

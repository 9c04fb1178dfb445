"""Sample names: every layout, temperatures in folders and in names, and names that only look like one."""

from __future__ import annotations

import pytest

from deflow_cli.data.samples.names import LAYOUTS, SampleName, folder_temperature, resolve_images

MARKED, BY_IMAGE, BY_SAMPLE, PLAIN, *IN_NAMES = LAYOUTS


@pytest.mark.parametrize(
    ("layout", "stem", "image", "sample"),
    [
        (MARKED, "0801_s01", "0801", "000001"),
        (MARKED, "deep/0801x4_s10", "deep/0801x4", "000010"),
        (MARKED, "000003_sample00009", "000003", "000009"),
        (MARKED, "a_s1_s02", "a_s1", "000002"),
        (BY_IMAGE, "deep/0801/3", "deep/0801", "000003"),
        (BY_SAMPLE, "s2/deep/0801", "deep/0801", "s000002"),
        (PLAIN, "0801", "0801", ""),
    ],
)
def test_layouts(layout, stem, image, sample):
    assert layout.read(stem) == SampleName(image, sample)


@pytest.mark.parametrize(("layout", "stem"), [(MARKED, "0801"), (BY_IMAGE, "0801"), (BY_SAMPLE, "0801")])
def test_names_that_a_layout_does_not_read(layout, stem):
    assert layout.read(stem) is None


def test_temperatures_in_file_names():
    marked, by_image, _, plain = IN_NAMES
    stems = ["a_t0.80_s01", "a_s01_t0.9", "a_s01", "t_2_s01"]
    assert marked.read_all(stems) == [
        SampleName("a", "000001", 0.8),
        SampleName("a", "000001", 0.9),
        None,
        None,
    ]
    assert plain.read_all(["deep/a_tau1"]) == [SampleName("deep/a", "", 1.0)]
    assert by_image.read_all(["a/t0.80"]) == [SampleName("a", "t000000.000080", 0.8)]


@pytest.mark.parametrize(
    ("first", "temperature"),
    [("t0.80", 0.8), ("T1", 1.0), ("tau=0.5", 0.5), ("temperature_0.9", 0.9), ("0.75", 0.75)],
)
def test_folders_of_temperatures(first, temperature):
    assert folder_temperature(f"{first}/a/b", ["a"]) == (temperature, "a/b")


@pytest.mark.parametrize("stem", ["t0.80", "0801/a", "tree/a", "t1/0", "t2/0", "1/a"])
def test_folders_that_are_none(stem):
    assert folder_temperature(stem, ["a", "t1", "t2/0"]) is None


def test_a_name_that_is_an_image_is_no_number_of_the_challenge():
    assert resolve_images(["000001", "000000"], ["000000", "x"]) == {"000000": "000000"}
    assert resolve_images(["000005"], ["a", "b"]) == {}
    assert resolve_images(["a", "000000"], ["b"]) == {}

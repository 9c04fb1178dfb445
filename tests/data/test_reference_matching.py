"""Pairing: partners by name or order, and every way in which that can go wrong, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.reference_matching import match_references, method_names, missing_names, scaled_partners
from deflow_cli.errors import ConfigError, DataError


def _image(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
    return path


def _folder(root: Path, name: str, files: list[str], size: tuple[int, int] = (8, 8)) -> Path:
    for file in files:
        _image(root / name / file, size)
    return root / name


def _names(methods) -> list[list[str]]:
    return [[image.name for image in method.images] for method in methods]


def test_partners_share_a_name_but_for_the_suffix(tmp_path):
    out = _folder(tmp_path, "out", ["b.png", "deep/a.png"])
    gt = _folder(tmp_path, "gt", ["b.jpg", "deep/a.bmp"])
    (method,) = match_references([out], gt)
    assert (method.name, method.source) == ("out", out)
    assert [(i.name, i.path, i.reference, i.size) for i in method.images] == [
        ("b", out / "b.png", gt / "b.jpg", (8, 8)),
        ("deep/a", out / "deep/a.png", gt / "deep/a.bmp", (8, 8)),
    ]


def test_missing_partners_on_both_sides_are_named(tmp_path):
    out = _folder(tmp_path, "out", [f"x{k}.png" for k in range(5)] + ["same.png"])
    gt = _folder(tmp_path, "gt", ["same.png", "lost.png"])
    with pytest.raises(DataError) as caught:
        match_references([out], gt)
    message = str(caught.value)
    assert "5 of 6 images have no reference" in message
    assert "x0, x1, x2 and 2 more" in message
    assert "1 of 2 references have no output: lost" in message
    assert "--pairing order" not in caught.value.next_step, "order cannot help where the counts differ"


def test_order_is_offered_where_the_counts_agree(tmp_path):
    out, gt = _folder(tmp_path, "out", ["a_x4.png"]), _folder(tmp_path, "gt", ["a.png"])
    with pytest.raises(DataError) as caught:
        match_references([out], gt)
    assert "--pairing order" in caught.value.next_step
    ((image,),) = (method.images for method in match_references([out], gt, "order"))
    assert (image.name, image.path.name, image.reference) == ("a.png", "a_x4.png", gt / "a.png")


def test_order_wants_equal_counts(tmp_path):
    out, gt = _folder(tmp_path, "out", ["a.png"]), _folder(tmp_path, "gt", ["a.png", "b.png"])
    with pytest.raises(DataError, match=r"1 images, but .*gt holds 2"):
        match_references([out], gt, "order")


def test_sizes_that_differ_are_named(tmp_path):
    gt = _folder(tmp_path, "gt", ["a.png", "b.png"])
    out = _folder(tmp_path, "out", ["b.png"])
    _image(out / "a.png", (4, 6))
    with pytest.raises(DataError, match=r"1 of 2 .*a\.png \(4x6, not 8x8\)"):
        match_references([out], gt)


@pytest.mark.parametrize("where", ["out", "gt"])
def test_two_candidates_for_a_name_are_named(tmp_path, where):
    out, gt = _folder(tmp_path, "out", ["a.png"]), _folder(tmp_path, "gt", ["a.png"])
    _image(tmp_path / where / "a.jpg")
    with pytest.raises(DataError, match=r"two candidates for one name: a\.jpg and a\.png"):
        match_references([out], gt)


def test_alone_both_candidates_are_images(tmp_path):
    out = _folder(tmp_path, "out", ["a.png", "a.jpg", "b.png"])
    assert _names(match_references([out])) == [["a.jpg", "a.png", "b"]]


def test_a_broken_file_is_kept_without_a_size(tmp_path):
    out, gt = _folder(tmp_path, "out", ["a.png", "b.png"]), _folder(tmp_path, "gt", ["a.png", "b.png"])
    (out / "a.png").write_bytes(b"no image")
    (method,) = match_references([out], gt)
    assert [image.size for image in method.images] == [None, (8, 8)]


def test_methods_are_named_apart(tmp_path):
    paths = [tmp_path / "a/out", tmp_path / "b/out", tmp_path / "c"]
    assert method_names(paths) == ["a/out", "b/out", "c"]
    assert method_names([Path("x/a/out"), Path("y/a/out")]) == ["x/a/out", "y/a/out"]
    with pytest.raises(DataError, match="given twice"):
        method_names([tmp_path / "c", tmp_path / "d/../c"])


def test_references_inside_an_output_folder_are_no_outputs(tmp_path):
    out, gt = _folder(tmp_path, "out", ["a.png"]), _folder(tmp_path, "out/gt", ["a.png"])
    assert _names(match_references([out], gt)) == [["a"]]


def test_single_images(tmp_path):
    a, b, gt = (_image(tmp_path / name) for name in ("one/x.png", "two/y.png", "true.png"))
    methods = match_references([a, b], gt)
    assert [method.name for method in methods] == ["x.png", "y.png"]
    assert _names(methods) == [["true"], ["true"]]
    assert [method.images[0].reference for method in methods] == [gt, gt]
    assert _names(match_references([a])) == [["x"]]


def test_single_images_find_their_reference_in_a_folder(tmp_path):
    out = _folder(tmp_path, "out", ["a.png", "b.png", "c.png"])
    gt = _folder(tmp_path, "gt", ["deep/a.png", "deep/b.png", "deep/c.png", "d.png"])
    (method,) = match_references([out / "b.png", out / "a.png"], gt)
    assert (method.name, _names([method])) == ("out", [["deep/a", "deep/b"]])
    _image(gt / "other/a.png")
    with pytest.raises(DataError, match=r"a\.png: has 2 candidates"):
        match_references([out / "a.png"], gt)


def test_methods_without_references_find_each_other(tmp_path):
    a, b = _folder(tmp_path, "a", ["1.png", "2.png"]), _folder(tmp_path, "b", ["1.jpg", "3.jpg"])
    methods = match_references([a, b])
    assert missing_names(methods) == ("a lacks 1 of 3 images: 3", "b lacks 1 of 3 images: 2")
    assert missing_names(match_references([a, b], pairing="order")) == ()


@pytest.mark.parametrize(
    ("outputs", "reference", "error", "words"),
    [
        (["none"], None, DataError, "none: no such file"),
        (["out"], "none", DataError, "none: no such file"),
        (["empty"], None, DataError, "empty: holds no images"),
        (["out"], "empty", DataError, "empty: holds no images"),
        (["out"], "gt/a.png", DataError, "holds 2 images, but .*a.png is one image"),
        (["out", "out/a.png"], None, DataError, "is an image, others are folders"),
    ],
)
def test_refusals(tmp_path, monkeypatch, outputs, reference, error, words):
    monkeypatch.chdir(tmp_path)
    _folder(tmp_path, "out", ["a.png", "b.png"])
    _folder(tmp_path, "gt", ["a.png", "b.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=words):
        match_references([Path(path) for path in outputs], None if reference is None else Path(reference))


def test_unknown_pairing(tmp_path):
    with pytest.raises(ConfigError, match="'size'"):
        match_references([tmp_path], None, "size")


def test_a_scale_at_the_end_of_a_name_is_no_other_name(tmp_path):
    """DIV2K's 0001x4.png is made of 0001.png."""
    out = _folder(tmp_path, "out", ["0001x4.png", "deep/0002x4.png", "0003.png"])
    gt = _folder(tmp_path, "gt", ["0001.png", "deep/0002.png", "0003.png"])
    (method,) = match_references([out], gt)
    assert [(image.name, image.path.name) for image in method.images] == [
        ("0001", "0001x4.png"), ("0003", "0003.png"), ("deep/0002", "0002x4.png")
    ]  # fmt: skip
    (picked,) = match_references([out / "0001x4.png"], gt)
    assert picked.images[0].reference == gt / "0001.png"


def test_a_scale_is_kept_where_names_agree_with_it():
    assert scaled_partners(["ax4", "a"], ["a", "ax4"]) == {}
    assert scaled_partners(["ax4", "a"], ["a"]) == {}
    assert scaled_partners(["ax2", "ax4"], ["a"]) == {}
    assert scaled_partners(["x4", "d/x4", "ax5"], ["", "d/", "a"]) == {}


def test_references_may_be_links_to_one_file(tmp_path):
    """Noisy shots of one scene: each names its reference, which is the same file."""
    out = _folder(tmp_path, "out", ["a1.png", "a2.png"])
    gt = _folder(tmp_path, "gt", ["a1.png"])
    (gt / "a2.png").symlink_to("a1.png")
    (method,) = match_references([out], gt)
    assert [image.reference for image in method.images] == [gt / "a1.png", gt / "a2.png"]

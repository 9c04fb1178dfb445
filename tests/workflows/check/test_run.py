"""Checking pairs: each fault is found in every format, named with its files, and good pairs pass."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.formats import FORMATS, make_writer
from deflow_cli.data.pairs.records import EncodedPair, PairSlot, encode_png
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.check.run import CheckReport, CheckRequest, check_pairs

SIDE, SCALE = 192, 4


def scene(seed: int, side: int = SIDE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(size=(n, n, 3)), (side, side)) for n in (6, 17, 48)]
    return np.clip(128 + 28 * sum(layers), 0, 255).astype(np.uint8)


def degraded(gt: np.ndarray, seed: int = 0) -> np.ndarray:
    low = downsample(gt, SCALE)
    noise = np.random.default_rng([seed, 1]).normal(0, 8, low.shape)
    return np.clip(np.rint(low + noise), 0, 255).astype(np.uint8)


Made = dict[str, tuple[np.ndarray, np.ndarray]]


def good(count: int = 6, first: int = 0) -> Made:
    scenes = {f"{k + 1:07d}": scene(first + k) for k in range(count)}
    return {key: (gt, degraded(gt, place)) for place, (key, gt) in enumerate(scenes.items())}


def stored(target: Path, pairs: Made, kind: str = "folders") -> Path:
    slots = [PairSlot(key, k, gt.shape[:2], lq.shape[:2]) for k, (key, (gt, lq)) in enumerate(pairs.items())]
    writer = make_writer(kind, target, slots)  # type: ignore[arg-type]
    for slot, (gt, lq) in zip(slots, pairs.values(), strict=True):
        writer.write([EncodedPair(slot, encode_png(gt), encode_png(lq))])
    writer.finish()
    writer.close()
    return target


def checked(path: Path, **options) -> CheckReport:
    return check_pairs(CheckRequest(path, **options), Silent())


def numbers_after(words: str, message: str) -> list[float]:
    """The first two numbers with a sign behind the words."""
    return [float(number) for number in re.findall(r"[+-]\d+\.\d+", message.split(words)[-1])[:2]]


def kinds(report: CheckReport) -> list[str]:
    return [finding.kind for finding in report.findings]


@pytest.mark.parametrize("kind", FORMATS)
def test_good_pairs_pass_in_every_format(tmp_path: Path, kind: str):
    report = checked(stored(tmp_path / "pairs", good(), kind), gt_size=SIDE)
    assert (report.pairs, report.scale, report.findings, report.spoils) == (6, SCALE, (), False)
    assert report.sizes == ((SIDE, SIDE), (SIDE, SIDE))
    assert report.alignment is not None
    assert report.alignment.measured == 6
    assert max(abs(report.alignment.right), abs(report.alignment.down)) < 0.1


@pytest.mark.parametrize("kind", FORMATS)
def test_faults_are_named_in_every_format(tmp_path: Path, kind: str):
    pairs = good(8)
    keys = list(pairs)
    pairs[keys[1]] = (pairs[keys[1]][0], pairs[keys[2]][1])  # the lq of another scene
    moved = np.roll(pairs[keys[3]][0], (8, -12), (0, 1))
    pairs[keys[3]] = (pairs[keys[3]][0], degraded(moved))
    pairs[keys[4]] = (pairs[keys[4]][0][:-8], pairs[keys[4]][1])  # gt is no multiple of lq
    pairs[keys[7]] = pairs[keys[6]]
    report = checked(stored(tmp_path / "pairs", pairs, kind), gt_size=188)
    found = {finding.kind: finding for finding in report.findings}
    assert kinds(report) == ["scale", "size", "content", "misaligned", "copies"]
    assert found["content"].keys == (keys[1],)
    assert found["misaligned"].keys == (keys[3],)
    assert numbers_after(keys[3], found["misaligned"].message) == pytest.approx([-3, 2], abs=0.15)
    assert found["scale"].keys == found["size"].keys == (keys[4],)
    assert f"{keys[4]} (gt 192x184, lq 48x48)" in found["scale"].message
    assert found["copies"].keys == (keys[7],)
    assert f"{keys[7]} (of {keys[6]})" in found["copies"].message
    assert report.spoils
    assert not found["copies"].spoils
    assert all(finding.next_step for finding in report.findings)


def test_a_set_of_every_fourth_pixel_is_displaced(tmp_path: Path):
    pairs = {key: (gt, gt[::4, ::4]) for key, (gt, _) in good().items()}
    report = checked(stored(tmp_path / "pairs", pairs))
    assert kinds(report) == ["displaced"]
    assert numbers_after("pairs", report.findings[0].message) == pytest.approx([1.5, 1.5], abs=0.15)


def test_pairs_without_degradation_are_a_note(tmp_path: Path):
    pairs = {key: (gt, downsample(gt, SCALE)) for key, (gt, _) in good().items()}
    report = checked(stored(tmp_path / "pairs", pairs))
    assert kinds(report) == ["clean"]
    assert not report.spoils


def test_files_without_a_partner_are_all_named(tmp_path: Path):
    path = stored(tmp_path / "pairs", good())
    (path / "gt" / "0000002.png").unlink()
    (path / "lq" / "0000005.png").unlink()
    report = checked(path)
    assert kinds(report) == ["names"]
    assert report.findings[0].keys == ("gt/0000005.png", "lq/0000002.png")
    assert report.spoils
    assert report.pairs == 0


def test_partners_of_two_suffixes_are_told(tmp_path: Path):
    path, val = stored(tmp_path / "pairs", good(3)), stored(tmp_path / "val", good(2, first=40))
    file = path / "lq" / "0000002.png"
    file.rename(file.with_suffix(".webp"))
    report = checked(path, val=val)
    assert kinds(report) == ["names"]  # and the validation data have their own scale
    assert report.findings[0].keys == ("gt/0000002.png", "lq/0000002.webp")
    assert "suffix and all" in report.findings[0].next_step


def test_names_with_a_scale_belong_together(tmp_path: Path):
    path = stored(tmp_path / "pairs", good())
    for file in list((path / "lq").iterdir()):
        file.rename(file.with_name(f"{file.stem}x4.png"))
    assert checked(path).findings == ()


def test_damaged_files_are_named(tmp_path: Path):
    path = stored(tmp_path / "pairs", good())
    (path / "lq" / "0000003.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    report = checked(path)
    assert kinds(report) == ["unreadable"]
    assert report.findings[0].keys == ("0000003",)
    assert "lq of pair 0000003 cannot be decoded" in report.findings[0].message


def test_a_shard_that_lacks_a_side_is_told(tmp_path: Path):
    path = stored(tmp_path / "pairs", good(2), "webdataset")
    shard = next(path.glob("*.tar"))
    with tarfile.open(shard) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar if "2.lq" not in member.name]  # type: ignore[union-attr]
    with tarfile.open(shard, "w") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    report = checked(path)
    assert kinds(report) == ["unreadable"]
    assert "0000002 has no 0000002.lq.png" in report.findings[0].message


def test_leaks(tmp_path: Path):
    train = good()
    val = good(3, first=100)
    val["0000008"] = train["0000002"]  # the same bytes
    again = np.clip(train["0000004"][0] + np.random.default_rng(5).normal(0, 4, (SIDE, SIDE, 3)), 0, 255)
    val["0000009"] = again.astype(np.uint8), train["0000004"][1]  # the same picture, saved anew
    report = checked(stored(tmp_path / "train", train), val=stored(tmp_path / "val", val))
    assert report.val_pairs == 5
    assert kinds(report) == ["leak", "leak"]
    same, alike = report.findings
    assert "0000008 (as 0000002)" in same.message
    assert "0000009 (like 0000004)" in alike.message


def test_validation_data_are_checked_too(tmp_path: Path):
    val = {key: (gt, gt[::2, ::2]) for key, (gt, _) in good(2, first=50).items()}
    report = checked(stored(tmp_path / "train", good()), val=stored(tmp_path / "val", val))
    assert "scale" in kinds(report)
    assert any(
        finding.message.startswith("validation: 2 of 2 pairs are not x4") for finding in report.findings
    )


def test_an_expected_scale(tmp_path: Path):
    report = checked(stored(tmp_path / "pairs", good(2)), scale=2)
    assert "2 of 2 pairs are not x2" in report.findings[0].message


def test_a_sample_is_looked_at_closely(tmp_path: Path):
    path = stored(tmp_path / "pairs", good(7))
    assert checked(path, sample=3).alignment.looked == 3  # type: ignore[union-attr]
    assert checked(path, sample=0).alignment.looked == 7  # type: ignore[union-attr]


def test_flat_pictures_say_nothing_of_alignment(tmp_path: Path):
    flat = {"0000001": (np.full((64, 64, 3), 90, np.uint8), np.full((16, 16, 3), 92, np.uint8))}
    report = checked(stored(tmp_path / "pairs", flat))
    assert report.alignment is None
    assert report.findings == ()


def test_the_record_is_plain(tmp_path: Path):
    record = checked(stored(tmp_path / "pairs", good(2))).as_dict()
    assert json.loads(json.dumps(record, default=str))["spoils"] is False


def test_no_data_set_at_all(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        checked(tmp_path / "none")
    report = checked(tmp_path)
    assert kinds(report) == ["unreadable"]

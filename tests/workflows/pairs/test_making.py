"""The making of pairs: what the files of trainers and readers hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.blur.kernels import blur_and_downsample, load_kernels
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.resize import RULES, downsample
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting, compress, read_history
from deflow_cli.data.pairs.formats import FORMATS, open_pairs
from deflow_cli.data.pairs.records import decode_rgb8, encode_png
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.errors import DeflowError
from deflow_cli.workflows.pairs.plan import PairSettings
from tests.inference.small import small_model, smooth_images
from tests.listening import Listener
from tests.workflows.pairs.asking import NAMES, NONE, ask, files, rows, save


def test_folders_follow_the_rules_of_trainers(hr, tmp_path, model_path):
    report = ask(hr, tmp_path / "out", model_path, crop=40, variants=2)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "gt",
        "lq",
        "meta_info.txt",
        "meta_info_paired.txt",
        "metadata.jsonl",
        "sha256sums.txt",
        "deflow.json",
    }
    names = sorted(path.name for path in (out / "gt").iterdir())
    assert names == sorted(path.name for path in (out / "lq").iterdir())
    assert len(names) == report.pairs == report.written == 2 * (9 + 9 + 9 + 12)
    assert names[:2] == ["0000001_v01_s001.png", "0000001_v01_s002.png"]
    for name in names:
        assert re.fullmatch(r"\d{7}_v\d\d_s\d{3}\.png", name)
    # BasicSR: name, blank, (h,w,c); Real-ESRGAN: comma and blank
    for line, name in zip((out / "meta_info.txt").read_text().splitlines(), names, strict=True):
        found, size = line.split(" ")
        height, width, channels = (int(part) for part in size.strip("()").split(","))
        gt, lq = (cv2.imread(str(out / side / found), cv2.IMREAD_UNCHANGED) for side in ("gt", "lq"))
        assert (found, gt.shape) == (name, (height, width, channels))
        assert gt.shape == (2 * lq.shape[0], 2 * lq.shape[1], 3)
    for line, name in zip((out / "meta_info_paired.txt").read_text().splitlines(), names, strict=True):
        assert line.split(", ") == [f"gt/{name}", f"lq/{name}"]


def test_hugging_face_loads_columns_of_images(hr, tmp_path, model_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    ask(hr, tmp_path / "out", model_path, temperature=(0.5, 1.5))
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert {"gt", "lq", "key", "scale", "seed", "temperature", "source", "crop_box"} <= set(
        loaded.column_names
    )
    assert len(loaded) == 4
    for row, pair in zip(
        sorted(loaded, key=lambda row: row["key"]), open_pairs(tmp_path / "out"), strict=True
    ):
        assert row["key"] == pair.key
        assert np.array_equal(np.asarray(row["gt"]), pair.gt)
        assert np.array_equal(np.asarray(row["lq"]), pair.lq)
        assert 0.5 <= row["temperature"] <= 1.5


def test_all_formats_hold_the_same_pairs(hr, tmp_path, model_path):
    stored = []
    for kind in FORMATS:
        report = ask(hr, tmp_path / kind, model_path, crop=40, format=kind)
        assert report.format == kind
        found = open_pairs(tmp_path / kind)
        assert found.scale == 2
        stored.append([(key, *found.encoded(index)) for index, key in enumerate(found.keys)])
        assert [row["key"] for row in rows(tmp_path / kind)] == list(found.keys)
    assert stored[0] == stored[1] == stored[2]
    assert {path.name for path in (tmp_path / "lmdb").iterdir()} == {
        "gt.lmdb",
        "lq.lmdb",
        "metadata.jsonl",
        "sha256sums.txt",
        "deflow.json",
    }
    assert {path.name for path in (tmp_path / "webdataset").iterdir()} == {
        "000000.tar",
        "metadata.jsonl",
        "sha256sums.txt",
        "deflow.json",
    }


@pytest.mark.parametrize(
    ("scale", "rule"), [(s, "matlab") for s in (1, 2, 3, 4, 8)] + [(2, r) for r in RULES]
)
def test_without_a_degrader_lq_is_the_bicubic_of_the_cropped_picture(hr, tmp_path, scale, rule):
    for index, name in enumerate(NAMES):  # large enough for scale 8
        save(hr / name, to_pixels(smooth_images(1, 133 + index, 150 - index, seed=index)))
    ask(hr, tmp_path / "out", choice=NONE, scale=scale, resize=rule)
    for pair, name in zip(open_pairs(tmp_path / "out"), sorted(NAMES), strict=True):
        whole = read_rgb8(hr / name)
        height, width = (side // scale * scale for side in whole.shape[:2])
        gt = whole[:height, :width]
        assert np.array_equal(pair.gt, gt)
        small = downsample(gt, scale, rule)
        if rule == "matlab-double":
            small = to_pixels(torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32)))
        assert np.array_equal(pair.lq, small)


def test_lq_is_the_whole_clean_picture_degraded_then_cut(hr, tmp_path, model_path):
    ask(hr, tmp_path / "whole", model_path, temperature=(0.5, 1.5), seed=4)
    ask(hr, tmp_path / "crops", model_path, temperature=(0.5, 1.5), seed=4, crop=32, stride=22)
    degrader = FlowDegrader(small_model())
    whole = {
        row["source"]: pair
        for row, pair in zip(rows(tmp_path / "whole"), open_pairs(tmp_path / "whole"), strict=True)
    }
    for row in rows(tmp_path / "whole"):
        pair = whole[row["source"]]
        clean = to_tensor(downsample(pair.gt, 2))
        expected = degrader.degrade(clean, [Draw(4, row["source"], 0, row["temperature"])])
        assert np.array_equal(pair.lq, to_pixels(expected))
        assert np.abs(pair.lq.astype(int) - to_pixels(clean)).mean() > 1
    crops = open_pairs(tmp_path / "crops")
    assert len(crops) == len(rows(tmp_path / "crops")) == 4 * 3 * 4
    for row, pair in zip(rows(tmp_path / "crops"), crops, strict=True):
        left, top, right, bottom = row["crop_box"]
        assert (right - left, bottom - top) == (32, 32)
        of = whole[row["source"]]
        assert np.array_equal(pair.gt, of.gt[top:bottom, left:right])
        assert np.array_equal(pair.lq, of.lq[top // 2 : bottom // 2, left // 2 : right // 2])


def test_provenance_names_everything_but_this_machine(hr, tmp_path, model_path, kernels):
    ask(hr, tmp_path / "out", model_path, temperature=(0.5, 1.5), kernels=kernels, seed=9, resize="deflow")
    manifest = json.loads((tmp_path / "out/deflow.json").read_text())
    assert manifest["deflow"]
    assert manifest["libraries"]["torch"] == torch.__version__
    assert manifest["degrader"]["model"]["file"] == "small.safetensors"
    assert len(manifest["degrader"]["model"]["sha256"]) == 64
    recipe = manifest["recipe"]
    assert (recipe["scale"], recipe["seed"], recipe["resize"]) == (2, 9, "deflow")
    assert recipe["temperature"] == [0.5, 1.5]
    assert [image["key"] for image in manifest["images"]] == sorted(NAMES)
    assert [kernel["file"] for kernel in manifest["kernels"]] == ["0.npy", "1.npy"]
    row = rows(tmp_path / "out")[0]
    assert row["source"] == "a.png"
    assert row["source_sha256"] == manifest["images"][0]["sha256"]
    assert row["crop_box"] == [0, 0, 80, 70]
    assert row["kernel"] in ("0.npy", "1.npy")
    for name in ("deflow.json", "metadata.jsonl", "meta_info.txt"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_kernels_blur_before_the_bicubic(hr, tmp_path, kernels):
    ask(hr, tmp_path / "out", choice=NONE, kernels=kernels, variants=4)
    pool = {kernel.file: kernel for kernel in load_kernels(kernels)}
    drawn = []
    for row, pair in zip(rows(tmp_path / "out"), open_pairs(tmp_path / "out"), strict=True):
        drawn.append(row["kernel"])
        assert np.array_equal(pair.lq, blur_and_downsample(pair.gt, pool[row["kernel"]], 2))
    assert set(drawn) == set(pool)
    assert len({tuple(drawn[i : i + 4]) for i in range(0, 16, 4)}) > 1  # drawn per image


def test_temperatures_and_variants(hr, tmp_path, model_path):
    ask(hr, tmp_path / "out", model_path, temperature=(0.5, 1.5), variants=3)
    drawn = [row["temperature"] for row in rows(tmp_path / "out")]
    assert len(set(drawn)) == 12
    assert all(0.5 <= value <= 1.5 for value in drawn)
    found = open_pairs(tmp_path / "out")
    assert not np.array_equal(found[0].lq, found[1].lq)
    assert np.array_equal(found[0].gt, found[1].gt)
    ask(hr, tmp_path / "still", model_path, temperature=(0.0, 0.0), variants=2)
    still = open_pairs(tmp_path / "still")
    assert np.array_equal(still[0].lq, still[1].lq)
    listener = Listener()
    ask(hr, tmp_path / "equal", choice=NONE, variants=2, reporter=listener)
    assert any("variants of an image are equal" in text for text in listener.warnings)


def test_white_noise_is_as_strong_as_the_noisy_folder(hr, tmp_path, noisy):
    listener = Listener()
    report = ask(
        hr, tmp_path / "out", choice=DegraderChoice("white-noise", noisy=noisy), scale=1, reporter=listener
    )
    assert report.degrader["sigma"] == pytest.approx(6, rel=0.05)
    assert report.degrader["tuned_on"]["images"] == 4
    assert any("flat patches of noisy" in text for text in listener.notes)
    residual = np.concatenate([(p.lq.astype(int) - p.gt).ravel() for p in open_pairs(tmp_path / "out")])
    assert residual.std() == pytest.approx(6, rel=0.1)


def test_spectral_noise_is_the_difference_of_the_folders(hr, tmp_path, noisy):
    for index in range(4):
        save(tmp_path / "clean" / f"{index}.png", np.full((90, 90, 3), 100, np.uint8))
    choice = DegraderChoice("spectral", noisy=noisy, clean=tmp_path / "clean")
    ask(hr, tmp_path / "out", choice=choice, scale=1)
    residual = np.concatenate([(p.lq.astype(int) - p.gt).ravel() for p in open_pairs(tmp_path / "out")])
    assert residual.std() == pytest.approx(6, rel=0.1)
    for name in NAMES:  # by default, HR made small is the clean side
        save(hr / name, to_pixels(smooth_images(1, 140, 150)))
    report = ask(hr, tmp_path / "small", choice=DegraderChoice("spectral", noisy=noisy))
    assert report.degrader["clean"] == "HR"


def test_errors_while_making_name_the_image(hr, tmp_path, model_path, monkeypatch):
    def fail(self, image_bchw, draws):
        raise DeflowError("values are not finite", next_step="lower --temperature")

    monkeypatch.setattr(FlowDegrader, "degrade", fail)
    with pytest.raises(DeflowError, match=r"a\.png: values are not finite") as caught:
        ask(hr, tmp_path / "out", model_path, workers=1)
    assert caught.value.next_step == "lower --temperature"


def test_lq_bytes_decode_to_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode_rgb8(encode_png(pixels), ""), pixels)
    assert replace(PairSettings(crop=480), stride=None).step == 240


def test_degraded_pictures_are_compressed_as_the_model_records(tmp_path):
    folder = FolderCompression(2, ((JpegSetting.of_quality(60), 0.5), (JpegSetting.of_quality(80), 0.5)))
    model = tmp_path / "jpeg.safetensors"
    save_model(model, small_model(), {"compression": folder.to_dict()})
    for index in range(3):
        save(tmp_path / "hr" / f"{index}.png", to_pixels(smooth_images(1, 300, 280, seed=index)))
    off = DegraderChoice(model=model, compression="no")
    ask(tmp_path / "hr", tmp_path / "plain", choice=off, variants=2)
    ask(tmp_path / "hr", tmp_path / "out", model, variants=2)
    qualities = set()
    for plain, ours in zip(open_pairs(tmp_path / "plain"), open_pairs(tmp_path / "out"), strict=True):
        history = read_history(ours.lq)
        assert np.array_equal(ours.lq, compress(plain.lq, history.setting))
        qualities.add(history.setting.quality)
    assert qualities == {60, 80}
    for name in ("plain", "out"):
        again = {"manifest": tmp_path / name / "deflow.json"}
        ask(tmp_path / "hr", tmp_path / f"{name}-again", model, **again)
        assert files(tmp_path / f"{name}-again") == files(tmp_path / name)

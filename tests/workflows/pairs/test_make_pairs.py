"""Make pairs: what trainers and readers take, bit for bit the same however it came about, nothing lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.blur_kernels import blur_and_downsample, load_kernels
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.resize import RULES, downsample
from deflow_cli.data.pairs.formats import FORMATS, open_pairs
from deflow_cli.data.pairs.records import decode_rgb8, encode_png
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.errors import CheckpointError, ConfigError, DataError, DeflowError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.pairs import run as workflow
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs
from deflow_cli.workflows.pairs.target import alone
from tests.inference.small import small_model, smooth_images

NAMES = ["b x4.png", "a.png", "sub/ä.v2.png", "sub/a.png"]  # as people name their files


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, small_model(), {"step": 1})
    return path


@pytest.fixture
def hr(tmp_path):
    """Four pictures of odd sizes, some in a sub-folder; with 0.1 of texture none is doubtful."""
    folder = tmp_path / "photos"
    for index, name in enumerate(NAMES):
        image = smooth_images(1, 69 + index, 82 - index, seed=index)
        grain = 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
        save(folder / name, to_pixels(image + grain))
    return folder


@pytest.fixture
def noisy(tmp_path):
    """Flat pictures with noise of 6 grey levels, and one with structure."""
    rng = np.random.default_rng(1)
    for index in range(4):
        grain = rng.normal(0, 6, (90, 90, 3)) + 20 * index + 90
        save(tmp_path / "noisy" / f"{index}.png", np.clip(np.rint(grain), 0, 255).astype(np.uint8))
    return tmp_path / "noisy"


@pytest.fixture
def kernels(tmp_path):
    (tmp_path / "kernels").mkdir()
    for index, sigma in enumerate((0.7, 1.6)):
        line = cv2.getGaussianKernel(9, sigma)
        np.save(tmp_path / "kernels" / f"{index}.npy", line @ line.T)
    return tmp_path / "kernels"


def ask(source, target, model=None, *, choice=None, reporter=None, **options):
    names = {"kernels", "manifest", "workers", "dry_run", "overwrite"}
    of_request = {key: options.pop(key) for key in list(options) if key in names}
    request = MakePairsRequest(
        source,
        target,
        PairSettings(**{"scale": 2, **options}),
        choice or DegraderChoice(model=model),
        device="cpu" if not of_request.get("manifest") else "auto",
        **{"workers": 2, **of_request},
    )
    return make_pairs(request, reporter or Silent())


NONE = DegraderChoice("none")


def files(target):
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }


def rows(target):
    return [json.loads(line) for line in (target / "metadata.jsonl").read_text().splitlines()]


# -- what it writes -------------------------------------------------------------------------------------


def test_folders_follow_the_rules_of_trainers(hr, tmp_path, model_path):
    report = ask(hr, tmp_path / "out", model_path, crop=40, variants=2)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "gt",
        "lq",
        "meta_info.txt",
        "meta_info_paired.txt",
        "metadata.jsonl",
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
        "deflow.json",
    }
    assert {path.name for path in (tmp_path / "webdataset").iterdir()} == {
        "000000.tar",
        "metadata.jsonl",
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


# -- the same bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_workers_do_not_change_a_bit(hr, tmp_path, model_path, kind):
    for workers in (1, 3):
        ask(hr, tmp_path / str(workers), model_path, workers=workers, crop=40, variants=2, format=kind)
    assert files(tmp_path / "1") == files(tmp_path / "3")


def test_another_seed_is_another_data_set(hr, tmp_path, model_path):
    for seed in (0, 1):
        ask(hr, tmp_path / str(seed), model_path, seed=seed)
    zero, one = open_pairs(tmp_path / "0"), open_pairs(tmp_path / "1")
    assert all(
        np.array_equal(a.gt, b.gt) and not np.array_equal(a.lq, b.lq) for a, b in zip(zero, one, strict=True)
    )


def interrupted(monkeypatch, after, action):
    """Let the making of pairs end after so many images."""
    count = iter(range(100))
    genuine = workflow.PairMaker.__call__

    def make(self, planned):
        if next(count) == after:
            action()
        return genuine(self, planned)

    monkeypatch.setattr(workflow.PairMaker, "__call__", make)


def press_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", FORMATS)
def test_interrupted_and_run_again_it_continues_to_the_same_bytes(
    hr, tmp_path, model_path, monkeypatch, kind
):
    options = {"crop": 40, "format": kind, "workers": 1, "variants": 2}
    ask(hr, tmp_path / "whole", model_path, **options)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        interrupted(patched, 5, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            ask(hr, out, model_path, **options)
    assert (out / "deflow.partial.json").is_file()
    assert not (out / "deflow.json").exists()
    with pytest.raises(DataError, match="has not finished"):
        open_pairs(out)
    if kind == "folders":
        for side in ("gt", "lq"):  # no file there that is no image
            assert all(re.fullmatch(r"[\dvs_]+\.png", path.name) for path in (out / side).iterdir())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    report = ask(hr, out, model_path, **options)
    assert report.written < report.pairs or kind == "webdataset"
    assert files(out) == files(tmp_path / "whole")
    if kind == "folders":
        assert before
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    again = ask(hr, out, model_path, **options)
    assert again.written == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_killed_and_run_again_it_continues_to_the_same_bytes(hr, tmp_path, model_path, monkeypatch, kind):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    ask(hr, tmp_path / "whole", model_path, format=kind)

    def be_killed():
        interrupted(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        ask(hr, tmp_path / "out", model_path, format=kind, workers=1)

    process = multiprocessing.get_context("fork").Process(target=be_killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "out/deflow.partial.json").is_file()
    ask(hr, tmp_path / "out", model_path, format=kind)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def choices(model, noisy):
    return {
        "deflow": DegraderChoice(model=model),
        "white-noise": DegraderChoice("white-noise", noisy=noisy),
        "spectral": DegraderChoice("spectral", noisy=noisy, clean=noisy),
        "noise-patches": DegraderChoice("noise-patches", noisy=noisy, patch_size=64, patch_variance=60),
        "none": NONE,
    }


@pytest.mark.parametrize("name", ["deflow", "white-noise", "spectral", "noise-patches", "none"])
def test_the_manifest_makes_the_same_data_set(hr, tmp_path, model_path, noisy, kernels, name):
    choice = choices(model_path, noisy)[name]
    if name == "spectral":  # small pictures of HR are below the 64 px that a spectrum takes
        assert ask(hr, tmp_path / "x", choice=choice, scale=1, dry_run=True).pairs == 4
    options = {"crop": 40, "variants": 2, "temperature": (0.7, 1.3), "seed": 3, "format": "webdataset"}
    ask(hr, tmp_path / "one", choice=choice, kernels=kernels, **options)
    (hr / "zz.png").write_bytes((hr / "a.png").read_bytes())  # not of the manifest
    places = DegraderChoice(**{k: v for k, v in choice.options.items() if k in ("model", "noisy", "clean")})
    ask(
        hr, tmp_path / "two", choice=places, kernels=kernels, manifest=tmp_path / "one/deflow.json", workers=1
    )
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_manifest_is_for_its_own_images_model_folders_and_kernels(hr, tmp_path, model_path, noisy, kernels):
    ask(hr, tmp_path / "one", model_path, kernels=kernels)
    manifest = tmp_path / "one/deflow.json"
    other = tmp_path / "other.safetensors"
    save_model(other, small_model(), {"step": 2})
    with pytest.raises(DataError, match=r"other\.safetensors: not the manifest's model small"):
        ask(hr, tmp_path / "two", other, kernels=kernels, manifest=manifest)
    with pytest.raises(ConfigError, match="blur kernels"):
        ask(hr, tmp_path / "two", model_path, manifest=manifest)
    np.save(kernels / "2.npy", np.ones((3, 3)))
    with pytest.raises(DataError, match="not the manifest's kernels"):
        ask(hr, tmp_path / "two", model_path, kernels=kernels, manifest=manifest)
    save(hr / "a.png", np.zeros((70, 70, 3), np.uint8))
    (hr / "b x4.png").unlink()
    with pytest.raises(DataError, match=r"a\.png has another content, b x4\.png is missing"):
        ask(hr, tmp_path / "two", model_path, kernels=kernels, manifest=manifest)
    patchy = choices(model_path, noisy)["noise-patches"]
    ask(hr, tmp_path / "three", choice=patchy)
    save(noisy / "0.png", np.full((90, 90, 3), 7, np.uint8))
    with pytest.raises(DataError, match="noisy pictures are not those"):
        ask(hr, tmp_path / "four", choice=patchy, manifest=tmp_path / "three/deflow.json")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(DataError, match=r"no\.json: not a manifest of pairs"):
        ask(hr, tmp_path / "four", model_path, manifest=tmp_path / "no.json")
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "four").exists()


# -- nothing is lost ------------------------------------------------------------------------------------


def test_another_request_into_the_same_folder_is_refused_and_told_apart(hr, tmp_path, model_path):
    out = tmp_path / "out"
    ask(hr, out, model_path)
    before = files(out)
    with pytest.raises(
        DataError, match=r"seed 0 there, now 5, .*scale 2 there|scale 2 there, now 4, seed"
    ) as caught:
        ask(hr, out, model_path, scale=4, seed=5)
    assert "--overwrite" in caught.value.next_step
    (hr / "c.png").write_bytes((hr / "a.png").read_bytes())
    with pytest.raises(DataError, match="the images of HR"):
        ask(hr, out, model_path)
    assert files(out) == before
    report = ask(hr, out, model_path, scale=4, format="lmdb", overwrite=True)
    assert report.written == 5
    assert not (out / "gt").exists()
    assert open_pairs(out).scale == 4


def test_files_of_others_are_never_touched(hr, tmp_path, model_path):
    out = tmp_path / "out"
    save(out / "gt/0000001.png", np.zeros((8, 8, 3), np.uint8))
    for overwrite in (False, True):
        with pytest.raises(DataError, match="no data set of deflow: gt"):
            ask(hr, out, model_path, overwrite=overwrite)
        assert list(files(out)) == ["gt/0000001.png"]
    ask(hr, tmp_path / "ours", model_path)
    (tmp_path / "ours/gt/mine.png").write_bytes(b"mine")
    before = files(tmp_path / "ours")
    with pytest.raises(DataError, match=r"mine\.png"):
        ask(hr, tmp_path / "ours", model_path, seed=1, overwrite=True)
    assert files(tmp_path / "ours") == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be a folder"):
        ask(hr, tmp_path / "file", model_path)


def test_a_lost_file_of_a_complete_set_is_made_again(hr, tmp_path, model_path):
    out = tmp_path / "out"
    ask(hr, out, model_path)
    before = files(out)
    (out / "lq/0000002.png").unlink()
    assert ask(hr, out, model_path).written == 1
    assert files(out) == before


def test_one_run_at_a_time(hr, tmp_path, model_path):
    pytest.importorskip("fcntl")
    with alone(tmp_path / "out"), pytest.raises(DataError, match="another deflow make-pairs"):
        ask(hr, tmp_path / "out", model_path)
    assert not (tmp_path / "out").exists()


def test_hr_and_out_may_not_be_mixed_up(hr, tmp_path, model_path):
    with pytest.raises(DataError, match="lies inside OUT"):
        ask(hr, hr, model_path)
    with pytest.raises(DataError, match="lies inside OUT"):
        ask(hr, tmp_path, model_path)
    for seed in (0, 1):  # an earlier OUT inside HR is no source
        assert ask(hr, hr / "out", model_path, seed=seed, overwrite=True).images == 4
    assert ask(hr / "a.png", tmp_path / "single", model_path).pairs == 1


# -- before anything is written -------------------------------------------------------------------------


def test_unfit_images_are_named_and_left_out(hr, tmp_path, model_path):
    (hr / "broken.png").write_bytes((hr / "a.png").read_bytes()[:300])
    save(hr / "tiny.png", np.zeros((20, 90, 3), np.uint8))
    pixels = read_rgb8(hr / "a.png")
    Pillow.fromarray(pixels).save(hr / "poor.jpg", quality=30)
    save(hr / "soft.png", cv2.GaussianBlur(pixels, (0, 0), 3))
    save(hr / "twin.png", pixels)
    listener = Listener()
    report = ask(hr, tmp_path / "out", model_path, reporter=listener)
    assert report.pairs == 4 + 3
    assert [name for name, _ in report.left_out] == ["broken.png", "tiny.png"]
    doubts = dict(report.doubtful)
    assert set(doubts) == {"poor.jpg", "soft.png", "twin.png"}
    assert "JPEG of quality 30" in doubts["poor.jpg"]
    assert "blurred" in doubts["soft.png"]
    assert doubts["twin.png"] == "the same file as a.png"
    told = " ".join(listener.warnings)
    assert all(name in told for name in ("broken.png", "90x20 is smaller than 32 px", "poor.jpg", "soft.png"))
    manifest = json.loads((tmp_path / "out/deflow.json").read_text())
    assert [name for name, _ in manifest["left_out"]] == ["broken.png", "tiny.png"]


def test_without_a_usable_image_nothing_is_written(hr, tmp_path, model_path):
    with pytest.raises(DataError, match=r"none of its 4 images .*a\.png \(81x70 is smaller than 480 px\)"):
        ask(hr, tmp_path / "out", model_path, crop=480)
    with pytest.raises(CheckpointError):
        ask(hr, tmp_path / "out", tmp_path / "none.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_dry_run_tells_and_writes_nothing(hr, tmp_path, model_path, kind):
    options = {"crop": 40, "variants": 2, "format": kind}
    report = ask(hr, tmp_path / "out", model_path, dry_run=True, **options)
    assert not (tmp_path / "out").exists()
    assert (report.images, report.pairs, report.written) == (4, 78, 0)
    assert (report.gt_sizes, report.lq_sizes) == (((40, 40), (40, 40)), ((20, 20), (20, 20)))
    assert report.estimate.seconds > 0
    assert report.estimate.free > 0
    ask(hr, tmp_path / "out", model_path, **options)
    found = open_pairs(tmp_path / "out")
    size = sum(len(part) for index in range(len(found)) for part in found.encoded(index))
    assert report.estimate.bytes == pytest.approx(size, rel=0.2)


def test_a_dry_run_tells_what_is_in_the_way(hr, tmp_path, model_path):
    ask(hr, tmp_path / "out", choice=NONE)
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match="made otherwise: scale 2 there, now 4") as caught:
        ask(hr, tmp_path / "out", choice=NONE, dry_run=True, scale=4)
    assert "--overwrite" in caught.value.next_step
    ask(hr, tmp_path / "out", choice=NONE, dry_run=True, scale=4, overwrite=True)
    assert files(tmp_path / "out") == before
    with pytest.raises(DataError, match=r'made otherwise: degrader "none" there, now "deflow"$'):
        ask(hr, tmp_path / "out", model_path, dry_run=True)
    save(tmp_path / "file.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"file\.png: is a file"):
        ask(hr, tmp_path / "file.png", choice=NONE, dry_run=True)


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


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: PairSettings(scale=5), "scale 5 is unknown"),
        (lambda: PairSettings(resize="lanczos"), "'lanczos'"),
        (lambda: PairSettings(format="zip"), "'zip'"),
        (lambda: PairSettings(kernel_sampling="nearest"), "'nearest'"),
        (lambda: PairSettings(crop=50), "crop 50 is no multiple of the scale 4"),
        (lambda: PairSettings(stride=24), "a stride without a crop"),
        (lambda: PairSettings(variants=0), "0 variants"),
        (lambda: PairSettings(temperature=(1.0, 0.5)), "temperature 1 to 0.5"),
        (lambda: DegraderChoice("blur"), "'blur'"),
        (lambda: DegraderChoice("white-noise"), "learns from degraded pictures"),
        (lambda: DegraderChoice("spectral"), "learns from degraded pictures"),
        (lambda: DegraderChoice("white-noise", sigma=300), "sigma 300"),
        (lambda: DegraderChoice("none", flattest=0), "share is 0"),
    ],
)
def test_what_cannot_be_is_told(build, words):
    with pytest.raises(DeflowError) as caught:
        build()
    assert words in str(caught.value)
    assert caught.value.next_step


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

"""Degrade: files in, files out: depth, alpha and profiles carried, bad files told, tiles never seen."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deflow_cli.checkpoints.format import save_model
from deflow_cli.cli.main import app
from deflow_cli.data.images.files import Image, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting, compress, read_history
from deflow_cli.errors import CheckpointError, ConfigError, DataError, DeviceError
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.images.pixels import sample_pixels, translate_on_device
from tests.inference.small import small_model, smooth_images
from tests.listening import Listener


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, small_model(), {"step": 1})
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder with a few pictures, one of them in a sub-folder."""
    folder = tmp_path / "photos"
    for index, name in enumerate(["a.png", "a.jpg", "sub/b.png"]):
        write_image(folder / name, Image(to_pixels(smooth_images(1, 33, 40 + index, seed=index))))
    return folder


def run(source, target, model_path, **options):
    request = DegradeRequest(source, target, model=model_path, device="cpu", **options)
    return degrade(request, Silent())


def pixels_below(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): read_image(path).pixels for path in files}


def test_folder_keeps_its_sub_folders_and_names_never_collide(photos, tmp_path, model_path):
    report = run(photos, tmp_path / "out", model_path, ext="png")
    written = pixels_below(tmp_path / "out")
    assert set(written) == {"a_png.png", "a_jpg.png", "sub/b.png"}
    assert [len(record.targets) for record in report.records] == [1, 1, 1]
    assert (report.failed, report.skipped, report.model_origin) == ([], [], "given")
    for name, pixels in written.items():
        source = {"a_png.png": "a.png", "a_jpg.png": "a.jpg"}.get(name, name)
        original = read_image(photos / source).pixels
        assert pixels.shape == original.shape
        assert 1 < np.abs(pixels.astype(int) - original).mean() < 60


def test_same_files_whatever_the_tiles_the_order_and_the_others(photos, tmp_path, model_path):
    run(photos, tmp_path / "whole", model_path, tile=0, samples=2, temperature=(0.5, 1.5))
    run(photos, tmp_path / "tiled", model_path, tile=16, samples=2, temperature=(0.5, 1.5))
    whole, tiled = pixels_below(tmp_path / "whole"), pixels_below(tmp_path / "tiled")
    assert len(whole) == 6
    for name in whole:
        # rounding can tip over where the values differ in the last bits
        difference = np.abs(whole[name].astype(int) - tiled[name])
        assert difference.max() <= (0 if name.endswith("png") else 3) + 1
        assert (difference > 0).mean() < 0.02
    (photos / "a.jpg").unlink()
    run(photos, tmp_path / "fewer", model_path, tile=0, samples=2, temperature=(0.5, 1.5))
    fewer = pixels_below(tmp_path / "fewer")
    assert np.array_equal(fewer["sub/b_s02.png"], whole["sub/b_s02.png"])
    assert np.array_equal(fewer["a_s01.png"], whole["a_s01.png"])


def test_again_is_bitwise_the_same_and_another_seed_is_not(photos, tmp_path, model_path):
    for name, seed in [("one", 3), ("two", 3), ("three", 4)]:
        run(photos / "a.png", tmp_path / f"{name}.png", model_path, seed=seed)
    one, two, three = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_samples_and_temperature(photos, tmp_path, model_path):
    def samples(name, **options):
        run(photos / "a.png", tmp_path / name, model_path, samples=3, **options)
        return np.stack(list(pixels_below(tmp_path / name).values())).astype(int)

    still = samples("still", temperature=(0.0, 0.0))
    assert (still == still[0]).all()
    assert (samples("seed", temperature=(0.0, 0.0), seed=8) == still).all()
    some, much = samples("some", temperature=(0.3, 0.3)), samples("much", temperature=(1.0, 1.0))
    assert 0 < some.var(0).mean() < 0.3 * much.var(0).mean()


def test_temperatures_are_drawn_per_image_within_the_range(photos, tmp_path, model_path):
    records = run(photos, tmp_path / "out", model_path, temperature=(0.6, 1.2)).records
    drawn = [record.temperature for record in records]
    assert len(set(drawn)) == 3
    assert all(0.6 <= temperature <= 1.2 for temperature in drawn)
    again = run(photos, tmp_path / "again", model_path, temperature=(0.6, 1.2)).records
    assert [record.temperature for record in again] == drawn


@pytest.mark.parametrize("bits", [8, 16])
def test_depth_alpha_profile_and_exif_are_carried(tmp_path, model_path, bits):
    pixels = to_pixels(smooth_images(1, 20, 31), bits)
    alpha = np.random.default_rng(0).integers(0, 2**bits, (20, 31)).astype(pixels.dtype)
    write_image(tmp_path / "in.png", Image(pixels, alpha, icc=ICC))
    run(tmp_path / "in.png", tmp_path / "out.png", model_path)
    done = read_image(tmp_path / "out.png")
    assert done.bits == bits
    assert np.array_equal(done.alpha, alpha)
    assert done.icc == ICC
    assert not np.array_equal(done.pixels, pixels)
    if bits == 16:
        assert len(np.unique(done.pixels % 257)) > 100  # all sixteen bits are in use


def test_gray_stays_gray(tmp_path, model_path):
    pixels = np.repeat(to_pixels(smooth_images(1, 24, 24))[..., :1], 3, -1)
    write_image(tmp_path / "in.png", Image(pixels, gray=True))
    run(tmp_path / "in.png", tmp_path / "out.png", model_path)
    done = read_image(tmp_path / "out.png")
    assert done.gray
    assert np.abs(done.pixels.astype(int) - pixels).mean() > 1


def test_bad_files_are_told_and_the_rest_goes_on(photos, tmp_path, model_path):
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:200])
    report = run(photos, tmp_path / "out", model_path)
    assert len(report.records) == 3
    [(path, reason)] = report.failed
    assert path == photos / "broken.png"
    assert "broken.png" in reason
    result = CliRunner().invoke(
        app, ["degrade", str(photos), str(tmp_path / "cli"), "--model", str(model_path), "--device", "cpu"]
    )
    assert result.exit_code == 1
    assert "3 written" in result.stdout


def test_skip_existing(photos, tmp_path, model_path):
    run(photos, tmp_path / "out", model_path)
    stamp = (tmp_path / "out/sub/b.png").stat().st_mtime_ns
    (tmp_path / "out/a.jpg").unlink()
    report = run(photos, tmp_path / "out", model_path, skip_existing=True)
    assert [record.source for record in report.records] == [photos / "a.jpg"]
    assert len(report.skipped) == 2
    assert (tmp_path / "out/sub/b.png").stat().st_mtime_ns == stamp


def test_outputs_inside_the_input_folder_are_not_inputs(photos, model_path):
    for _ in range(2):
        assert len(run(photos, photos / "out", model_path).records) == 3


def test_inputs_are_never_overwritten(photos, model_path):
    with pytest.raises(DataError, match="overwrite"):
        run(photos, photos, model_path)


def test_like_takes_the_component_of_the_reference(photos, tmp_path, model_path):
    image = smooth_images(1, 96, 96, seed=7)
    write_image(tmp_path / "clean.png", Image(to_pixels(image)))
    drawn = run(tmp_path / "clean.png", tmp_path / "ref", model_path, samples=8).records[0]
    assert set(drawn.component) == {0, 1}
    for component in (0, 1):
        reference = drawn.targets[drawn.component.index(component)]
        record = run(
            photos / "a.png", tmp_path / f"{component}", model_path, like=reference, samples=8
        ).records[0]
        assert record.component == [component] * 8


def test_like_estimates_a_single_shift_anew(photos, tmp_path):
    path = tmp_path / "single.safetensors"
    save_model(path, small_model("correlated"), {})
    strong = tmp_path / "strong"
    run(photos / "a.png", strong / "a.png", path, temperature=(4.0, 4.0))

    def deviation(**options):
        run(photos / "a.png", tmp_path / "out.png", path, **options)
        return np.abs(
            read_image(tmp_path / "out.png").pixels.astype(int) - read_image(photos / "a.png").pixels
        ).mean()

    assert deviation(like=strong) > 1.5 * deviation()


def test_reverse_brings_images_nearer_to_clean(photos, tmp_path, model_path):
    image = smooth_images(1, 96, 96, seed=7)
    write_image(tmp_path / "clean.png", Image(to_pixels(image)))
    degraded = run(tmp_path / "clean.png", tmp_path / "bad", model_path, samples=4).records[0]
    clean = read_image(tmp_path / "clean.png").pixels.astype(int)
    for target, component in zip(degraded.targets, degraded.component, strict=True):
        report = run(target, tmp_path / "good.png", model_path, reverse=True, temperature=(0.0, 0.0))
        assert report.records[0].component == [component]
        before = np.abs(read_image(target).pixels - clean).mean()
        assert np.abs(read_image(tmp_path / "good.png").pixels - clean).mean() < 0.9 * before


def test_many_samples_are_written_in_groups(photos, tmp_path, model_path, monkeypatch):
    run(photos / "a.png", tmp_path / "at_once", model_path, samples=3)
    monkeypatch.setattr("deflow_cli.workflows.degrade.OUTPUT_BUDGET", 1)
    run(photos / "a.png", tmp_path / "one_by_one", model_path, samples=3)
    at_once, one_by_one = pixels_below(tmp_path / "at_once"), pixels_below(tmp_path / "one_by_one")
    assert len(at_once) == 3
    assert all(np.array_equal(at_once[name], one_by_one[name]) for name in at_once)


@pytest.mark.parametrize("bits", [8, 16])
def test_pictures_on_the_device_are_those_of_the_host(bits):
    """As a GPU gathers them, here on a CPU."""
    pixels = (smooth_images(1, 40, 56)[0].permute(1, 2, 0).numpy() * (2**bits - 1)).astype(f"uint{bits}")
    translator = Translator(small_model(), tile=16)
    shift = ShiftDistribution(small_model().prior)
    job = Job(shift, [ImageNoise(1, "a")], [[0, 1]], [1.0], gray_levels=2**bits - 1)
    both = [
        translate(translator, to_tensor(pixels), job, [0, 1], Image(pixels))
        for translate in (sample_pixels, translate_on_device)
    ]
    for ours, theirs in zip(*both, strict=True):
        assert ours.dtype == theirs.dtype == pixels.dtype
        assert np.array_equal(ours, theirs)


def test_default_model_is_the_newest_fit_here(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(["new", "old"]):
        path = tmp_path / "runs" / name / "model.safetensors"
        save_model(path, small_model(), {})
        os.utime(path, (1e9 - age, 1e9 - age))
    report = run(photos / "a.png", tmp_path / "out.png", None)
    assert report.model == tmp_path / "runs/new/model.safetensors"
    assert report.model_origin == "newest fit here"


def test_without_any_model_the_next_step_is_told(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.toml").write_text("")
    monkeypatch.setattr("deflow_cli.checkpoints.registry.weights_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError) as caught:
        run(photos, tmp_path / "out", None)
    assert "deflow fit" in caught.value.next_step


def test_embedded_model_is_verified(photos, tmp_path, monkeypatch, model_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deflow_cli.checkpoints.registry.weights_folder", lambda: tmp_path)
    (tmp_path / "small.safetensors").write_bytes(model_path.read_bytes())
    (tmp_path / "manifest.toml").write_text('default_model = "small.safetensors"\n')
    assert run(photos, tmp_path / "out", None).model_origin == "embedded"
    entry = '[[file]]\npath = "small.safetensors"\nsha256 = "00"\n'
    (tmp_path / "manifest.toml").write_text(f'default_model = "small.safetensors"\n{entry}')
    with pytest.raises(CheckpointError, match="checksum"):
        run(photos, tmp_path / "out", None)


def test_what_concerns_all_images_is_an_error(photos, tmp_path, model_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image found"):
        run(tmp_path / "empty", tmp_path / "out", model_path)
    if not torch.cuda.is_available():
        request = DegradeRequest(photos, tmp_path / "out", model=model_path)
        with pytest.raises(DeviceError):
            degrade(replace(request, device="cuda"), Silent())
    assert not Path(tmp_path / "out").exists()


ICC = b"\0\0\0\x80" + b"\0" * 124  # a profile's header alone: it is carried, not read


@pytest.fixture(scope="module")
def jpeg_model(tmp_path_factory):
    """The same model, which records that its noisy images were JPEGs."""
    path = tmp_path_factory.mktemp("model") / "jpeg.safetensors"
    folder = FolderCompression(2, ((JpegSetting.of_quality(60), 0.5), (JpegSetting.of_quality(80), 0.5)))
    save_model(path, small_model(), {"step": 1, "compression": folder.to_dict()})
    return path


@pytest.mark.slow(seconds=9)
def test_samples_are_compressed_where_the_model_records_it(tmp_path, model_path, jpeg_model):
    write_image(tmp_path / "in" / "a.png", Image(to_pixels(smooth_images(1, 150, 130))))
    run(tmp_path / "in", tmp_path / "plain", model_path, samples=8)
    run(tmp_path / "in", tmp_path / "off", jpeg_model, samples=8, compression="no")
    run(tmp_path / "in", tmp_path / "out", jpeg_model, samples=8)
    plain, off, out = (pixels_below(tmp_path / name) for name in ("plain", "off", "out"))
    qualities = set()
    for name, pixels in plain.items():
        assert np.array_equal(off[name], pixels)
        history = read_history(out[name])
        assert history is not None
        assert np.array_equal(out[name], compress(pixels, history.setting))
        qualities.add(history.setting.quality)
    assert qualities == {60, 80}
    run(tmp_path / "in", tmp_path / "tiled", jpeg_model, samples=8, tile=16)
    for name, pixels in pixels_below(tmp_path / "tiled").items():
        assert (pixels != out[name]).mean() < 0.02


def test_restoring_and_16_bits_are_not_compressed(tmp_path, model_path, jpeg_model):
    deep = to_pixels(smooth_images(1, 40, 50), 16)
    write_image(tmp_path / "in" / "deep.png", Image(deep))
    for options in ({}, {"reverse": True}):
        listener = Listener()
        for name, model in (("plain", model_path), ("out", jpeg_model)):
            request = DegradeRequest(tmp_path / "in", tmp_path / name, model=model, device="cpu", **options)
            degrade(request, listener)
        plain, out = (pixels_below(tmp_path / name)["deep.png"] for name in ("plain", "out"))
        assert np.array_equal(plain, out)
        assert any("images of 16 bits: 1" in note for note in listener.notes) == (not options)


def test_trees_with_links_other_formats_and_long_names(photos, tmp_path, model_path):
    """Each real file once; what is left alone is said; a name of 255 bytes is written."""
    (photos / "self").symlink_to(".")
    (photos / "sub/up").symlink_to("..")
    (photos / "shot.nef").touch()
    (photos / "a.jpg").unlink()
    name = "n" * 251 + ".png"
    (photos / "a.png").rename(photos / name)
    listener = Listener()
    request = DegradeRequest(photos, tmp_path / "out", model=model_path, device="cpu")
    report = degrade(request, listener)
    assert set(pixels_below(tmp_path / "out")) == {name, "sub/b.png"}
    assert report.failed == []
    assert listener.warnings == [
        f"{photos}: pictures of formats that are not read were left alone: 1 RAW (develop them to TIFF or"
        " PNG)"
    ]


def test_lossy_formats_are_said_once_and_webp_loses_nothing(photos, tmp_path, model_path):
    for ext, said in (("webp", []), ("jpg", ["JPEG is lossy and changes the pixels that were computed"])):
        listener = Listener()
        request = DegradeRequest(photos, tmp_path / ext, model=model_path, device="cpu", ext=ext)
        degrade(request, listener)
        assert [text.partition(";")[0] for text in listener.warnings] == said
    run(photos, tmp_path / "png", model_path, ext="png")
    as_png, as_webp = (list(pixels_below(tmp_path / name).values()) for name in ("png", "webp"))
    assert all(np.array_equal(a, b) for a, b in zip(as_png, as_webp, strict=True))


def test_a_side_that_the_format_cannot_hold_is_refused_before_the_work(tmp_path, model_path):
    write_image(tmp_path / "wide.png", Image(np.zeros((2, 16384, 3), np.uint8)))
    report = run(tmp_path / "wide.png", tmp_path / "out.webp", model_path)
    ((_, reason),) = report.failed
    assert "16384x2 pixels are more than .webp holds (16383 a side); use --ext png" in reason


def test_frames_of_a_clip_have_one_temperature_and_component_and_folders_are_clips(tmp_path, model_path):
    frame = to_pixels(smooth_images(1, 32, 32, seed=1))
    for name in ("one/1.png", "one/2.png", "two/1.png"):
        write_image(tmp_path / "in" / name, Image(frame))
    report = run(tmp_path / "in", tmp_path / "out", model_path, temperature=(0.5, 1.5), clip=True)
    temperatures = {record.source.parent.name: set() for record in report.records}
    for record in report.records:
        temperatures[record.source.parent.name].add(record.temperature)
    assert [len(found) for found in temperatures.values()] == [1, 1]
    assert temperatures["one"] != temperatures["two"]
    out = pixels_below(tmp_path / "out")
    assert not np.array_equal(out["one/1.png"], out["one/2.png"])
    run(tmp_path / "in", tmp_path / "still", model_path, clip=True, temporal=1.0)
    still = pixels_below(tmp_path / "still")
    assert np.array_equal(still["one/1.png"], still["one/2.png"])
    assert not np.array_equal(still["one/1.png"], still["two/1.png"])


def test_a_frame_of_a_clip_can_be_made_alone(tmp_path, model_path):
    for name in ("1.png", "2.png"):
        write_image(tmp_path / "in" / name, Image(to_pixels(smooth_images(1, 32, 32, seed=1))))
    run(tmp_path / "in", tmp_path / "out", model_path, clip=True, temporal=0.5)
    (tmp_path / "in/1.png").unlink()
    run(tmp_path / "in", tmp_path / "alone", model_path, clip=True, temporal=0.5)
    assert np.array_equal(pixels_below(tmp_path / "alone")["2.png"], pixels_below(tmp_path / "out")["2.png"])


def test_sheet_shows_the_first_images_at_rising_strengths(photos, tmp_path, model_path):
    (photos / "broken.png").write_bytes(b"no image")
    report = run(photos, tmp_path / "out", model_path, sheet=tmp_path / "sheets/s.png")
    assert len(report.failed) == 1
    sheet = read_image(tmp_path / "sheets/s.png").pixels
    assert sheet.shape[0] > 3 * 33
    assert sheet.shape[1] > 7 * 40
    first = read_image(photos / "a.jpg").pixels
    rows, columns = first.shape[:2]
    left = next(x for x in range(200) if np.array_equal(sheet[20 : 20 + rows, x : x + columns], first))
    step = 42 + 4  # the widest picture of a column, and the gap
    changes = []
    for index in range(1, 7):
        shown = sheet[20 : 20 + rows, left + index * step : left + index * step + columns].astype(float)
        changes.append(np.abs(shown - first).mean())
    assert changes == sorted(changes)
    assert changes[-1] > 2 * changes[0]


def test_sheet_must_be_a_png(photos, tmp_path, model_path):
    with pytest.raises(ConfigError, match="a sheet is a PNG"):
        run(photos, tmp_path / "out", model_path, sheet=tmp_path / "s.jpg")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def video(tmp_path):
    """Three equal frames without sound, FFV1."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = tmp_path / "clip.mkv"
    pixels = to_pixels(smooth_images(1, 32, 48, seed=1))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr0"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def frames_of(path):
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_video_is_one_clip_with_new_noise_in_each_frame(video, tmp_path, model_path):
    report = run(video, tmp_path / "out.mkv", model_path, temperature=(0.5, 1.5))
    assert [record.targets for record in report.records] == [[tmp_path / "out.mkv"]]
    before, after = frames_of(video), frames_of(tmp_path / "out.mkv")
    assert len(after) == 3
    assert not np.array_equal(after[0], after[1])
    assert 1 < np.abs(after[0].astype(int) - before[0]).mean() < 60
    again = run(video, tmp_path / "again", model_path, temperature=(0.5, 1.5), tile=16)
    assert again.records[0].temperature == report.records[0].temperature
    for one, two in zip(after, frames_of(tmp_path / "again/clip.mkv"), strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1  # tiles: rounding
    run(video, tmp_path / "still.mkv", model_path, temporal=1.0)
    still = frames_of(tmp_path / "still.mkv")
    assert np.array_equal(still[0], still[2])


def test_video_that_is_there_is_skipped_where_asked(video, tmp_path, model_path):
    (tmp_path / "out.mkv").write_bytes(b"there")
    report = run(video, tmp_path / "out.mkv", model_path, skip_existing=True)
    assert (report.records, report.skipped) == ([], [video])
    assert (tmp_path / "out.mkv").read_bytes() == b"there"


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("out.mkv", {"samples": 2}, "2 samples of a video"),
        ("out.png", {}, "the input is a video"),
        ("clip.mkv", {}, "would overwrite the input"),
        ("out.mkv", {"reverse": True}, "--reverse is for images"),
        ("out.mkv", {"sheet": Path("s.png")}, "--sheet is for images"),
    ],
)
def test_what_a_video_cannot_be_asked_for(video, tmp_path, model_path, target, options, words):
    with pytest.raises((ConfigError, DataError)) as caught:
        run(video, tmp_path / target, model_path, **options)
    assert words in str(caught.value)

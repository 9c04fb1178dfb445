"""Frames: pixels, timestamps and sound of a changed video, and what cannot be read or written."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.data.video.frames import change_video, frame_count
from deflow_cli.errors import DataError

av = pytest.importorskip("av", reason="PyAV is not installed")

TIMES = [0, 40, 80, 200, 240]  # ms: the rate varies


def make_video(path, deep=False, sound=True, size=(48, 64)):
    """FFV1 with a tone; returns its frames."""
    random = np.random.default_rng(0)
    most, kind = (65535, np.uint16) if deep else (255, np.uint8)
    frames = [random.integers(0, most + 1, (*size, 3), dtype=kind) for _ in TIMES]
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=25)
        video.height, video.width = size
        video.pix_fmt = "gbrp16le" if deep else "bgr0"
        video.codec_context.time_base = Fraction(1, 1000)
        tone = output.add_stream("aac", rate=44100, layout="mono") if sound else None
        for pixels, time in zip(frames, TIMES, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le" if deep else "rgb24")
            frame = frame.reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if tone is not None:
            samples = (np.sin(np.arange(22050) / 20) * 0.1).astype(np.float32)[None]
            for start in range(0, 22050 - 1024, 1024):
                part = np.ascontiguousarray(samples[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44100, start
                output.mux(tone.encode(frame))
            output.mux(tone.encode(None))
    return frames


def read_video(path):
    """Frames, their times in ms, and the bytes of the sound's packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames, times, sound = [], [], b""
        for packet in container.demux():
            if packet.stream.type == "audio":
                sound += bytes(packet)
            elif packet.stream is stream:
                for frame in packet.decode():
                    deep = frame.format.components[0].bits > 8
                    frames.append(frame.to_ndarray(format="rgb48le" if deep else "rgb24"))
                    times.append(round(float(frame.pts * frame.time_base) * 1000))
    return frames, times, sound


@pytest.mark.parametrize("deep", [False, True])
def test_mkv_keeps_every_pixel_timestamp_and_byte_of_sound(tmp_path, deep):
    frames = make_video(tmp_path / "in.mkv", deep)
    numbers = []

    def negative(number, pixels):
        numbers.append(number)
        return np.iinfo(pixels.dtype).max - pixels

    copied = change_video(tmp_path / "in.mkv", tmp_path / "sub/out.mkv", negative)
    assert (copied.frames, copied.width, copied.height) == (5, 64, 48)
    assert numbers == [0, 1, 2, 3, 4]
    written, times, sound = read_video(tmp_path / "sub/out.mkv")
    for before, after in zip(frames, written, strict=True):
        assert np.array_equal(after, np.iinfo(before.dtype).max - before)
    assert times == TIMES
    assert sound == read_video(tmp_path / "in.mkv")[2]
    assert len(sound) > 1000
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["out.mkv"]


def test_frames_may_become_larger(tmp_path):
    make_video(tmp_path / "in.mkv", sound=False)
    copied = change_video(
        tmp_path / "in.mkv", tmp_path / "out.mkv", lambda number, x: x.repeat(2, 0).repeat(2, 1)
    )
    assert (copied.width, copied.height) == (128, 96)
    assert read_video(tmp_path / "out.mkv")[0][0].shape == (96, 128, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_lossy_files_keep_colours_and_say_that_they_are_lossy(tmp_path, suffix, size):
    make_video(tmp_path / "in.mkv", sound=suffix != ".webm", size=size)
    flat = np.broadcast_to(np.array([200, 60, 30], np.uint8), (*size, 3)).copy()
    heard = []
    with remarks_to(heard.append):
        change_video(tmp_path / "in.mkv", tmp_path / f"out{suffix}", lambda number, pixels: flat)
    assert [text for text in heard if "lossy" in text]
    written, times, _ = read_video(tmp_path / f"out{suffix}")
    assert written[0].shape == flat.shape
    assert np.abs(written[2].astype(int) - flat).max() <= 4
    assert times == TIMES


def test_count_of_frames_is_stated(tmp_path):
    make_video(tmp_path / "in.mkv")
    assert abs(frame_count(tmp_path / "in.mkv") - len(TIMES)) <= 8  # a rate times a duration: about


def test_a_failure_leaves_nothing_and_the_old_file(tmp_path):
    make_video(tmp_path / "in.mkv")
    (tmp_path / "out.mkv").write_bytes(b"before")

    def fail(number, pixels):
        if number == 2:
            raise DataError("no more")
        return pixels

    with pytest.raises(DataError, match="no more"):
        change_video(tmp_path / "in.mkv", tmp_path / "out.mkv", fail)
    assert (tmp_path / "out.mkv").read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mkv"}


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("cut.mkv", "out.mkv", "cut.mkv"),
        ("text.mkv", "out.mkv", "text.mkv: cannot be read as a video"),
        ("in.mkv", "out.avi", "written as .mkv, .mp4"),
    ],
)
def test_what_cannot_be_done_is_named(tmp_path, name, target, words):
    make_video(tmp_path / "in.mkv")
    whole = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[:300])
    (tmp_path / "text.mkv").write_text("no video at all")
    with pytest.raises(DataError) as caught:
        change_video(tmp_path / name, tmp_path / target, lambda number, pixels: pixels)
    assert words in str(caught.value)
    assert not (tmp_path / target).exists()


def test_without_pyav_it_says_what_to_install(tmp_path, monkeypatch):
    make_video(tmp_path / "in.mkv")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DataError) as caught:
        change_video(tmp_path / "in.mkv", tmp_path / "out.mkv", lambda number, pixels: pixels)
    assert "deflow-cli[video]" in str(caught.value.next_step)

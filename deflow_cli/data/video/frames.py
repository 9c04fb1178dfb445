"""Frames of videos: changed one by one, with the sound, the subtitles and the timestamps kept. Needs PyAV."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.remarks import remark
from deflow_cli.errors import DataError, naming, unwritable
from deflow_cli.paths import temporary_beside

VIDEO_SUFFIXES = (".mkv", ".mp4", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv")
LEAST_HD_HEIGHT = 720  # px from which a video that does not name its colours has those of BT.709
CONSTANT_QUALITY = (
    "10"  # of the lossy encoders (CRF): noise takes many bits, and coarser ones would smooth it
)

UNSPECIFIED = 2  # matrix coefficients, by ITU-T H.273

ChangeFrame = Callable[[int, NDArray[Any]], NDArray[Any]]
"""Takes a frame's number and pixels, H x W x 3 of uint8 or uint16, and returns pixels of the same type."""


@dataclass(frozen=True)
class _Encoder:
    """How a kind of file holds pictures. shallow, deep: pixel formats for 8 and for more bits."""

    codec: str
    shallow: str
    deep: str
    options: tuple[tuple[str, str], ...] = ()
    lossless: bool = False


_H264 = _Encoder("libx264", "yuv420p", "yuv420p10le", (("crf", CONSTANT_QUALITY),))
ENCODERS = {
    ".mkv": _Encoder("ffv1", "bgr0", "gbrp16le", (("level", "3"),), lossless=True),
    ".mp4": _H264,
    ".mov": _H264,
    ".webm": _Encoder("libvpx-vp9", "yuv420p", "yuv420p", (("crf", CONSTANT_QUALITY), ("b:v", "0"))),
}


@dataclass(frozen=True)
class VideoCopy:
    """What was written: the number of frames, and their size in px."""

    frames: int
    width: int
    height: int


def is_video(path: Path) -> bool:
    """Whether a path names a video, by its suffix.

    >>> is_video(Path("clip.MP4")), is_video(Path("photo.png"))
    (True, False)
    """
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_video_target(target: Path) -> None:
    """Raise DataError for a video that cannot be written, and say so where its format loses detail."""
    encoder = ENCODERS.get(target.suffix.lower())
    if encoder is None:
        raise DataError(
            f"{target}: videos are written as {', '.join(ENCODERS)}",
            next_step=f"use {target.with_suffix('.mkv').name}, which keeps every pixel",
        )
    if not encoder.lossless:
        remark(f"{target.suffix} is lossy and changes the pixels that were computed; .mkv keeps them")


def frame_count(source: Path) -> int | None:
    """The number of frames that a video states; None where it states none. Raises DataError."""
    with _opened(source, _library(source)) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return int(stream.frames)
        if stream.average_rate and container.duration:
            return max(1, round(float(stream.average_rate) * container.duration / 1_000_000))
    return None


def change_video(source: Path, target: Path, change: ChangeFrame) -> VideoCopy:
    """Write a video whose frames are those of ``source``, changed; they may all become larger or smaller.

    Frames keep their timestamps, and sound and subtitles are copied as they are. A ``.mkv`` is lossless
    (FFV1), other kinds of file are not. The file appears under its name when it is whole. Raises DataError
    naming the file for what cannot be read or written.
    """
    check_video_target(target)
    library = _library(source)
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _opened(source, library) as container:
            copier = _Copier(container, source, temporary, target, library)
            try:
                copied = copier.copy(change)
            finally:
                copier.close()
        temporary.replace(target)
    except OSError as error:  # PyAV's own errors are OSErrors or ValueErrors
        raise unwritable(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return copied


class _Copier:
    """One video on its way into another file."""

    def __init__(self, container: Any, source: Path, temporary: Path, target: Path, library: Any) -> None:
        self.container, self.source, self.target, self.library = container, source, target, library
        self.encoder = ENCODERS[target.suffix.lower()]
        kind = {".mkv": "matroska", ".m4v": "mp4"}.get(target.suffix.lower(), target.suffix.lower()[1:])
        self.output = library.open(str(temporary), "w", format=kind)
        self.picture = container.streams.video[0]
        self.picture.thread_type = "AUTO"
        self.stream: Any = None
        # Headers are written with the first packet, before which all streams must be there.
        self.copied: dict[Any, Any] = {}
        for stream in container.streams:
            if stream.type in ("audio", "subtitle"):
                self._copy_stream(stream)

    def copy(self, change: ChangeFrame) -> VideoCopy:
        waiting: list[Any] = []  # packets of sound that came before the first frame, whose stream opens late
        number, size = 0, (0, 0)
        for packet in self.container.demux([self.picture, *self.copied]):
            if packet.stream in self.copied:
                if packet.dts is not None:
                    packet.stream = self.copied[packet.stream]
                    waiting.append(packet)
            else:
                for frame in self._decoded(packet, number):
                    pixels = change(number, self._pixels(frame))
                    if self.stream is None:
                        self._open_stream(pixels)
                        size = pixels.shape[1], pixels.shape[0]
                    self._encode(self._frame(pixels, frame))
                    number += 1
            if self.stream is not None:
                for each in waiting:
                    self.output.mux(each)
                waiting.clear()
        if number == 0:
            raise DataError(f"{self.source}: holds no frame that can be decoded", next_step="copy it again")
        self._encode(None)
        return VideoCopy(number, *size)

    def close(self) -> None:
        self.output.close()

    def _copy_stream(self, stream: Any) -> None:
        try:
            self.copied[stream] = self.output.add_stream_from_template(stream)
        except (ValueError, OSError) as error:
            raise DataError(
                f"{self.target}: cannot hold the {stream.type} of {self.source} ({error})",
                next_step=f"write {self.target.with_suffix('.mkv').name} instead",
            ) from error

    def _decoded(self, packet: Any, number: int) -> Iterator[Any]:
        try:
            yield from packet.decode()
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.source}: frame {number} cannot be decoded ({error})", next_step="copy it again"
            ) from error

    def _pixels(self, frame: Any) -> NDArray[Any]:
        """H x W x 3, upright, with the colours that the video states."""
        if frame.interlaced_frame:
            remark("is interlaced; both fields are treated as one picture", self.source)
        deep = frame.format.components[0].bits > 8
        unknown = int(frame.colorspace) == UNSPECIFIED
        space = _colours(frame.height, self.library) if unknown else None
        rgb = frame.reformat(format="rgb48le" if deep else "rgb24", src_colorspace=space)
        pixels: NDArray[Any] = rgb.to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def _open_stream(self, pixels: NDArray[Any]) -> None:
        """The stream of pictures, as large and as deep as the first changed frame."""
        height, width = pixels.shape[:2]
        name = self.encoder.deep if pixels.dtype == np.uint16 else self.encoder.shallow
        if (height % 2 or width % 2) and "420" in name:
            name = name.replace("420", "444")
        rate = self.picture.average_rate or self.picture.guessed_rate or 25
        stream = self.output.add_stream(self.encoder.codec, rate=rate, options=dict(self.encoder.options))
        stream.width, stream.height, stream.pix_fmt = width, height, name
        stream.codec_context.time_base = self.picture.time_base
        if name.startswith("yuv"):
            colours = 1 if height >= LEAST_HD_HEIGHT else 6  # BT.709, SMPTE 170M, by ITU-T H.273
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = colours
            context.color_range = 1  # limited, 16 to 235
        self.stream = stream

    def _frame(self, pixels: NDArray[Any], source: Any) -> Any:
        deep = pixels.dtype == np.uint16
        frame = self.library.VideoFrame.from_ndarray(pixels, format="rgb48le" if deep else "rgb24")
        space = _colours(pixels.shape[0], self.library) if self.stream.pix_fmt.startswith("yuv") else None
        frame = frame.reformat(format=self.stream.pix_fmt, dst_colorspace=space)
        frame.pts, frame.time_base = source.pts, source.time_base
        return frame

    def _encode(self, frame: Any) -> None:
        for packet in self.stream.encode(frame):
            self.output.mux(packet)


def _colours(height: int, library: Any) -> Any:
    space = library.video.reformatter.Colorspace
    return space.ITU709 if height >= LEAST_HD_HEIGHT else space.ITU601


def _library(path: Path) -> Any:
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: videos are read by PyAV, which is not installed",
            next_step="pip install 'deflow-cli[video]', or pass a folder of frames with --clip",
        ) from error


@contextlib.contextmanager
def _opened(source: Path, library: Any) -> Iterator[Any]:
    """A container with a stream of pictures. Raises DataError naming the file."""
    try:
        container = library.open(str(source))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source}: cannot be read as a video ({error})", next_step="copy it again"
        ) from error
    with container, naming(source, but=(DataError,)):
        if not container.streams.video:
            raise DataError(f"{source}: holds no pictures", next_step="pass a video, or a folder of frames")
        yield container

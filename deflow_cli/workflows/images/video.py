"""Video: a video as the clip that its frames are, through a network, into another video."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.files import Image
from deflow_cli.data.video.frames import change_video, check_video_target, frame_count, is_video
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.progress import Reporter


class VideoJob(NamedTuple):
    """A video to read and one to write. key: the clip's, which what is random about it belongs to."""

    source: Path
    target: Path

    @property
    def key(self) -> str:
        return f"clip {self.source.name}"

    def frame_key(self, number: int) -> str:
        return f"{self.source.name} frame {number}"


class ChangeImage(Protocol):
    """Changes one frame of a video."""

    def __call__(self, number: int, image: Image) -> NDArray[Any]:
        """Pixels H x W x 3 of the same type; all frames get the same size."""
        ...


class VideoDone(NamedTuple):
    """A video that was written. seconds: from its first frame to its name."""

    frames: int
    width: int
    height: int
    seconds: float


def plan_video(source: Path, target: Path, *, samples: int, ext: str, tag: str = "") -> VideoJob:
    """The video to write: OUT, or one of the source's name, with a tag, in the folder OUT.

    Raises ConfigError for several samples, DataError where OUT is the source or cannot be written.
    """
    if samples != 1:
        raise ConfigError(
            f"{samples} samples of a video", next_step="use --samples 1, and another --seed for more"
        )
    if not is_video(target):
        if target.suffix and not target.is_dir():
            raise DataError(
                f"{target}: the input is a video", next_step="name a video, clip.mkv, or a folder"
            )
        suffix = source.suffix if ext == "auto" else f".{ext}"
        target = target / f"{source.stem}{f'_{tag}' if tag else ''}{suffix}"
    check_video_target(target)
    if target.exists() and os.path.samefile(source, target):
        raise DataError(f"{target}: would overwrite the input {source}", next_step="choose another OUT")
    return VideoJob(source, target)


def run_video(job: VideoJob, change: ChangeImage, reporter: Reporter, *, title: str) -> VideoDone:
    """Change every frame and write the video. Raises DataError naming the file."""
    started = time.perf_counter()
    reporter.start(title, frame_count(job.source))

    def one(number: int, pixels: NDArray[Any]) -> NDArray[Any]:
        changed = change(number, Image(np.ascontiguousarray(pixels)))
        reporter.update(number + 1)
        return changed

    copied = change_video(job.source, job.target, one)
    reporter.finish()
    return VideoDone(copied.frames, copied.width, copied.height, time.perf_counter() - started)

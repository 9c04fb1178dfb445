"""Making pairs: the clean and the degraded picture of each planned image, by several threads."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.folders import file_sha256
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.records import GOES_ON, EncodedPair, PairSlot, encode_png
from deflow_cli.degraders.base import ReadyDegrader
from deflow_cli.errors import DataError, DeviceError, is_out_of_memory, memory_asked, naming
from deflow_cli.runtime.memory import available_memory
from deflow_cli.workflows.pairs.plan import Manifest, PlannedImage
from deflow_cli.workflows.pairs.sources import CleanImages

MOST_THREADS = 16
FEWER_WORKERS = f"use fewer --workers, or close other programs; {GOES_ON}"
WORKER_BYTES = 2_000_000_000  # memory that degrading a large picture takes


@dataclass(frozen=True)
class PairPlan:
    """What is decided before the first pair is made.

    kernels: in the order in which ``images`` count them.
    """

    manifest: Manifest
    chosen: ReadyDegrader
    kernels: Sequence[BlurKernel]
    images: Sequence[PlannedImage]

    @property
    def sources(self) -> CleanImages:
        return self.manifest.sources

    @property
    def slots(self) -> list[PairSlot]:
        """All pairs, in the order of their names."""
        return [slot for planned in self.images for slot in planned.slots]


class PairMaker:
    """Makes the missing pairs of a planned image (None: all of them). Several threads may call it.

    checks_contents: whether each image is compared with the one that was planned, byte for byte.
    """

    def __init__(
        self, plan: PairPlan, missing: set[str] | None = None, checks_contents: bool = False
    ) -> None:
        self._plan, self._checks_contents = plan, checks_contents
        self._missing = missing
        # On a CUDA device one picture at a time, because the tiles are planned for all of its memory.
        self._turn = threading.Lock() if plan.manifest.device == "cuda" else contextlib.nullcontext()

    def __call__(self, planned: PlannedImage) -> list[EncodedPair]:
        sources = self._plan.sources
        path = sources.path(planned.image)
        source = sources.images[planned.image]
        gt = read_rgb8(path)
        changed = self._checks_contents and file_sha256(path) != source.sha256
        if changed or gt.shape[:2] != (source.height, source.width):
            raise DataError(
                f"{path}: has changed meanwhile", next_step="start again when the images stay as they are"
            )
        try:
            with naming(path):
                lq = self._degraded(gt, planned)
        except DeviceError as error:
            raise DeviceError(str(error), next_step=FEWER_WORKERS) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            text = f"{path}: too large for this machine's memory{memory_asked(error)}"
            raise DataError(text, next_step=FEWER_WORKERS) from error
        scale = self._plan.manifest.settings.scale
        return [
            EncodedPair(
                slot,
                encode_png(np.ascontiguousarray(gt[box.slices])),
                encode_png(np.ascontiguousarray(lq[box.divided(scale).slices])),
            )
            for slot, box in zip(planned.slots, planned.boxes, strict=True)
            if self._missing is None or slot.key in self._missing
        ]

    def _degraded(self, gt: NDArray[np.uint8], planned: PlannedImage) -> NDArray[np.uint8]:
        """The degraded picture of the whole image, H / scale x W / scale x 3."""
        settings = self._plan.manifest.settings
        scale, rule = settings.scale, settings.resize
        cropped = gt[: gt.shape[0] // scale * scale, : gt.shape[1] // scale * scale]
        clean: NDArray[Any]
        if self._plan.chosen.shrinks is not None:
            clean = np.ascontiguousarray(cropped)
        elif planned.kernel is None:
            clean = downsample(cropped, scale, rule)
        else:
            kernel = self._plan.kernels[planned.kernel]
            sampling = settings.kernel_sampling
            clean = blur_and_downsample(cropped, kernel, scale, rule, sampling)
        if clean.dtype == np.uint8:
            tensor = to_tensor(clean)
        else:
            planes = np.ascontiguousarray(clean.transpose(2, 0, 1), dtype=np.float32)
            tensor = torch.from_numpy(planes)[None].clamp(0, 1)
        with self._turn:
            degraded = self._plan.chosen.degrader.degrade(tensor, [planned.draw])
        return to_pixels(degraded)


def automatic_workers() -> int:
    """As many threads as there are cores, as long as there is memory for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MOST_THREADS, available_memory(torch.device("cpu")) // WORKER_BYTES))


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let each worker use one core.

    That is faster than sharing them, and the order of sums does not depend on the number of workers.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

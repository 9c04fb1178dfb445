"""Scoring: every image of every method through every scorer, in batches on a few threads."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import reason_of
from deflow_cli.data.reference_matching import MatchedImage, MethodImages
from deflow_cli.errors import DataError, DeflowError, is_out_of_memory
from deflow_cli.metrics.base import Score, Scorer
from deflow_cli.runtime.progress import Reporter

BATCH_PIXELS = {"cpu": 1 << 20, "cuda": 1 << 22}  # of the images of one batch together
MOST_WORKERS = 8
CUDA_WORKERS = 4  # they read at the same time; one computes


@dataclass(frozen=True)
class ImageScore:
    """One value. NaN with the reason where it is not defined; infinite for the PSNR of equal images.

    readable: False where the image or its reference could not be read.
    """

    method: str
    image: str
    metric: str
    value: float
    reason: str = ""
    readable: bool = True


@dataclass(frozen=True)
class _Item:
    method: int
    image: MatchedImage


@dataclass(frozen=True)
class _Loaded:
    """Pixels of an item, or the reason why there are none; likewise of its reference."""

    item: _Item
    pixels: Pixels | None
    reason: str
    reference: Pixels | None
    reference_reason: str


def score_images(
    methods: Sequence[MethodImages], scorers: Sequence[Scorer], device: torch.device, reporter: Reporter
) -> list[ImageScore]:
    """A value or a reason per method, image and metric, in this order; whatever the batches and threads."""
    batches = list(_batches(methods, BATCH_PIXELS[device.type]))
    threads = torch.get_num_threads()
    workers = min(CUDA_WORKERS if device.type == "cuda" else min(threads, MOST_WORKERS), len(batches))
    found: dict[tuple[int, str], list[ImageScore]] = {}
    names = [method.name for method in methods]
    turn: AbstractContextManager[object] = threading.Lock() if device.type == "cuda" else nullcontext()

    def work(batch: Sequence[_Item]) -> dict[tuple[int, str], list[ImageScore]]:
        loaded = _load(batch)
        with turn:  # one at a time on a GPU, whose settings and memory are everybody's
            return _score_batch(loaded, scorers, names, device)

    reporter.start("scoring", sum(len(batch) for batch in batches))
    with _threads_per_worker(max(1, threads // max(1, workers))) as set_up:
        pool = ThreadPoolExecutor(max(1, workers), initializer=set_up)
        try:
            for done in as_completed([pool.submit(work, batch) for batch in batches]):
                found.update(done.result())
                reporter.update(len(found))
        finally:
            pool.shutdown(cancel_futures=True)
    reporter.finish()
    order = ((index, image.name) for index, method in enumerate(methods) for image in method.images)
    return [score for key in order for score in found[key]]


@contextmanager
def _threads_per_worker(count: int) -> Iterator[Callable[[], None]]:
    """What a worker calls first, so that workers together use as many threads as torch would alone."""
    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(count)
    finally:
        torch.set_num_threads(before)


def _batches(methods: Sequence[MethodImages], budget: int) -> Iterator[list[_Item]]:
    """Images of one size, at most ``budget`` pixels together, partners in different methods side by side.

    An image whose size is not known is alone.
    """
    items = [_Item(index, image) for index, method in enumerate(methods) for image in method.images]
    items.sort(key=lambda item: (item.image.size or (0, 0), item.image.name, item.method))
    for size, group in itertools.groupby(items, key=lambda item: item.image.size):
        alike = list(group)
        count = max(1, budget // math.prod(size)) if size else 1
        for first in range(0, len(alike), count):
            yield alike[first : first + count]


def _read(path: Path) -> tuple[Pixels | None, str]:
    try:
        return read_rgb8(path), ""
    except DataError as error:
        return None, reason_of(error, path)


def _load(batch: Sequence[_Item]) -> list[_Loaded]:
    """The pixels of a batch; a reference that methods share is read once."""
    references: dict[Path, tuple[Pixels | None, str]] = {}
    loaded = []
    for item in batch:
        pixels, reason = _read(item.image.path)
        reference, reference_reason = None, ""
        path = item.image.reference
        if path is not None:
            if path not in references:
                references[path] = _read(path)
            reference, reference_reason = references[path]
            if reference_reason:
                reference_reason = f"its reference {path}: {reference_reason}"
            elif pixels is not None and reference is not None and pixels.shape != reference.shape:
                # the header of one of the two did not tell
                sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (pixels, reference)]
                reference, reference_reason = None, f"{sizes[0]}, but its reference is {sizes[1]}"
        loaded.append(_Loaded(item, pixels, reason, reference, reference_reason))
    return loaded


def _score_batch(
    loaded: Sequence[_Loaded], scorers: Sequence[Scorer], names: Sequence[str], device: torch.device
) -> dict[tuple[int, str], list[ImageScore]]:
    """Scores of a batch by (method, image), in the order of the scorers."""
    found: dict[tuple[int, str], list[ImageScore]] = {
        (one.item.method, one.item.image.name): [] for one in loaded
    }
    with torch.inference_mode():
        for scorer in scorers:
            for one, score in zip(loaded, _score_loaded(loaded, scorer, device), strict=True):
                key = one.item.method, one.item.image.name
                paired = scorer.metric.needs_reference
                readable = not (one.reason or (paired and one.reference_reason))
                reason = score.reason or ("not defined" if math.isnan(score.value) else "")
                found[key].append(
                    ImageScore(names[key[0]], key[1], scorer.metric.name, score.value, reason, readable)
                )
    return found


def _score_loaded(loaded: Sequence[_Loaded], scorer: Scorer, device: torch.device) -> list[Score]:
    """One metric over a batch; images that cannot be read keep their reason."""
    paired = scorer.metric.needs_reference
    scores: list[Score | None] = [
        Score(math.nan, one.reason or one.reference_reason)
        if one.pixels is None or (paired and one.reference is None)
        else None
        for one in loaded
    ]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, one in enumerate(loaded):
        if scores[index] is None and one.pixels is not None:
            by_shape.setdefault(one.pixels.shape, []).append(index)
    for indices in by_shape.values():
        alike = [loaded[index] for index in indices]
        for index, score in zip(indices, _apply(scorer, alike, device), strict=True):
            scores[index] = score
    return [score for score in scores if score is not None]


def _stack(arrays: Sequence[Pixels | None], device: torch.device) -> Tensor:
    """H x W x 3 each to uint8 B x 3 x H x W."""
    stacked = np.stack([array.transpose(2, 0, 1) for array in arrays if array is not None])
    return torch.from_numpy(stacked).to(device)


def _apply(scorer: Scorer, alike: Sequence[_Loaded], device: torch.device) -> list[Score]:
    """Scores of images of one size; what fails together is tried alone, and what fails alone is a reason."""
    try:
        images = _stack([one.pixels for one in alike], device)
        paired = scorer.metric.needs_reference
        return scorer(images, _stack([one.reference for one in alike], device) if paired else None)
    except (DeflowError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        if len(alike) == 1:
            reason = str(error) if isinstance(error, DeflowError) else "too large for this device's memory"
            return [Score(math.nan, reason)]
    return [score for one in alike for score in _apply(scorer, [one], device)]

"""Unpaired patches of two domains: every batch is a function of (seed, step) alone."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.data.images.folders import reason_of
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.images.listing import name_some
from deflow_cli.errors import DataError
from deflow_cli.texts import encoded

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """images_bchw: uint8. labels_b: int64, 0 clean and 1 noisy, alternating. keys: file of each patch."""

    images_bchw: Tensor
    labels_b: Tensor
    keys: tuple[str, ...]


def split_held_out(
    paths: Sequence[Path], share: float, seed: int, copies: Mapping[Path, Path] | None = None
) -> tuple[list[Path], list[Path]]:
    """Split into (train, held out), both in the given order; about ``share`` of the images are held out.

    At least one is, when share > 0 and there are four or more; none of fewer. Each image is ranked by a
    hash of its name and the seed, so adding files moves few others, and the place of the folder nothing.
    copies: of some paths the one they are copies of; all copies of an image go to the same side.
    """
    paths, copies = [Path(path) for path in paths], copies or {}
    if share <= 0 or len(paths) < 4:
        return paths, []
    count = min(max(1, round(share * len(paths))), len(paths) - 1)
    root = os.path.commonpath([path.parent for path in paths])

    def rank(path: Path) -> str:
        return hashlib.sha256(encoded(f"{seed}/{path.relative_to(root).as_posix()}")).hexdigest()

    groups: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        groups[copies.get(path, path)].append(path)
    held: set[Path] = set()
    for first in sorted(groups, key=rank):
        if len(held) < count and len(held) + len(groups[first]) < len(paths):
            held.update(groups[first])
    return [p for p in paths if p not in held], [p for p in paths if p in held]


def cut_patch(
    image: NDArray[np.uint8], patch_size: int, align: int, flips: bool, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Draw a crop's corner (y, x), multiples of ``align``, and its flips (vertical, horizontal)."""
    height, width = image.shape[:2]
    y = int(rng.integers((height - patch_size) // align + 1)) * align
    x = int(rng.integers((width - patch_size) // align + 1)) * align
    turned = rng.integers(2, size=2) if flips else (0, 0)
    return (y, x), (int(turned[0]), int(turned[1]))


def take_patch(
    image: NDArray[np.uint8], patch_size: int, corner: tuple[int, int], turned: tuple[int, int]
) -> NDArray[np.uint8]:
    """The 3 x P x P patch at a corner, flipped."""
    y, x = corner
    patch = image[y : y + patch_size, x : x + patch_size]
    return patch[:: -1 if turned[0] else 1, :: -1 if turned[1] else 1].transpose(2, 0, 1)


class Drops:
    """Images left out while sampling, each recorded once with its reason."""

    def __init__(self) -> None:
        self.records: list[tuple[Path, str]] = []
        self._known: set[Path] = set()
        self._lock = threading.Lock()

    def __contains__(self, path: Path) -> bool:
        return path in self._known

    def add(self, path: Path, reason: str) -> None:
        with self._lock:
            if path not in self._known:
                self._known.add(path)
                self.records.append((path, reason))


def draw_image(
    cache: ImageCache, patch_size: int, rng: np.random.Generator, drops: Drops
) -> tuple[Path, NDArray[np.uint8]]:
    """Draw images until one decodes and holds a patch; the outcome depends on files and ``rng`` only.

    Raises DataError when every image of the cache was dropped.
    """
    while True:
        index = int(rng.integers(len(cache)))
        path = cache.paths[index]
        if path not in drops:
            try:
                image = cache.get(index)
                if min(image.shape[:2]) >= patch_size:
                    return path, image
                drops.add(
                    path, f"{image.shape[1]}x{image.shape[0]} is smaller than the {patch_size} px patch"
                )
            except DataError as error:
                drops.add(path, reason_of(error, path))
        if all(other in drops for other in cache.paths):
            names = name_some(f"{p.name}: {reason}" for p, reason in drops.records if p in cache.paths)
            raise DataError(f"{path.parent}: no image is left to train on ({names})")


class UnpairedSampler:
    """Random patches, half of them clean and half noisy, without state.

    Patch i of a batch is drawn by a generator seeded with (seed, step, i), so a run resumed at a step goes
    on exactly, and any thread may make any batch. ``dropped`` lists (path, reason) of images that turned
    out broken; another image was drawn in their place.
    """

    def __init__(
        self,
        clean: ImageCache,
        noisy: ImageCache,
        *,
        patch_size: int,
        align: int = 1,
        flips: bool = True,
        seed: int,
    ) -> None:
        assert len(clean)
        assert len(noisy)
        assert patch_size >= 1
        assert align >= 1
        self.caches = (clean, noisy)
        self.patch_size, self.align, self.flips, self.seed = patch_size, align, flips, seed
        self._drops = Drops()

    @property
    def dropped(self) -> list[tuple[Path, str]]:
        return self._drops.records

    def batch(self, step: int, batch_size: int, places: range | None = None) -> Batch:
        """Batch of a step: batch_size x 3 x P x P uint8, labels 0 1 0 1. Raises DataError if none is left.

        places: those of the batch that are made, as many of either domain; None: all of them.
        """
        assert batch_size % 2 == 0
        places = range(batch_size) if places is None else places
        assert len(places) % 2 == 0
        patches = torch.empty(len(places), 3, self.patch_size, self.patch_size, dtype=torch.uint8)
        keys = []
        for row, i in enumerate(places):
            rng = np.random.Generator(np.random.PCG64([self.seed, step, i]))
            path, image = draw_image(self.caches[i % 2], self.patch_size, rng, self._drops)
            corner, turned = cut_patch(image, self.patch_size, self.align, self.flips, rng)
            patches[row].numpy()[...] = take_patch(image, self.patch_size, corner, turned)
            keys.append(str(path))
        return Batch(patches, torch.tensor(places) % 2, tuple(keys))


def pinned(batch: Any) -> Any:
    """The same with its tensors in page-locked memory, from which a GPU copies while the host goes on."""
    if isinstance(batch, Tensor):
        return batch.pin_memory()
    if isinstance(batch, tuple):
        return tuple(pinned(part) for part in batch)
    if isinstance(batch, Batch):
        return Batch(pinned(batch.images_bchw), pinned(batch.labels_b), batch.keys)
    return batch


class Prefetcher(Generic[T]):
    """Iterator over the batches of steps start_step, start_step + 1 ..., made ahead by threads.

    The batches are those that ``make(step, batch_size)`` gives, in order. pin: the threads put their tensors
    into page-locked memory (CUDA only). Use as a context manager, or call ``close``.
    """

    def __init__(
        self,
        sampler: UnpairedSampler | Callable[[int, int], T],
        start_step: int,
        batch_size: int,
        depth: int = 4,
        workers: int = 2,
        *,
        pin: bool = False,
    ) -> None:
        assert depth >= 1
        assert workers >= 1
        self._make: Callable[[int, int], T] = getattr(sampler, "batch", sampler)  # type: ignore[arg-type]
        self._batch_size, self._pin = batch_size, pin
        self._next = start_step
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._ahead: deque[Future[T]] = deque()
        for _ in range(depth):
            self._submit()

    def _submit(self) -> None:
        self._ahead.append(self._pool.submit(self._made, self._next))
        self._next += 1

    def _made(self, step: int) -> T:
        batch = self._make(step, self._batch_size)
        return cast(T, pinned(batch)) if self._pin else batch

    def __iter__(self) -> Prefetcher[T]:
        return self

    def __next__(self) -> T:
        if not self._ahead:
            raise StopIteration
        batch = self._ahead.popleft().result()
        self._submit()
        return batch

    def close(self) -> None:
        """Forget the batches made ahead and end the threads."""
        self._ahead.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def eval_crops(cache: ImageCache, patch_size: int, count: int, seed: int) -> Tensor:
    """``count`` fixed crops, N x 3 x P x P uint8, spread evenly over the images that can give one.

    Raises DataError when none can.
    """
    drops = Drops()
    order = np.random.Generator(np.random.PCG64([seed, 0])).permutation(len(cache))
    crops: list[NDArray[np.uint8]] = []
    for turn in range(count):
        before = len(crops)
        for index in order:
            if len(crops) == count:
                break
            path = cache.paths[index]
            if path in drops:
                continue
            try:
                image = cache.get(int(index))
            except DataError as error:
                drops.add(path, reason_of(error, path))
                continue
            if min(image.shape[:2]) < patch_size:
                drops.add(path, f"smaller than {patch_size} px")
                continue
            rng = np.random.Generator(np.random.PCG64([seed, 1, int(index), turn]))
            corner, turned = cut_patch(image, patch_size, 1, False, rng)
            crops.append(take_patch(image, patch_size, corner, turned))
        if len(crops) in (before, count):
            break
    if not crops:
        raise DataError(f"none of {len(cache)} held-out images gives a {patch_size} px crop")
    return torch.from_numpy(np.stack(crops))
